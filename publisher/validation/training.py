"""Takes one training step of a loaded model."""

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TrainingStep:
    """The result of a training step, and the norm of each gradient.

    `norms` maps each trainable variable's name to the norm of its gradient, which may be NaN;
    `None` if the variable has no gradient. `inference` is the result of a plain call with the
    same weights.
    """

    result: Array
    inference: Array
    norms: dict[str, float | None]


def assign_shared_noise(variables: Sequence[tf.Variable]) -> None:
    """Assign seeded noise in [-1, 1) to float32 variables. All of them share one buffer."""
    largest = max(math.prod(variable.shape) for variable in variables)
    # mmap returns aligned memory, which TensorFlow uses without a copy.
    noise = np.frombuffer(mmap.mmap(-1, 4 * largest), np.float32)
    np.random.default_rng(0).random(out=noise, dtype=np.float32)
    noise *= 2
    noise -= 1
    for variable in variables:
        view = noise[: math.prod(variable.shape)].reshape(variable.shape)
        variable.assign(tf.experimental.dlpack.from_dlpack(view.__dlpack__()))


def take_training_step(model: Any, batch: npt.NDArray[np.float32]) -> TrainingStep:
    """Call the model with `training=True` and differentiate it by its trainable variables.

    All gradients of a network together are as large as its weights. A single graph frees each
    gradient as soon as it has computed the norm.
    """
    connected: list[bool] = []

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def step(images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            result = model(images, training=True)
            loss = tf.reduce_mean(tf.square(result))
        gradients = tape.gradient(loss, list(model.trainable_variables))
        connected[:] = [gradient is not None for gradient in gradients]
        half_squares = [tf.nn.l2_loss(g) for g in gradients if g is not None]
        return result, half_squares

    images = tf.constant(batch)
    result, half_squares = step(images)
    found = iter([float(np.sqrt(2.0 * value.numpy())) for value in half_squares])
    names = [variable.name.partition(":")[0] for variable in model.trainable_variables]
    norms = {
        name: next(found) if there else None for name, there in zip(names, connected, strict=True)
    }
    inference = model(images, training=False)
    return TrainingStep(np.asarray(result.numpy()), np.asarray(inference.numpy()), norms)

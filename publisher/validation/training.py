"""One training step of a loaded model."""

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
    """What a training step gave: the result for a batch, and the norm of each gradient.

    Norms are by the names of the trainable variables. One may be NaN, and is none where there is
    no gradient. `inference` is the result of a plain call with the same weights.
    """

    result: Array
    inference: Array
    norms: dict[str, float | None]


def share_noise(variables: Sequence[tf.Variable]) -> None:
    """Give float32 variables seeded noise in [-1, 1), all of them views of the same memory."""
    largest = max(math.prod(variable.shape) for variable in variables)
    # Of whole pages, because TensorFlow takes only aligned memory as it is.
    noise = np.frombuffer(mmap.mmap(-1, 4 * largest), np.float32)
    np.random.default_rng(0).random(out=noise, dtype=np.float32)
    noise *= 2
    noise -= 1
    for variable in variables:
        view = noise[: math.prod(variable.shape)].reshape(variable.shape)
        variable.assign(tf.experimental.dlpack.from_dlpack(view.__dlpack__()))


def take_training_step(model: Any, batch: npt.NDArray[np.float32]) -> TrainingStep:
    """Call the model with `training=True` and take the gradients of its trainable variables.

    In one graph, where a gradient is gone as soon as its norm is known: all gradients of a
    network together are as large as its weights.
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

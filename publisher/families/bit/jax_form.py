"""The BiT network in plain JAX, to cross-check the TensorFlow form.

It shares no code with `network` and `reference`, and takes only the order of the units from
`layout`. `export` shows what an export through `jax2tf` would produce. Needs the extra `jax`,
and TensorFlow only for `export`.

Sources: Kolesnikov et al., "Big Transfer (BiT)", arXiv:1912.11370, and the published code
google-research/big_transfer.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from publisher.families.bit.layout import HEAD_BIAS, HEAD_KERNEL, BitArchitecture, Unit

GROUPS = 32
GROUP_NORM_EPSILON = 1e-5
STANDARDIZATION_EPSILON = 1e-10

Arrays = Mapping[str, npt.NDArray[np.float32]]
Weights = Mapping[str, jax.Array]


def standardize(kernel: jax.Array) -> jax.Array:
    """Standardize a float32 (height, width, inputs, outputs) kernel per output channel.

    Source: Qiao et al., "Weight Standardization", arXiv:1903.10520.
    """
    centred = kernel - kernel.mean(axis=(0, 1, 2), keepdims=True)
    variance = jnp.square(centred).mean(axis=(0, 1, 2), keepdims=True)
    return centred * lax.rsqrt(variance + STANDARDIZATION_EPSILON)


def group_norm_relu(x: jax.Array, gamma: jax.Array, beta: jax.Array) -> jax.Array:
    """Apply group normalization and ReLU to float32 (batch, height, width, channels).

    Source: Wu and He, "Group Normalization", arXiv:1803.08494.
    """
    batch, height, width, channels = x.shape
    grouped = x.reshape(batch, height, width, GROUPS, channels // GROUPS)
    centred = grouped - grouped.mean(axis=(1, 2, 4), keepdims=True)
    variance = jnp.square(centred).mean(axis=(1, 2, 4), keepdims=True)
    normal = centred * lax.rsqrt(variance + GROUP_NORM_EPSILON)
    return jax.nn.relu(normal.reshape(x.shape) * gamma + beta)


def convolve(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0, *, folded: bool = False
) -> jax.Array:
    """Convolve float32 (batch, height, width, inputs) with the standardized kernel.

    Pads `padding` zeros on all four sides. A `folded` kernel is already standardized.
    """
    return lax.conv_general_dilated(
        x,
        kernel if folded else standardize(kernel),
        window_strides=(stride, stride),
        padding=[(padding, padding), (padding, padding)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        # The default precision is below float32 on some devices.
        precision=lax.Precision.HIGHEST,
    )


def max_pool(x: jax.Array) -> jax.Array:
    """Take 3x3 maxima at stride 2, after padding with zeros (not minus infinity)."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


def residual_unit(x: jax.Array, weights: Weights, unit: Unit, *, folded: bool) -> jax.Array:
    """Apply one unit, whose three convolutions each follow a normalization and a ReLU."""

    def norm(x: jax.Array, step: str) -> jax.Array:
        name = f"{unit.name}/{step}/group_norm"
        return group_norm_relu(x, weights[f"{name}/gamma"], weights[f"{name}/beta"])

    def convolved(x: jax.Array, step: str, stride: int = 1, padding: int = 0) -> jax.Array:
        kernel = weights[f"{unit.name}/{step}/standardized_conv2d/kernel"]
        return convolve(x, kernel, stride, padding, folded=folded)

    hidden = norm(x, "a")
    shortcut = convolved(hidden, "a/proj", unit.stride) if unit.projected else x
    hidden = convolved(hidden, "a")
    hidden = convolved(norm(hidden, "b"), "b", unit.stride, 1)
    return shortcut + convolved(norm(hidden, "c"), "c")


def forward(
    architecture: BitArchitecture,
    weights: Weights,
    images: jax.Array,
    input_range: tuple[float, float],
    *,
    folded: bool = False,
) -> jax.Array:
    """Return the logits, (batch, classes), or without a head the features, (batch, features).

    `images` is (batch, height, width, 3) in `input_range`. All arrays are float32.
    """
    low, high = input_range
    x = (images - low) * (2.0 / (high - low)) - 1.0
    root = weights["resnet/root_block/standardized_conv2d/kernel"]
    x = max_pool(convolve(x, root, 2, 3, folded=folded))
    for unit in architecture.residual_units():
        x = residual_unit(x, weights, unit, folded=folded)
    x = group_norm_relu(x, weights["resnet/group_norm/gamma"], weights["resnet/group_norm/beta"])
    pooled = x.mean(axis=(1, 2))
    if HEAD_KERNEL not in weights:
        return pooled
    kernel = weights[HEAD_KERNEL][0, 0]
    return jnp.matmul(pooled, kernel, precision=lax.Precision.HIGHEST) + weights[HEAD_BIAS]


def compiled(
    architecture: BitArchitecture,
    arrays: Arrays,
    input_range: tuple[float, float],
    *,
    folded: bool = False,
) -> Callable[[npt.NDArray[np.float32]], jax.Array]:
    """Return `forward` with `arrays` as its weights. JAX compiles it once for each image size."""
    weights = {name: jnp.asarray(array) for name, array in arrays.items()}

    def compute(weights: Weights, images: jax.Array) -> jax.Array:
        return forward(architecture, weights, images, input_range, folded=folded)

    jitted: Callable[..., jax.Array] = jax.jit(compute)
    return lambda images: jitted(weights, images)


def export(
    architecture: BitArchitecture,
    arrays: Arrays,
    input_range: tuple[float, float],
    output: str,
    directory: Path,
    *,
    folded: bool = False,
) -> None:
    """Convert `forward` with `jax2tf`, and write it with `arrays` to `directory` as a SavedModel.

    The signature `serving_default` takes `images`, float32 (batch, height, width, 3) of any
    size from the architecture's smallest up, and returns a dictionary with the key `output`.
    Source: https://github.com/jax-ml/jax/tree/main/jax/experimental/jax2tf.
    """
    import tensorflow as tf
    from jax.experimental import jax2tf

    def compute(weights: Weights, images: jax.Array) -> jax.Array:
        return forward(architecture, weights, images, input_range, folded=folded)

    converted: Any = jax2tf.convert(
        compute,
        polymorphic_shapes=[None, "(batch, height, width, 3)"],
        polymorphic_constraints=[
            f"{side} >= {architecture.smallest_image}" for side in ("height", "width")
        ],
        with_gradient=False,
    )
    variables = {name: tf.Variable(array, name=name) for name, array in arrays.items()}
    images = tf.TensorSpec((None, None, None, 3), tf.float32, "images")

    @tf.function(input_signature=[images], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output: converted(variables, images)}

    root = tf.train.Checkpoint()
    root.variables = list(variables.values())
    tf.saved_model.save(root, str(directory), signatures=serve)

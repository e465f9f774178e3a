"""The BiT network in plain TensorFlow, in a form that TensorFlow Hub can reuse.

No Keras. Each distinct residual unit is traced once, as a function that takes its
weights as arguments, so that the graph of a 152-layer network holds eight units and
not fifty: it is written, read and optimized in a fraction of the time.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from publisher.bit.layout import HEAD_BIAS, HEAD_KERNEL, BitArchitecture, Unit

GROUPS = 32
GROUP_NORM_EPSILON = 1e-5
STANDARDIZATION_EPSILON = 1e-10

# The operations that the functions of a published graph may hold: those the network
# needs, none of which reads a file, opens a connection or calls back into Python.
NETWORK_OPERATIONS = frozenset(
    {
        "AddV2",
        "BiasAdd",
        "Const",
        "Conv2D",
        "Identity",
        "MatMul",
        "MaxPool",
        "Mean",
        "Mul",
        "NoOp",
        "Pad",
        "PartitionedCall",
        "ReadVariableOp",
        "Relu",
        "Reshape",
        "Rsqrt",
        "Square",
        "SquaredDifference",
        "StatefulPartitionedCall",
        "Sub",
    }
)


def standardize(kernel: tf.Tensor) -> tf.Tensor:
    """Standardize a (height, width, inputs, outputs) kernel per output channel."""
    mean = tf.reduce_mean(kernel, axis=(0, 1, 2), keepdims=True)
    centred = kernel - mean
    variance = tf.reduce_mean(tf.square(centred), axis=(0, 1, 2), keepdims=True)
    return centred * tf.math.rsqrt(variance + STANDARDIZATION_EPSILON)


def group_norm_relu(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """Apply group normalization and ReLU to (batch, height, width, channels).

    The moments are taken per channel, in one pass over contiguous memory, and joined
    per group on tiny tensors (law of total variance). That is both faster and nearer
    to float64 than a reshape to five dimensions.
    """
    channels = x.shape[-1]
    mean = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axis=(1, 2), keepdims=True)
    grouped = (-1, GROUPS, channels // GROUPS)
    channel_mean = tf.reshape(mean, grouped)
    group_mean = tf.reduce_mean(channel_mean, axis=2, keepdims=True)
    between = tf.math.squared_difference(channel_mean, group_mean)
    group_variance = tf.reduce_mean(tf.reshape(variance, grouped) + between, axis=2, keepdims=True)
    scale = tf.math.rsqrt(group_variance + GROUP_NORM_EPSILON) * tf.reshape(gamma, grouped[1:])
    shift = tf.reshape(beta, grouped[1:]) - group_mean * scale
    per_channel = (-1, 1, 1, channels)
    return tf.nn.relu(x * tf.reshape(scale, per_channel) + tf.reshape(shift, per_channel))


def convolve(x: tf.Tensor, kernel: tf.Tensor, stride: int = 1, padding: int = 0) -> tf.Tensor:
    """Convolve with a standardized kernel and `padding` zeros on all four sides."""
    if padding:
        x = tf.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return tf.nn.conv2d(x, standardize(kernel), stride, "VALID")


def _unit_arguments(unit: Unit) -> list[str]:
    names = [
        "a/group_norm/gamma",
        "a/group_norm/beta",
        "a/standardized_conv2d/kernel",
        "b/group_norm/gamma",
        "b/group_norm/beta",
        "b/standardized_conv2d/kernel",
        "c/group_norm/gamma",
        "c/group_norm/beta",
        "c/standardized_conv2d/kernel",
    ]
    if unit.projected:
        names.append("a/proj/standardized_conv2d/kernel")
    return names


def _unit_function(unit: Unit, shapes: Mapping[str, tuple[int, ...]]) -> Callable[..., tf.Tensor]:
    """Trace one kind of unit: (x, *weights in the order of `_unit_arguments`) -> x."""

    def residual_unit(x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
        a_gamma, a_beta, a_kernel, b_gamma, b_beta, b_kernel, c_gamma, c_beta, c_kernel = weights[
            :9
        ]
        hidden = group_norm_relu(x, a_gamma, a_beta)
        shortcut = convolve(hidden, weights[9], unit.stride) if unit.projected else x
        hidden = convolve(hidden, a_kernel)
        hidden = group_norm_relu(hidden, b_gamma, b_beta)
        hidden = convolve(hidden, b_kernel, unit.stride, padding=1)
        hidden = group_norm_relu(hidden, c_gamma, c_beta)
        return shortcut + convolve(hidden, c_kernel)

    signature = [tf.TensorSpec((None, None, None, unit.inputs), tf.float32)]
    signature += [
        tf.TensorSpec(shapes[f"{unit.name}/{name}"], tf.float32) for name in _unit_arguments(unit)
    ]
    function: Callable[..., tf.Tensor] = tf.function(
        residual_unit, input_signature=signature, autograph=False
    )
    return function


def _forward(
    architecture: BitArchitecture,
    variables: Mapping[str, tf.Variable],
    input_range: tuple[float, float],
) -> Callable[[tf.Tensor], tf.Tensor]:
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    units = list(architecture.residual_units())
    kinds: dict[tuple[object, ...], Callable[..., tf.Tensor]] = {}
    for unit in units:
        kind = (unit.inputs, unit.middle, unit.outputs, unit.stride, unit.projected)
        if kind not in kinds:
            kinds[kind] = _unit_function(unit, shapes)
    low, high = input_range

    def forward(images: tf.Tensor) -> tf.Tensor:
        x = images
        if (low, high) != (-1.0, 1.0):
            x = (x - low) * (2.0 / (high - low)) - 1.0
        root = variables["resnet/root_block/standardized_conv2d/kernel"]
        x = convolve(x, root, stride=2, padding=3)
        x = tf.nn.max_pool2d(tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2, "VALID")
        for unit in units:
            kind = (unit.inputs, unit.middle, unit.outputs, unit.stride, unit.projected)
            arguments = [variables[f"{unit.name}/{name}"] for name in _unit_arguments(unit)]
            x = kinds[kind](x, *arguments)
        x = group_norm_relu(
            x, variables["resnet/group_norm/gamma"], variables["resnet/group_norm/beta"]
        )
        pooled = tf.reduce_mean(x, axis=(1, 2))
        if HEAD_KERNEL not in variables:
            return pooled
        kernel = variables[HEAD_KERNEL]
        flat = tf.reshape(kernel, kernel.shape[2:])
        return tf.nn.bias_add(tf.matmul(pooled, flat), variables[HEAD_BIAS])

    return forward


def _images() -> tf.TensorSpec:
    return tf.TensorSpec((None, None, None, 3), tf.float32, "images")


def build(
    architecture: BitArchitecture,
    arrays: Mapping[str, npt.NDArray[np.float32]],
    input_range: tuple[float, float],
) -> Any:
    """Return the reusable model object for `arrays` (a classifier if the head is in them).

    The object offers `__call__(images, training=False)`, `variables`,
    `trainable_variables` and `regularization_losses`
    (https://www.tensorflow.org/hub/reusable_saved_models). `images` is
    (batch, height, width, 3) float32 in `input_range`; the result is (batch, classes)
    logits or (batch, features) features, float32. `training` is accepted because
    callers pass it; the network behaves the same either way. The batch has at least one
    image: TensorFlow 2.21 with oneDNN gives the convolution of none a wrong shape, which
    ends in an error here.

    The root is a `tf.train.Checkpoint` because a saved `tf.Module` loses its
    `trainable_variables`: they are read-only properties there.
    """
    variables = {name: tf.Variable(array, name=name) for name, array in arrays.items()}
    images = _images()
    forward = tf.function(
        _forward(architecture, variables, input_range),
        input_signature=[images],
        autograph=False,
    )

    def call(images: tf.Tensor, training: bool = False) -> tf.Tensor:
        del training  # the network has no layer that behaves differently
        return forward(images)

    traced = tf.function(call, autograph=False)
    for training in (False, True):
        traced.get_concrete_function(images, training=training)

    model = tf.train.Checkpoint()
    model.__call__ = traced
    model.variables = list(variables.values())
    model.trainable_variables = list(variables.values())
    model.regularization_losses = []
    return model


def serving_function(model: Any, output: str) -> Any:
    """Return the inference signature of `model`: named input `images`, named `output`."""

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output: model.__call__(images)}

    return tf.function(serve, input_signature=[_images()], autograph=False)

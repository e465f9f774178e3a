"""The BiT network in plain TensorFlow, as a reusable model for TensorFlow Hub.

It uses neither Keras nor custom gradients. Stem, units and head are functions that take their
weights as arguments. Units of the same kind share a function, so the graph of a 152-layer network
holds each kind of unit once and takes a fraction of the time to write and load. TensorFlow
inlines all functions when it runs, freezes or converts the graph.

`__call__` and its endpoints share these functions, and the signature calls `__call__`. `__call__`
calls them directly: a function in between would be traced a second time for gradients.

In a model for prediction only (`folded`), the kernels are standardized before they are saved, and
no variable is trainable.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from publisher.families.bit.layers import centre, convolve, group_norm_relu, max_pool
from publisher.families.bit.layout import (
    HEAD_BIAS,
    HEAD_KERNEL,
    STANDARDIZED_KERNEL,
    BitArchitecture,
    Unit,
)

# The operations that a published graph may contain. None of them reads a file, opens a connection
# or calls back into Python.
FOLDED_NETWORK_OPERATIONS = frozenset(
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
        "Neg",
        "NoOp",
        "Pad",
        "PartitionedCall",
        "ReadVariableOp",
        "Relu",
        "Reshape",
        "Rsqrt",
        "SquaredDifference",
        "StatefulPartitionedCall",
        "Sub",
    }
)
# Standardizing kernels takes one more.
NETWORK_OPERATIONS = FOLDED_NETWORK_OPERATIONS | {"Square"}

# The most operations per convolution after conversion. The convolution itself and its share of
# the normalizations count.
OPERATIONS_OF_A_CONVOLUTION = {"TensorFlow Lite": 20, "ONNX": 28}

DEFAULT = "default"
PRE_POOLING = "pre_pooling"

Endpoints = dict[str, tf.Tensor]


def _not_before(x: tf.Tensor, kernels: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return the kernels with a control dependency on `x`.

    Without it, a call would standardize all kernels of the network at its start and take as much
    memory again as the weights. Control dependencies do not prevent constant folding, so a frozen
    graph standardizes nothing at run time.
    """
    with tf.control_dependencies([tf.identity(x)]):
        return {name: tf.identity(kernel) for name, kernel in kernels.items()}


def _residual_unit(
    unit: Unit, x: tf.Tensor, weights: Mapping[str, tf.Tensor], *, folded: bool
) -> tf.Tensor:
    """Apply one unit, whose three convolutions each follow a normalization and a ReLU.

    `weights` maps the arrays' names, without the unit's name and the slash after it.
    """
    kernels = {name: weights[name] for name in weights if name.endswith(STANDARDIZED_KERNEL)}
    if not folded:
        kernels = _not_before(x, kernels)

    def norm(x: tf.Tensor, step: str) -> tf.Tensor:
        return group_norm_relu(
            x, weights[f"{step}/group_norm/gamma"], weights[f"{step}/group_norm/beta"]
        )

    def convolved(x: tf.Tensor, step: str, stride: int = 1) -> tf.Tensor:
        return _convolve(x, kernels[step + STANDARDIZED_KERNEL], stride, folded=folded)

    hidden = norm(x, "a")
    shortcut = convolved(hidden, "a/proj", unit.stride) if unit.projected else x
    hidden = convolved(hidden, "a")
    hidden = convolved(norm(hidden, "b"), "b", unit.stride)
    return shortcut + convolved(norm(hidden, "c"), "c")


def _convolve(x: tf.Tensor, kernel: tf.Tensor, stride: int, *, folded: bool) -> tf.Tensor:
    """Convolve with the standardized kernel.

    Scales the result instead of the kernel, which takes less time, and less memory for the
    gradient. Where kernels are constants, graph optimizers move the scale into them.
    """
    if folded:
        return convolve(x, kernel, stride)
    centred, scale = centre(kernel)
    return convolve(x, centred, stride) * scale


def head(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, *dense: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the output and the map before pooling; `dense` is a kernel and a bias, or empty."""
    before = group_norm_relu(x, gamma, beta)
    output = tf.reduce_mean(before, axis=(1, 2))
    if dense:
        kernel, bias = dense
        flat = tf.reshape(kernel, kernel.shape[2:])
        output = tf.nn.bias_add(tf.matmul(output, flat), bias)
    return output, before


def _function(
    compute: Callable[..., Any], channels: int, weights: Iterable[tf.Variable]
) -> Callable[..., Any]:
    """Return `compute` as a function (images, *weights) of `channels` and the weights' shapes."""
    images = tf.TensorSpec((None, None, None, channels), tf.float32)
    specs = [tf.TensorSpec(weight.shape, tf.float32) for weight in weights]
    function: Callable[..., Any] = tf.function(
        compute, input_signature=[images, *specs], autograph=False
    )
    return function


def _forward(
    architecture: BitArchitecture,
    variables: Mapping[str, tf.Variable],
    input_range: tuple[float, float],
    *,
    folded: bool,
) -> Callable[[tf.Tensor], Endpoints]:
    """Return the forward pass, which maps images to the output and all endpoints.

    It only reads variables and calls functions of an image and weights: one for the stem, one
    for each kind of unit, and one for the head.
    """
    low, high = input_range
    root = variables[f"resnet/root_block{STANDARDIZED_KERNEL}"]
    head_weights = [variables[f"resnet/group_norm/{name}"] for name in ("gamma", "beta")]
    head_weights += [variables[name] for name in (HEAD_KERNEL, HEAD_BIAS) if name in variables]

    def stem(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if (low, high) != (-1.0, 1.0):
            images = (images - low) * (2.0 / (high - low)) - 1.0
        return max_pool(_convolve(images, kernel, 2, folded=folded))

    stem_function = _function(stem, 3, [root])
    head_function = _function(head, architecture.features, head_weights)
    unit_functions: dict[tuple[object, ...], Callable[..., tf.Tensor]] = {}

    def unit_function(unit: Unit, weights: Mapping[str, tf.Variable]) -> Callable[..., tf.Tensor]:
        names = list(weights)

        def residual_unit(x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
            return _residual_unit(unit, x, dict(zip(names, weights, strict=True)), folded=folded)

        return _function(residual_unit, unit.inputs, weights.values())

    def forward(images: tf.Tensor) -> Endpoints:
        x = stem_function(images, root)
        endpoints: Endpoints = {}
        for unit in architecture.residual_units():
            prefix = f"{unit.name}/"
            weights = {
                name.removeprefix(prefix): variable
                for name, variable in variables.items()
                if name.startswith(prefix)
            }
            if unit.kind not in unit_functions:
                unit_functions[unit.kind] = unit_function(unit, weights)
            x = unit_functions[unit.kind](x, *weights.values())
            endpoints[unit.block] = x  # the block's last unit overwrites those before it
        output, endpoints[PRE_POOLING] = head_function(x, *head_weights)
        return {DEFAULT: output, **endpoints}

    return forward


def build(
    architecture: BitArchitecture,
    arrays: Mapping[str, npt.NDArray[np.float32]],
    input_range: tuple[float, float],
    output: str,
    *,
    folded: bool = False,
) -> tuple[Any, Any]:
    """Return the reusable model for `arrays`, and its inference signature.

    The model is a classifier if `arrays` has the head. It offers
    `__call__(images, training=False, return_endpoints=False)`, `variables`,
    `trainable_variables` and `regularization_losses`
    (https://www.tensorflow.org/hub/reusable_saved_models). `images` is (batch, height, width,
    3) float32 in `input_range`; the result is (batch, classes) logits or (batch, features)
    features, float32. A batch must not be empty, because TensorFlow's convolutions fail on an
    empty one. Callers pass `training`, so the model accepts it; it has no effect.

    With `return_endpoints`, the result is a dictionary: `default` is the result above, `block1`
    to `block4` are the results of the blocks, and `pre_pooling` is `block4` after the last
    normalization and ReLU. All but `default` are (batch, height, width, channels) float32, with
    height and width 4, 8, 16, 32 and 32 times smaller than those of the images.

    The signature takes `images` by name and returns a dictionary with the key `output`.

    With `folded`, `arrays` must hold standardized kernels (see `folding`). The graph does not
    standardize them again, and no variable is trainable.

    The root is a `tf.train.Checkpoint`, because a saved `tf.Module` loses its read-only property
    `trainable_variables`.
    """
    variables = {
        name: tf.Variable(arrays[name], trainable=not folded, name=name) for name in arrays
    }
    images = tf.TensorSpec((None, None, None, 3), tf.float32, "images")
    forward = _forward(architecture, variables, input_range, folded=folded)

    def call(
        images: tf.Tensor, training: bool | tf.Tensor = False, return_endpoints: bool = False
    ) -> tf.Tensor | Endpoints:
        endpoints = forward(images)
        return endpoints if return_endpoints else endpoints[DEFAULT]

    def serve(images: tf.Tensor) -> Endpoints:
        return {output: predict(images, tf.constant(False))}

    # As a tensor, `training` needs one trace for both values.
    traced = tf.function(call, autograph=False)
    training = tf.TensorSpec((), tf.bool, "training")
    predict = traced.get_concrete_function(images, training, False)
    traced.get_concrete_function(images, training, True)

    model = tf.train.Checkpoint()
    model.__call__ = traced
    model.variables = list(variables.values())
    model.trainable_variables = [] if folded else list(variables.values())
    model.regularization_losses = []
    return model, tf.function(serve, input_signature=[images], autograph=False)

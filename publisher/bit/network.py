"""The BiT network in plain TensorFlow, in a form that TensorFlow Hub can reuse.

No Keras, and no gradient of its own. Units that are alike are traced once, as a function that
takes its weights as arguments: the graph of a 152-layer network holds each kind of unit once,
and is written and read in a fraction of the time. All functions are inlined when the graph is
run, frozen or converted.

`__call__` and its endpoints share the functions of the units, and the signature calls
`__call__`. The call itself is flat: to differentiate one function more costs a second.

A model for prediction only can have its kernels standardized once, before they are saved
(`folded`). Nothing in it is trainable then.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from publisher.bit.layers import centre, convolve, group_norm_relu, max_pool
from publisher.bit.layout import (
    HEAD_BIAS,
    HEAD_KERNEL,
    STANDARDIZED_KERNEL,
    BitArchitecture,
    Unit,
)

# The operations that a published graph may hold. Nothing here reads a file, opens a
# connection or calls back into Python.
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
# The others standardize kernels.
NETWORK_OPERATIONS = FOLDED_NETWORK_OPERATIONS | {"Square"}

DEFAULT = "default"
PRE_POOLING = "pre_pooling"

Endpoints = dict[str, tf.Tensor]


def _not_before(x: tf.Tensor, kernels: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return the same kernels, available only once `x` is.

    Otherwise all kernels of a network would be standardized as soon as it is called, and a call
    would take the memory of the weights once more. Control dependencies do not keep constants
    from being folded: a frozen graph standardizes nothing when it runs.
    """
    with tf.control_dependencies([tf.identity(x)]):
        return {name: tf.identity(kernel) for name, kernel in kernels.items()}


def _residual_unit(
    unit: Unit, x: tf.Tensor, weights: Mapping[str, tf.Tensor], *, folded: bool
) -> tf.Tensor:
    """Compute a unit: normalization and ReLU come before each of its three convolutions.

    `weights` are by the names of the arrays after that of the unit.
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

    Its scale is applied to the result, which costs less than to scale the kernel, in time and
    in what a gradient keeps. Where kernels are constants, optimizers multiply them by it.
    """
    if folded:
        return convolve(x, kernel, stride)
    centred, scale = centre(kernel)
    return convolve(x, centred, stride) * scale


def _unit_function(
    unit: Unit, shapes: Mapping[str, tf.TensorShape], *, folded: bool
) -> Callable[..., tf.Tensor]:
    """Return a function (x, *weights in the order of `shapes`) -> x for one kind of unit."""

    def residual_unit(x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
        return _residual_unit(unit, x, dict(zip(shapes, weights, strict=True)), folded=folded)

    images = tf.TensorSpec((None, None, None, unit.inputs), tf.float32)
    weights = [tf.TensorSpec(shape, tf.float32) for shape in shapes.values()]
    function: Callable[..., tf.Tensor] = tf.function(
        residual_unit, input_signature=[images, *weights], autograph=False
    )
    return function


def _forward(
    architecture: BitArchitecture,
    variables: Mapping[str, tf.Variable],
    input_range: tuple[float, float],
    *,
    folded: bool,
) -> Callable[[tf.Tensor], Endpoints]:
    """Return the forward pass: images to the output and all endpoints."""
    functions: dict[tuple[object, ...], Callable[..., tf.Tensor]] = {}
    low, high = input_range

    def forward(images: tf.Tensor) -> Endpoints:
        x = images
        if (low, high) != (-1.0, 1.0):
            x = (x - low) * (2.0 / (high - low)) - 1.0
        root = tf.convert_to_tensor(variables[f"resnet/root_block{STANDARDIZED_KERNEL}"])
        x = max_pool(_convolve(x, root, 2, folded=folded))
        endpoints: Endpoints = {}
        for unit in architecture.residual_units():
            prefix = f"{unit.name}/"
            weights = {
                name.removeprefix(prefix): variable
                for name, variable in variables.items()
                if name.startswith(prefix)
            }
            if unit.kind not in functions:
                shapes = {name: weight.shape for name, weight in weights.items()}
                functions[unit.kind] = _unit_function(unit, shapes, folded=folded)
            x = functions[unit.kind](x, *weights.values())
            endpoints[unit.block] = x  # the last unit of a block is its output
        x = group_norm_relu(
            x, variables["resnet/group_norm/gamma"], variables["resnet/group_norm/beta"]
        )
        endpoints[PRE_POOLING] = x
        output = tf.reduce_mean(x, axis=(1, 2))
        if HEAD_KERNEL in variables:
            kernel = variables[HEAD_KERNEL]
            flat = tf.reshape(kernel, kernel.shape[2:])
            output = tf.nn.bias_add(tf.matmul(output, flat), variables[HEAD_BIAS])
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
    """Return the reusable model object for `arrays`, and its inference signature.

    The model is a classifier if the head is in `arrays`. It offers
    `__call__(images, training=False, return_endpoints=False)`, `variables`,
    `trainable_variables` and `regularization_losses`
    (https://www.tensorflow.org/hub/reusable_saved_models). `images` is (batch, height, width,
    3) float32 in `input_range`; the result is (batch, classes) logits or (batch, features)
    features, float32. A batch has at least one image: TensorFlow's convolutions mind an empty
    one. `training` is accepted because callers pass it; the network behaves the same either
    way.

    With `return_endpoints`, the result is a dictionary: `default` is the result above, `block1`
    to `block4` are what the blocks return, and `pre_pooling` is `block4` after the last
    normalization and ReLU. All but `default` are (batch, height, width, channels) float32, with
    height and width 4, 8, 16, 32 and 32 times smaller than those of the images.

    The signature takes `images` by name and returns a dictionary of `output`.

    With `folded`, the kernels in `arrays` are standardized ones (see `folding`), and the
    graph does not standardize. `variables` lists all, and none is trainable.

    The root is a `tf.train.Checkpoint` because a saved `tf.Module` loses its
    `trainable_variables`: they are read-only properties there.
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

    # Of `training`, only that it is a boolean is part of the trace: one graph serves both.
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

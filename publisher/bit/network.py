"""The BiT network in plain TensorFlow, in a form that TensorFlow Hub can reuse.

No Keras. Units that are alike are traced once, as a function that takes its weights as
arguments, so that the graph of a 152-layer network does not hold fifty of them: it is
written, read and optimized in a fraction of the time.

There are two forms of each unit. The one behind `__call__` stays a function of its own
when the graph runs: it is optimized once, its standardized kernels live only while it runs,
and it brings its own gradient. It takes any number of channels, so that three functions
(one that projects, one that does so with a stride, one that does neither) serve all units.
The one behind the signature is made to be inlined, because converters (TensorFlow Lite and
others) read signatures and cannot keep functions; it has the shapes of its kind, because
converters want them.

A model for prediction only can have its kernels standardized once, before they are saved
(`folded`). Nothing in it is trainable then, and no unit needs a gradient of its own:
TensorFlow's gradients with respect to images still work. Where a unit has many channels, its
convolutions are matrix products then, behind `__call__`: they are faster for one image at a time,
and a fourth function.
The form that can be trained keeps its convolutions, because a first call and a first gradient
step would take longer by more than a call gains.
"""

from collections.abc import Callable, Mapping
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from publisher.bit.layers import MOST_PARTS, Layers, max_pool
from publisher.bit.layout import HEAD_BIAS, HEAD_KERNEL, BitArchitecture, Unit

# The operations that a published graph may hold. Nothing here reads a file, opens a
# connection or calls back into Python.
_COMMON_OPERATIONS = frozenset(
    {
        "AddV2",
        "BiasAdd",
        "ConcatV2",
        "Const",
        "Conv2D",
        "FloorDiv",
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
        "Shape",
        "SquaredDifference",
        "StatefulPartitionedCall",
        "Sub",
    }
)
# Where standardization is folded, the others belong to convolutions by matrix products.
FOLDED_NETWORK_OPERATIONS = _COMMON_OPERATIONS | {"AddN", "Pack", "StridedSlice", "Transpose"}
# Elsewhere they standardize kernels, or belong to gradients.
NETWORK_OPERATIONS = _COMMON_OPERATIONS | {
    "BroadcastTo",
    "Cast",
    "Conv2DBackpropFilter",
    "Conv2DBackpropInput",
    "EuclideanNorm",
    "IdentityN",
    "Maximum",
    "Neg",
    "RealDiv",
    "ReluGrad",
    "Square",
    "StridedSlice",
    "Sum",
}

Forward = Callable[[tf.Tensor], tf.Tensor]


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


def _plain_unit(
    layers: Layers, unit: Unit, x: tf.Tensor, *weights: tf.Tensor, inlined: bool
) -> tf.Tensor:
    """Compute a unit: (x, *weights in the order of `_unit_arguments`) -> x."""
    a_gamma, a_beta, a_kernel, b_gamma, b_beta, b_kernel, c_gamma, c_beta, c_kernel = weights[:9]
    how: dict[str, Any] = {"after": x} if inlined else {"products": unit.by_products}
    hidden = layers.group_norm_relu(x, a_gamma, a_beta)
    shortcut = layers.convolve(hidden, weights[9], unit.stride, **how) if unit.projected else x
    hidden, factor = layers.convolve_unscaled(hidden, a_kernel, **how)
    hidden = layers.group_norm_relu(hidden, b_gamma, b_beta, factor)
    hidden, factor = layers.convolve_unscaled(hidden, b_kernel, unit.stride, padding=1, **how)
    hidden = layers.group_norm_relu(hidden, c_gamma, c_beta, factor)
    return shortcut + layers.convolve(hidden, c_kernel, **how)


def _unit_with_gradient(layers: Layers, unit: Unit, x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
    """Compute what `_plain_unit` does, with a gradient of its own."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def compute(
        x: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
        a_gamma, a_beta, a_kernel, b_gamma, b_beta, b_kernel, c_gamma, c_beta, c_kernel = weights[
            :9
        ]
        norm, gradient = layers.group_norm_relu_with_gradient, layers.convolve_gradient
        for_a, norm_a = norm(x, a_gamma, a_beta)
        hidden, factor = layers.convolve_unscaled(for_a, a_kernel)
        for_b, norm_b = norm(hidden, b_gamma, b_beta, factor)
        hidden, factor = layers.convolve_unscaled(for_b, b_kernel, unit.stride, padding=1)
        for_c, norm_c = norm(hidden, c_gamma, c_beta, factor)
        shortcut = layers.convolve(for_a, weights[9], unit.stride) if unit.projected else x

        def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            of_hidden, of_c_kernel = gradient(upstream, for_c, c_kernel)
            of_hidden, *of_c_norm = norm_c(of_hidden)
            of_hidden, of_b_kernel = gradient(of_hidden, for_b, b_kernel, unit.stride, 1)
            of_hidden, *of_b_norm = norm_b(of_hidden)
            of_hidden, of_a_kernel = gradient(of_hidden, for_a, a_kernel)
            of_projection = []
            if unit.projected:
                of_shortcut, of_kernel = gradient(upstream, for_a, weights[9], unit.stride)
                of_hidden += of_shortcut
                of_projection = [of_kernel]
            of_x, *of_a_norm = norm_a(of_hidden)
            if not unit.projected:
                of_x += upstream
            of_a = (*of_a_norm, of_a_kernel)
            of_b = (*of_b_norm, of_b_kernel)
            return of_x, *of_a, *of_b, *of_c_norm, of_c_kernel, *of_projection

        return shortcut + layers.convolve(for_c, c_kernel), backward

    return compute(x, *weights)


def _unit_function(
    layers: Layers, unit: Unit, shapes: Mapping[str, tuple[int, ...]], *, inlined: bool
) -> Callable[..., tf.Tensor]:
    """Return a function that is traced once for one kind of unit.

    One that is inlined is made for the shapes of its kind; one that is not takes any, so that
    all kinds with the same operations share it.
    """

    def residual_unit(x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
        if inlined or layers.folded:
            return _plain_unit(layers, unit, x, *weights, inlined=inlined)
        return _unit_with_gradient(layers, unit, x, *weights)

    def spec(*shape: int | None) -> tf.TensorSpec:
        return tf.TensorSpec(shape if inlined else (None,) * len(shape), tf.float32)

    weights = [spec(*shapes[f"{unit.name}/{name}"]) for name in _unit_arguments(unit)]
    function: Callable[..., tf.Tensor] = tf.function(
        residual_unit,
        input_signature=[spec(None, None, None, unit.inputs), *weights],
        autograph=False,
        experimental_attributes=None if inlined else {"_noinline": True},
    )
    return function


def _forward(
    layers: Layers,
    architecture: BitArchitecture,
    variables: Mapping[str, tf.Variable],
    input_range: tuple[float, float],
    *,
    inlined: bool,
) -> Forward:
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    units = list(architecture.residual_units())
    functions: dict[tuple[object, ...], Callable[..., tf.Tensor]] = {}

    def kind_of(unit: Unit) -> tuple[object, ...]:
        if inlined:
            return unit.kind
        return (*unit.form, layers.folded and unit.by_products)

    for unit in units:
        if (kind := kind_of(unit)) not in functions:
            functions[kind] = _unit_function(layers, unit, shapes, inlined=inlined)
    low, high = input_range

    def forward(images: tf.Tensor) -> tf.Tensor:
        x = images
        if (low, high) != (-1.0, 1.0):
            x = (x - low) * (2.0 / (high - low)) - 1.0
        root = variables["resnet/root_block/standardized_conv2d/kernel"]
        after = x if inlined else None
        x = max_pool(layers.convolve(x, root, stride=2, padding=3, after=after))
        for unit in units:
            arguments = [variables[f"{unit.name}/{name}"] for name in _unit_arguments(unit)]
            x = functions[kind_of(unit)](x, *arguments)
            x.set_shape((None, None, None, unit.outputs))
        x = layers.group_norm_relu(
            x, variables["resnet/group_norm/gamma"], variables["resnet/group_norm/beta"]
        )
        # In two steps, as in `image_mean`.
        pooled = tf.reduce_mean(tf.reduce_mean(x, axis=2), axis=1)
        if not inlined:  # whoever loads it learns the number of features from here alone
            pooled = tf.reshape(pooled, (-1, architecture.features))
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
    output: str,
    *,
    folded: bool = False,
) -> tuple[Any, Any]:
    """Return the reusable model object for `arrays`, and its inference signature.

    The model is a classifier if the head is in `arrays`. It offers
    `__call__(images, training=False)`, `variables`, `trainable_variables` and
    `regularization_losses` (https://www.tensorflow.org/hub/reusable_saved_models).
    `images` is (batch, height, width, 3) float32 in `input_range`; the result is (batch,
    classes) logits or (batch, features) features, float32. A batch has at least one image:
    TensorFlow's convolutions mind an empty one. `training` is accepted because callers
    pass it; the network behaves the same either way.

    The signature takes `images` by name and returns a dictionary of `output`.

    With `folded`, the kernels in `arrays` are standardized ones (see `folding`), and the
    graph does not standardize. `variables` lists all, and none is trainable.

    The root is a `tf.train.Checkpoint` because a saved `tf.Module` loses its
    `trainable_variables`: they are read-only properties there.
    """
    variables = {
        name: tf.Variable(arrays[name], trainable=not folded, name=name) for name in arrays
    }
    # Every kernel of a unit has a multiple of the stem's channels for inputs.
    layers = Layers(folded=folded, parts=gcd(MOST_PARTS, architecture.stem_channels))
    forward = _forward(layers, architecture, variables, input_range, inlined=False)
    serving_forward = _forward(layers, architecture, variables, input_range, inlined=True)

    def call(images: tf.Tensor, training: bool | tf.Tensor = False) -> tf.Tensor:
        return forward(images)

    # Of `training`, only that it is a boolean is part of the trace: one graph serves both.
    traced = tf.function(call, autograph=False)
    traced.get_concrete_function(_images(), tf.TensorSpec((), tf.bool, "training"))

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output: serving_forward(images)}

    model = tf.train.Checkpoint()
    model.__call__ = traced
    model.variables = list(variables.values())
    model.trainable_variables = [] if folded else list(variables.values())
    model.regularization_losses = []
    return model, tf.function(serve, input_signature=[_images()], autograph=False)

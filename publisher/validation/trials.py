"""Tries a part of a graph in the ways that people use networks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as lite

from publisher.validation.graph import Subgraph

Array = npt.NDArray[np.float32]


def differentiated(part: Subgraph, order: int, *, jit_compile: bool = False) -> list[list[Array]]:
    """Return what a part gives for seeded noise, and its derivatives up to an order of 2.

    First the results. Then the gradients of their mean squares, one for each argument; then those
    of the sum of the squares of these. An argument without one has none in the list.
    """

    def compute(*arguments: tf.Tensor) -> list[list[tf.Tensor]]:
        found = [part.compute(arguments)]
        if order >= 1:
            loss = tf.add_n([tf.reduce_mean(tf.square(result)) for result in found[0]])
            found.append(_gradients(loss, arguments))
        if order >= 2:
            loss = tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in found[1]])
            found.append(_gradients(loss, arguments))
        return found

    arguments = [tf.constant(values) for values in part.noise()]
    function = tf.function(compute, autograph=False, jit_compile=jit_compile)
    answer = function.get_concrete_function(*arguments)(*arguments)
    return [[np.asarray(tensor.numpy()) for tensor in tensors] for tensors in answer]


def _gradients(loss: tf.Tensor, arguments: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    found = tf.gradients(loss, list(arguments))
    return [gradient for gradient in found if gradient is not None]


def lite_operations(part: Subgraph) -> int:
    """Convert a part with constant weights to TensorFlow Lite, and count its operations."""
    function = _with_constants(part)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], function)
    operations: int = lite.Model.GetRootAs(converter.convert(), 0).Subgraphs(0).OperatorsLength()
    return operations


def onnx_operations(part: Subgraph) -> int:
    """Convert a part with constant weights to ONNX, and count its operations."""
    import tf2onnx  # not before a model's weights are gone: it takes memory, too

    function = _with_constants(part)
    model, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(),
        input_names=[tensor.name for tensor in function.inputs],
        output_names=[tensor.name for tensor in function.outputs],
    )
    return len(model.graph.node)


def _with_constants(part: Subgraph) -> tf.types.experimental.ConcreteFunction:
    (_, shape), *_ = part.arguments
    weights = part.noise()[1:]

    def compute(images: tf.Tensor) -> tf.Tensor:
        return part.compute([images, *map(tf.constant, weights)])[0]

    function = tf.function(compute, autograph=False)
    return function.get_concrete_function(tf.TensorSpec(shape, tf.float32))

"""Differentiates a subgraph, and converts it for other runtimes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as lite

from publisher.validation.graph import Subgraph

Array = npt.NDArray[np.float32]


def derivatives(subgraph: Subgraph, order: int, *, jit_compile: bool = False) -> list[list[Array]]:
    """Return the results of a subgraph for seeded noise, and its derivatives up to `order` (<= 2).

    The list holds the results, then the gradients of their mean squares by each argument, then
    the gradients of the sum of squares of those gradients. It omits an argument that has no
    gradient.
    """

    def compute(*arguments: tf.Tensor) -> list[list[tf.Tensor]]:
        found = [subgraph.compute(arguments)]
        if order >= 1:
            loss = tf.add_n([tf.reduce_mean(tf.square(result)) for result in found[0]])
            found.append(_gradients(loss, arguments))
        if order >= 2:
            loss = tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in found[1]])
            found.append(_gradients(loss, arguments))
        return found

    arguments = [tf.constant(values) for values in subgraph.noise()]
    function = tf.function(compute, autograph=False, jit_compile=jit_compile)
    answer = function.get_concrete_function(*arguments)(*arguments)
    return [[np.asarray(tensor.numpy()) for tensor in tensors] for tensors in answer]


def _gradients(loss: tf.Tensor, arguments: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    found = tf.gradients(loss, list(arguments))
    return [gradient for gradient in found if gradient is not None]


def count_tflite_operations(subgraph: Subgraph) -> int:
    """Convert a subgraph with constant weights to TensorFlow Lite; return its operation count."""
    function = _with_constants(subgraph)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], function)
    operations: int = lite.Model.GetRootAs(converter.convert(), 0).Subgraphs(0).OperatorsLength()
    return operations


def count_onnx_operations(subgraph: Subgraph) -> int:
    """Convert a subgraph with constant weights to ONNX; return its operation count."""
    import tf2onnx  # deferred until the model's weights are released, because it takes memory too

    function = _with_constants(subgraph)
    model, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(),
        input_names=[tensor.name for tensor in function.inputs],
        output_names=[tensor.name for tensor in function.outputs],
    )
    return len(model.graph.node)


def _with_constants(subgraph: Subgraph) -> tf.types.experimental.ConcreteFunction:
    (_, shape), *_ = subgraph.arguments
    weights = subgraph.noise()[1:]

    def compute(images: tf.Tensor) -> tf.Tensor:
        return subgraph.compute([images, *map(tf.constant, weights)])[0]

    function = tf.function(compute, autograph=False)
    return function.get_concrete_function(tf.TensorSpec(shape, tf.float32))

"""Tries a part of a graph in the ways that people use networks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as lite

from publisher.validation.graph import Part

Array = npt.NDArray[np.float32]


def differentiated(part: Part, order: int, *, jit_compile: bool = False) -> list[list[Array]]:
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


@dataclass(frozen=True)
class Converted:
    """How many operations of each kind a part has in another format."""

    operations: Counter[str]

    @property
    def each(self) -> float:
        """Operations for each convolution, itself included."""
        convolutions = sum(self.operations[name] for name in ("CONV_2D", "Conv"))
        return self.operations.total() / convolutions if convolutions else 0.0


def converted_to_lite(part: Part) -> Converted:
    """Convert a part with constant weights to TensorFlow Lite."""
    function = _with_constants(part)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], function)
    model = lite.Model.GetRootAs(converter.convert(), 0)
    names = {code: name for name, code in vars(lite.BuiltinOperator).items() if name.isupper()}
    graph = model.Subgraphs(0)
    codes = [
        model.OperatorCodes(graph.Operators(index).OpcodeIndex()).BuiltinCode()
        for index in range(graph.OperatorsLength())
    ]
    return Converted(Counter(names[code] for code in codes))


def converted_to_onnx(part: Part) -> Converted:
    """Convert a part with constant weights to ONNX."""
    import tf2onnx

    function = _with_constants(part)
    graph = function.graph.as_graph_def()
    model, _ = tf2onnx.convert.from_graph_def(
        graph,
        input_names=[tensor.name for tensor in function.inputs],
        output_names=[tensor.name for tensor in function.outputs],
    )
    return Converted(Counter(node.op_type for node in model.graph.node))


def _with_constants(part: Part) -> tf.types.experimental.ConcreteFunction:
    (_, shape), *_ = part.arguments
    weights = part.noise()[1:]

    def compute(images: tf.Tensor) -> tf.Tensor:
        return part.compute([images, *map(tf.constant, weights)])[0]

    function = tf.function(compute, autograph=False)
    return function.get_concrete_function(tf.TensorSpec(shape, tf.float32))

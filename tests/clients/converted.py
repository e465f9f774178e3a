"""What converters leave of a model: its size, its operations, its kernels, and its answers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

CONVOLUTIONS = 23  # of the stand-in: a root, three in each of six units, four of shortcuts

Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Converted:
    """A model in another format.

    `operations` counts what is run for a batch of images. `constant_kernels` says of each
    convolution whether its kernel is written in the file. `functions` counts what is called or
    branched to instead of being part of the one graph.
    """

    size: int
    operations: Counter[str]
    constant_kernels: list[bool]
    functions: int
    answer: Callable[[Images], npt.NDArray[Any]]


def lite(content: bytes) -> Converted:
    """Read a model for TensorFlow Lite, with one input and one output."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    [graph, *functions] = model.subgraphs
    operations = [
        (names[model.operatorCodes[one.opcodeIndex].builtinCode], one) for one in graph.operators
    ]

    def is_constant(tensor: int) -> bool:
        data = model.buffers[graph.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def answer(images: Images) -> npt.NDArray[Any]:
        runner = tf.lite.Interpreter(model_content=content).get_signature_runner()
        [name] = runner.get_input_details()
        [found] = runner(**{name: images}).values()
        return np.asarray(found)

    return Converted(
        size=len(content),
        operations=Counter(name for name, _ in operations),
        constant_kernels=[
            is_constant(one.inputs[1]) for name, one in operations if name == "CONV_2D"
        ],
        functions=len(functions),
        answer=answer,
    )


def lite_convolutions(content: bytes) -> Counter[tuple[str, str]]:
    """Count by the types of image and kernel what a model for TensorFlow Lite convolves."""
    names = {code: name for name, code in vars(schema.TensorType).items()}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    convolution = schema.BuiltinOperator.CONV_2D
    return Counter(
        tuple(names[graph.tensors[place].type] for place in one.inputs[:2])
        for graph in model.subgraphs
        for one in graph.operators
        if model.operatorCodes[one.opcodeIndex].builtinCode == convolution
    )


def onnx(content: bytes) -> Converted:
    """Read a model for ONNX Runtime, with one input and one output."""
    import onnx
    import onnxruntime

    model = onnx.load_from_string(content)
    constants = {one.name for one in model.graph.initializer}

    def answer(images: Images) -> npt.NDArray[Any]:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        [given] = session.get_inputs()
        [found] = session.run(None, {given.name: images})
        return np.asarray(found)

    return Converted(
        size=len(content),
        operations=Counter(node.op_type for node in model.graph.node),
        constant_kernels=[
            node.input[1] in constants for node in model.graph.node if node.op_type == "Conv"
        ],
        functions=len(model.functions)
        + sum(
            bool(one.g.node) or bool(one.graphs) for n in model.graph.node for one in n.attribute
        ),
        answer=answer,
    )


def intermediate(model: Any) -> Converted:
    """Read a model of OpenVINO, with one input and one output."""
    import openvino

    operations = [(one.get_type_name(), one) for one in model.get_ops()]
    outside = {"Constant", "Parameter", "Result"}  # nothing is run for them

    def answer(images: Images) -> npt.NDArray[Any]:
        # Left alone it would round to bfloat16 on processors that are fast at it.
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.asarray(compiled(images)[0])

    return Converted(
        size=sum(one.get_byte_size() for name, one in operations if name == "Constant"),
        operations=Counter(name for name, _ in operations if name not in outside),
        constant_kernels=[
            one.input_value(1).get_node().get_type_name() == "Constant"
            for name, one in operations
            if name == "Convolution"
        ],
        functions=sum(name in ("If", "Loop", "TensorIterator") for name, _ in operations),
        answer=answer,
    )

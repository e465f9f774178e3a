"""What keeps converters from a model's kernels, read from its graph and never run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tensorflow.core.framework import function_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2

_NOT_INLINED = "_noinline"


@dataclass(frozen=True)
class Conversion:
    """What a graph has for converters: its convolutions, and what stands in their way."""

    convolutions: int
    obstacles: tuple[str, ...]


def conversion_obstacles(saved_model: Path) -> Conversion:
    """Return what is in the way of constant kernels in `saved_model.pb`.

    An argument of a function that is an image, or follows from one, has four dimensions of
    which the first is not known; kernels have four that are known. Of each convolution, no
    operation that its kernel comes from may take such an argument: control dependencies are
    none of these, because they do not keep a constant from being folded.
    """
    message = saved_model_pb2.SavedModel.FromString(saved_model.read_bytes())
    convolutions = 0
    found: list[str] = []
    for meta_graph in message.meta_graphs:
        library = meta_graph.graph_def.library
        if library.registered_gradients:
            found.append(f"{len(library.registered_gradients)} gradients are registered at loading")
        for function in library.function:
            name = function.signature.name
            if function.attr[_NOT_INLINED].b:
                found.append(f"{name} is not to be inlined")
            nodes = {node.name: node for node in function.node_def}
            images = _images(function)
            for node in function.node_def:
                if node.op == "Conv2D":
                    convolutions += 1
                    if images & _behind(node.input[1], nodes):
                        found.append(f"the kernel of {node.name} in {name} follows from an image")
    return Conversion(convolutions, tuple(found))


def _images(function: function_pb2.FunctionDef) -> set[str]:
    """Return the arguments that are images or follow from them: their batch is not known."""
    unknown = set()
    for index, argument in enumerate(function.signature.input_arg):
        for shape in function.arg_attr[index].attr["_output_shapes"].list.shape:
            if shape.unknown_rank or any(dim.size < 0 for dim in shape.dim):
                unknown.add(argument.name)
    return unknown


def _behind(tensor: str, nodes: Mapping[str, node_def_pb2.NodeDef]) -> set[str]:
    """Return the nodes and arguments that a tensor is computed from, its own node included."""
    seen: set[str] = set()
    ahead: list[str] = [tensor]
    while ahead:
        name = ahead.pop().partition(":")[0]
        if name not in seen:
            seen.add(name)
            node = nodes.get(name)
            ahead.extend(_data(node.input) if node is not None else ())
    return seen


def _data(inputs: Iterable[str]) -> Iterable[str]:
    return (name for name in inputs if not name.startswith("^"))

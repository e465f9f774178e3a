"""Finds what keeps a converter from turning kernels into constants. Only reads the graph."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tensorflow.core.framework import function_pb2, node_def_pb2, types_pb2
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from publisher.validation.graph import CALLS

_NOT_INLINED = "_noinline"


@dataclass(frozen=True)
class Conversion:
    """The number of convolutions in a graph, and the obstacles to converting them."""

    convolutions: int
    obstacles: tuple[str, ...]


def conversion_obstacles(graph: SavedModel) -> Conversion:
    """Return the convolutions of a graph and what keeps their kernels from being constants.

    No kernel may depend on an image, neither in the function that convolves nor in a function
    that calls it. An image is an argument whose shape is not fully known. Weights are variables
    or arguments of a known shape. Control dependencies do not count, because they do not
    prevent constant folding.
    """
    convolutions = 0
    found: list[str] = []
    for meta_graph in graph.meta_graphs:
        library = meta_graph.graph_def.library
        if library.registered_gradients:
            found.append(f"{len(library.registered_gradients)} gradients are registered at loading")
        functions = {function.signature.name: function for function in library.function}
        for name, function in functions.items():
            if function.attr[_NOT_INLINED].b:
                found.append(f"{name} is not to be inlined")
            convolutions += sum(node.op == "Conv2D" for node in function.node_def)
            images = _images(function)
            for node, sources in _sources_of_kernels(function, functions):
                if images & sources:
                    found.append(f"the kernel of {node} in {name} follows from an image")
    return Conversion(convolutions, tuple(found))


def _images(function: function_pb2.FunctionDef) -> set[str]:
    """Return the arguments that are not variables and whose shape is not fully known."""
    unknown = set()
    for index, argument in enumerate(function.signature.input_arg):
        shapes = function.arg_attr[index].attr["_output_shapes"].list.shape
        known = shapes and not any(
            shape.unknown_rank or any(dim.size < 0 for dim in shape.dim) for shape in shapes
        )
        if not known and argument.type != types_pb2.DT_RESOURCE:
            unknown.add(argument.name)
    return unknown


def _sources_of_kernels(
    function: function_pb2.FunctionDef, functions: Mapping[str, function_pb2.FunctionDef]
) -> Iterator[tuple[str, set[str]]]:
    """Yield each node that convolves, and the ancestors of its kernels.

    Such a node is a `Conv2D`, or a call of a function that convolves. The ancestors are the
    names of all nodes and arguments that the kernels are computed from.
    """
    nodes = {node.name: node for node in function.node_def}
    for node in function.node_def:
        data = [name for name in node.input if not name.startswith("^")]
        if node.op == "Conv2D":
            yield node.name, _ancestors([data[1]], nodes)
        elif node.op in CALLS:
            called = functions[node.attr["f"].func.name]
            within: set[str] = set()
            for _, sources in _sources_of_kernels(called, functions):
                within |= sources
            arguments = zip(called.signature.input_arg, data, strict=True)
            kernels = [given for argument, given in arguments if argument.name in within]
            yield node.name, _ancestors(kernels, nodes)


def _ancestors(tensors: Iterable[str], nodes: Mapping[str, node_def_pb2.NodeDef]) -> set[str]:
    """Return the nodes and arguments that compute these tensors, directly or indirectly."""
    seen: set[str] = set()
    ahead = list(tensors)
    while ahead:
        name = ahead.pop().partition(":")[0]
        if name not in seen and not name.startswith("^"):
            seen.add(name)
            ahead.extend(nodes[name].input if name in nodes else ())
    return seen

"""What keeps converters from a model's kernels, read from its graph and never run."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tensorflow.core.framework import function_pb2, node_def_pb2, types_pb2
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from publisher.validation.graph import CALLS

_NOT_INLINED = "_noinline"


@dataclass(frozen=True)
class Conversion:
    """What a graph has for converters: its convolutions, and what stands in their way."""

    convolutions: int
    obstacles: tuple[str, ...]


def conversion_obstacles(graph: SavedModel) -> Conversion:
    """Return what is in the way of constant kernels in a graph.

    No kernel may be computed from an image, in the function that convolves or in one that calls
    it. An image is an argument whose shape is not known in full; weights are variables, or
    arguments of a known shape. Control dependencies do not count: they do not keep a constant
    from being folded.
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
    """Return the arguments that are no variables and whose shape is not known in full."""
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
    """Yield each convolution, and call of a function that has some, with what its kernels are of.

    That is the names of all nodes and arguments that they are computed from.
    """
    nodes = {node.name: node for node in function.node_def}
    for node in function.node_def:
        data = [name for name in node.input if not name.startswith("^")]
        if node.op == "Conv2D":
            yield node.name, _behind([data[1]], nodes)
        elif node.op in CALLS:
            called = functions[node.attr["f"].func.name]
            within: set[str] = set()
            for _, sources in _sources_of_kernels(called, functions):
                within |= sources
            arguments = zip(called.signature.input_arg, data, strict=True)
            kernels = [given for argument, given in arguments if argument.name in within]
            yield node.name, _behind(kernels, nodes)


def _behind(tensors: Iterable[str], nodes: Mapping[str, node_def_pb2.NodeDef]) -> set[str]:
    """Return the nodes and arguments that tensors are computed from, their own included."""
    seen: set[str] = set()
    ahead = list(tensors)
    while ahead:
        name = ahead.pop().partition(":")[0]
        if name not in seen and not name.startswith("^"):
            seen.add(name)
            ahead.extend(nodes[name].input if name in nodes else ())
    return seen

"""Takes a published graph apart, so that much can be tried with little.

A graph reads variables and calls functions of an image and weights. Units that are alike share a
function, so a network of 152 layers has few of them. What one function does with small images, as
it is or under XLA, differentiated or converted, it does everywhere that it is called.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.framework import function_def_to_graph

GRAPH = "saved_model.pb"
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_WIRING = frozenset({*CALLS, "Const", "Identity", "NoOp", "ReadVariableOp"})
# Attributes that tell functions apart which have the same operations.
_TELLING = ("padding", "strides")

Array = npt.NDArray[np.float32]
Shape = tuple[int | None, ...]


def read_graph(directory: Path) -> saved_model_pb2.SavedModel:
    """Return the graph of a SavedModel."""
    return saved_model_pb2.SavedModel.FromString((directory / GRAPH).read_bytes())


@dataclass(frozen=True)
class Subgraph:
    """A function of one image and of weights, which calls no other.

    `arguments` are the names and shapes of what it takes, `results` the names of what it returns.
    """

    name: str
    graph: graph_pb2.GraphDef
    arguments: tuple[tuple[str, Shape], ...]
    results: tuple[str, ...]

    @property
    def convolutions(self) -> int:
        """How many convolutions it has."""
        return sum(node.op == "Conv2D" for node in self.graph.node)

    def compute(self, arguments: Iterable[tf.Tensor]) -> list[tf.Tensor]:
        """Put the part into the graph that is being traced, and return its results.

        As plain operations: `tf.gradients` sees into it, a `tf.GradientTape` does not.
        """
        names = [f"{name}:0" for name, _ in self.arguments]
        given = dict(zip(names, arguments, strict=True))
        found: list[tf.Tensor] = tf.graph_util.import_graph_def(
            self.graph, input_map=given, return_elements=list(self.results), name=""
        )
        return found

    def noise(self) -> list[Array]:
        """Return two images and weights, float32, seeded, scaled as those of a network are."""
        random = np.random.default_rng(0)
        found = []
        for _, shape in self.arguments:
            side = 16 if shape[-1] == 3 else 6  # pixels; a stem makes them fewer
            known = (2, side, side, shape[-1] or 1)
            sizes = [size or other for size, other in zip(shape, known, strict=False)]
            values = random.standard_normal(sizes, np.float32)
            if None not in shape and len(sizes) > 1:
                values /= np.float32(np.sqrt(prod(sizes[:-1])))
            found.append(values)
        return found


def parts_of(graph: saved_model_pb2.SavedModel) -> list[Subgraph]:
    """Return one part of each structure, the one with the fewest weights.

    Two functions have one structure if they do the same operations on the same results, with the
    same strides and padding, and differ in their constants and in the sizes of their weights.
    """
    smallest: dict[tuple[object, ...], tuple[int, function_pb2.FunctionDef]] = {}
    for function in _functions(graph):
        arguments = _arguments(function)
        if arguments is None or any(node.op in CALLS for node in function.node_def):
            continue
        size = sum(prod(size or 0 for size in shape) for _, shape in arguments)
        structure = _structure(function)
        if structure not in smallest or size < smallest[structure][0]:
            smallest[structure] = size, function
    return [_part(function) for _, function in smallest.values()]


def untried_operations(graph: saved_model_pb2.SavedModel) -> list[str]:
    """Return the operations, sorted, that compute something outside of all parts."""
    return sorted(
        {
            node.op
            for function in _functions(graph)
            if _arguments(function) is None or any(node.op in CALLS for node in function.node_def)
            for node in function.node_def
        }
        - _WIRING
    )


def shorten(directory: Path, shortened: Path) -> frozenset[str]:
    """Write the SavedModel without repetitions; return the names of variables it does not use.

    A function that was called before is not called again where its result has as many channels
    as its image: what would be its image takes the place of its result. Variables and assets are
    links to those of `directory`.
    """
    graph = read_graph(directory)
    unused: set[str] = set()
    for meta_graph in graph.meta_graphs:
        for function in meta_graph.graph_def.library.function:
            resources = _leave_repetitions_out(function)
            unused |= _names(resources, function, meta_graph.object_graph_def)
    shortened.mkdir(parents=True)
    (shortened / GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
    for path in directory.iterdir():
        if path.name != GRAPH:
            (shortened / path.name).symlink_to(path.resolve())
    return frozenset(unused)


def _functions(graph: saved_model_pb2.SavedModel) -> Iterator[function_pb2.FunctionDef]:
    """Yield the functions that a call or a signature needs, in the order of the graph."""
    for meta_graph in graph.meta_graphs:
        library = meta_graph.graph_def.library.function
        functions = {function.signature.name: function for function in library}
        ahead = list(meta_graph.object_graph_def.concrete_functions)
        needed: set[str] = set()
        while ahead:
            name = ahead.pop()
            if name not in needed:
                needed.add(name)
                nodes = functions[name].node_def
                ahead += [node.attr["f"].func.name for node in nodes if node.op in CALLS]
        yield from (function for function in library if function.signature.name in needed)


def _arguments(function: function_pb2.FunctionDef) -> tuple[tuple[str, Shape], ...] | None:
    """Return the arguments of a function of one image and of weights; none of any other."""
    found = []
    for index, argument in enumerate(function.signature.input_arg):
        shapes = function.arg_attr[index].attr["_output_shapes"].list.shape
        if argument.type != types_pb2.DT_FLOAT or not shapes or shapes[0].unknown_rank:
            return None
        shape = tuple(None if dim.size < 0 else dim.size for dim in shapes[0].dim)
        found.append((argument.name, shape))
    images = sum(None in shape for _, shape in found)
    return tuple(found) if images == 1 and found[0][1][1:3] == (None, None) else None


def _structure(function: function_pb2.FunctionDef) -> tuple[object, ...]:
    """Return what a function does, whatever its constants are: those of equal shapes are shared."""
    constants = {node.name for node in function.node_def if node.op == "Const"}

    def without_constants(node: node_def_pb2.NodeDef) -> tuple[str, ...]:
        return tuple("" if name.partition(":")[0] in constants else name for name in node.input)

    return tuple(
        (
            node.name,
            node.op,
            without_constants(node),
            *(node.attr[name].SerializeToString() for name in _TELLING if name in node.attr),
        )
        for node in function.node_def
        if node.op != "Const"
    )


def _part(function: function_pb2.FunctionDef) -> Subgraph:
    graph, names = function_def_to_graph.function_def_to_graph_def(function)
    # Arguments are given in their place, and a function may not keep what nobody gives.
    nodes = [node for node in graph.node if node.op != "Placeholder"]
    del graph.node[:]
    graph.node.extend(nodes)
    returned = [function.ret[result.name] for result in function.signature.output_arg]
    return Subgraph(
        function.signature.name.removeprefix("__inference_"),
        graph,
        _arguments(function) or (),
        tuple(names[name] for name in returned),
    )


def _leave_repetitions_out(function: function_pb2.FunctionDef) -> set[str]:
    """Take repeated calls out, and return the resources that only they read."""
    called: set[str] = set()
    instead: dict[str, str] = {}
    left_out: list[node_def_pb2.NodeDef] = []
    for node in function.node_def:
        for index, name in enumerate(node.input):
            node.input[index] = instead.get(name, name)
        if node.op in CALLS:
            of = node.attr["f"].func.name
            if of in called and _keeps_channels(node, function):
                instead[f"{node.name}:output:0"] = node.input[0]
                left_out.append(node)
            called.add(of)
    for key, name in function.ret.items():
        function.ret[key] = instead.get(name, name)
    for node in left_out:
        function.node_def.remove(node)
    reads = {
        f"{node.name}:value:0": node.input[0]
        for node in function.node_def
        if node.op == "ReadVariableOp"
    }
    used = {reads[name] for node in function.node_def for name in node.input if name in reads}
    return {reads[name] for node in left_out for name in node.input if name in reads} - used


def _keeps_channels(node: node_def_pb2.NodeDef, function: function_pb2.FunctionDef) -> bool:
    """Whether the first argument of a call came from a call with such a result as its own."""
    shapes = {
        f"{other.name}:output:0": list(other.attr["_output_shapes"].list.shape)
        for other in function.node_def
        if other.op in CALLS
    }
    own = list(node.attr["_output_shapes"].list.shape)
    return len(own) == 1 and shapes.get(node.input[0]) == own


def _names(
    resources: set[str],
    function: function_pb2.FunctionDef,
    objects: meta_graph_pb2.MetaGraphDef,
) -> set[str]:
    """Return the names of the variables behind the resources that a function takes."""
    if not resources:
        return set()
    bound = objects.concrete_functions[function.signature.name].bound_inputs
    arguments = [argument.name for argument in function.signature.input_arg][-len(bound) :]
    variables = dict(zip(arguments, bound, strict=True))
    return {objects.nodes[variables[resource]].variable.name for resource in resources}

"""Splits a published graph into its distinct subgraphs, which are cheap to check.

A graph reads variables and calls functions of an image and weights. Units of one kind share a
function, so even a network of 152 layers has few functions. A function behaves the same
wherever the graph calls it. Checking each one once, on small images, therefore covers the whole
network.
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
# Operations that connect subgraphs and compute nothing.
_WIRING = frozenset({*CALLS, "Const", "Identity", "NoOp", "ReadVariableOp"})
# Attributes that distinguish functions with the same operations.
_STRUCTURAL_ATTRIBUTES = ("padding", "strides")

Array = npt.NDArray[np.float32]
Shape = tuple[int | None, ...]


def read_graph(directory: Path) -> saved_model_pb2.SavedModel:
    """Return the graph of a SavedModel."""
    return saved_model_pb2.SavedModel.FromString((directory / GRAPH).read_bytes())


@dataclass(frozen=True)
class Subgraph:
    """A function of one image and weights that calls no other function.

    `arguments` are pairs of name and shape, the image first. `results` are names of tensors.
    """

    name: str
    graph: graph_pb2.GraphDef
    arguments: tuple[tuple[str, Shape], ...]
    results: tuple[str, ...]

    @property
    def convolutions(self) -> int:
        """The number of convolutions."""
        return sum(node.op == "Conv2D" for node in self.graph.node)

    def compute(self, arguments: Iterable[tf.Tensor]) -> list[tf.Tensor]:
        """Import the subgraph into the graph being traced; return its results.

        The import adds plain operations, which `tf.gradients` can differentiate and a
        `tf.GradientTape` cannot.
        """
        names = [f"{name}:0" for name, _ in self.arguments]
        given = dict(zip(names, arguments, strict=True))
        found: list[tf.Tensor] = tf.graph_util.import_graph_def(
            self.graph, input_map=given, return_elements=list(self.results), name=""
        )
        return found

    def noise(self) -> list[Array]:
        """Return seeded float32 noise for all arguments: two images, and weights.

        The weights are scaled as in a real network, by the square root of the fan-in.
        """
        random = np.random.default_rng(0)
        found = []
        for _, shape in self.arguments:
            side = 16 if shape[-1] == 3 else 6  # pixels; only the stem shrinks images by much
            known = (2, side, side, shape[-1] or 1)
            sizes = [size or other for size, other in zip(shape, known, strict=False)]
            values = random.standard_normal(sizes, np.float32)
            if None not in shape and len(sizes) > 1:
                values /= np.float32(np.sqrt(prod(sizes[:-1])))
            found.append(values)
        return found


def distinct_subgraphs(graph: saved_model_pb2.SavedModel) -> list[Subgraph]:
    """Return one subgraph of each structure, the one with the fewest weights.

    Two functions have the same structure if they apply the same operations to the same results,
    with the same strides and padding. Constants and the sizes of weights may differ.
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
    return [_subgraph(function) for _, function in smallest.values()]


def operations_outside(graph: saved_model_pb2.SavedModel) -> list[str]:
    """Return the operations that compute something outside of all subgraphs, sorted."""
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
    """Write a copy of the SavedModel that calls each repeated unit once.

    Drops every further call of a function whose result has as many channels as its image, and
    passes that image on in place of the result. Links the variables and assets of `directory`.
    Returns the names of the variables that the copy no longer uses.
    """
    graph = read_graph(directory)
    unused: set[str] = set()
    for meta_graph in graph.meta_graphs:
        for function in meta_graph.graph_def.library.function:
            resources = _drop_repeated_calls(function)
            unused |= _names(resources, function, meta_graph.object_graph_def)
    shortened.mkdir(parents=True)
    (shortened / GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
    for path in directory.iterdir():
        if path.name != GRAPH:
            (shortened / path.name).symlink_to(path.resolve())
    return frozenset(unused)


def _functions(graph: saved_model_pb2.SavedModel) -> Iterator[function_pb2.FunctionDef]:
    """Yield the functions that a call or a signature reaches, in the order of the graph."""
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
    """Return the arguments of a function of one image and weights; `None` for any other."""
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
    """Return the structure of a function (see `distinct_subgraphs`).

    Constants are left out: functions share equal ones, so they differ from case to case.
    """
    constants = {node.name for node in function.node_def if node.op == "Const"}

    def without_constants(node: node_def_pb2.NodeDef) -> tuple[str, ...]:
        return tuple("" if name.partition(":")[0] in constants else name for name in node.input)

    return tuple(
        (
            node.name,
            node.op,
            without_constants(node),
            *(
                node.attr[name].SerializeToString()
                for name in _STRUCTURAL_ATTRIBUTES
                if name in node.attr
            ),
        )
        for node in function.node_def
        if node.op != "Const"
    )


def _subgraph(function: function_pb2.FunctionDef) -> Subgraph:
    graph, names = function_def_to_graph.function_def_to_graph_def(function)
    # `compute` maps the arguments to tensors; an unfed placeholder would remain in the function.
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


def _drop_repeated_calls(function: function_pb2.FunctionDef) -> set[str]:
    """Remove repeated calls; return the resources that only those calls read."""
    called: set[str] = set()
    replacements: dict[str, str] = {}
    dropped: list[node_def_pb2.NodeDef] = []
    for node in function.node_def:
        for index, name in enumerate(node.input):
            node.input[index] = replacements.get(name, name)
        if node.op in CALLS:
            callee = node.attr["f"].func.name
            if callee in called and _keeps_channels(node, function):
                replacements[f"{node.name}:output:0"] = node.input[0]
                dropped.append(node)
            called.add(callee)
    for key, name in function.ret.items():
        function.ret[key] = replacements.get(name, name)
    for node in dropped:
        function.node_def.remove(node)
    reads = {
        f"{node.name}:value:0": node.input[0]
        for node in function.node_def
        if node.op == "ReadVariableOp"
    }
    used = {reads[name] for node in function.node_def for name in node.input if name in reads}
    return {reads[name] for node in dropped for name in node.input if name in reads} - used


def _keeps_channels(node: node_def_pb2.NodeDef, function: function_pb2.FunctionDef) -> bool:
    """Return whether a call's image is itself the result of a call and of the same shape."""
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
    """Return the names of the variables that a function's resource arguments refer to."""
    if not resources:
        return set()
    bound = objects.concrete_functions[function.signature.name].bound_inputs
    arguments = [argument.name for argument in function.signature.input_arg][-len(bound) :]
    variables = dict(zip(arguments, bound, strict=True))
    return {objects.nodes[variables[resource]].variable.name for resource in resources}

"""Rewrites `saved_model.pb` so that its bytes do not depend on the history of the process.

TensorFlow numbers functions and custom gradients with a counter that never resets, so a second
export in the same process has other names than the first. This module renumbers them in the
order of their creation. TensorFlow also writes a new constant for each use. This module merges
equal constants, because a client spends time on every node when it loads the graph.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorflow.core.framework import function_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2, saved_object_graph_pb2

FILE = "saved_model.pb"
GRADIENT_ATTRIBUTE = "_gradient_op_type"
USER_NAME = "_user_specified_name"

_NUMBERED = re.compile(r"(?P<stem>.+[_-])(?P<number>0|[1-9]\d*)\Z")


def make_canonical(directory: Path) -> None:
    """Merge equal constants in `saved_model.pb`, and renumber its functions from 0.

    The graph still computes the same. The caller must rewrite the fingerprint afterwards.
    """
    path = directory / FILE
    message = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in message.meta_graphs:
        library = meta_graph.graph_def.library
        captured = _captured_by_gradients(meta_graph.object_graph_def)
        for function in library.function:
            _merge_constants(function, captured.get(function.signature.name, frozenset()))
            _forget_capture_numbers(function)
        _number_anew(meta_graph)
    path.write_bytes(message.SerializeToString(deterministic=True))


def _captured_by_gradients(
    object_graph: saved_object_graph_pb2.SavedObjectGraph,
) -> dict[str, set[str]]:
    """Return, for each function, the nodes whose results custom gradients refer to by name."""
    found: dict[str, set[str]] = {}
    for node in object_graph.nodes:
        if node.WhichOneof("kind") == "captured_tensor":
            tensor = node.captured_tensor
            found.setdefault(tensor.concrete_function, set()).add(tensor.name.partition(":")[0])
    return found


def _merge_constants(function: function_pb2.FunctionDef, kept: Collection[str]) -> None:
    first: dict[bytes, str] = {}
    merged: dict[str, str] = {}
    nodes = []
    for node in function.node_def:
        if node.op == "Const" and node.name not in kept:
            name = first.setdefault(_all_but_the_name(node), node.name)
            if name != node.name:
                merged[node.name] = name
                continue
        nodes.append(node)
    if not merged:
        return
    _replace(function.node_def, nodes)
    for node in function.node_def:
        moved = [_moved(name, merged) for name in node.input]
        waits_for = dict.fromkeys(name for name in moved if name.startswith("^"))
        node.input[:] = [*(name for name in moved if not name.startswith("^")), *waits_for]
    for results in (function.ret, function.control_ret):
        for argument, name in results.items():
            results[argument] = _moved(name, merged)


def _all_but_the_name(node: node_def_pb2.NodeDef) -> bytes:
    """Return everything in which equal constants agree: value, device and control inputs."""
    copy = node_def_pb2.NodeDef()
    copy.CopyFrom(node)
    copy.ClearField("name")
    copy.ClearField("experimental_debug_info")
    encoded: bytes = copy.SerializeToString(deterministic=True)
    return encoded


def _moved(name: str, merged: Mapping[str, str]) -> str:
    """Return an input (`node:output:0`, or `^node` for control) after merging."""
    caret = "^" if name.startswith("^") else ""
    node, colon, output = name.removeprefix("^").partition(":")
    return f"{caret}{merged.get(node, node)}{colon}{output}"


def _forget_capture_numbers(function: function_pb2.FunctionDef) -> None:
    """Remove the user-specified names of captured variables: numbers from the same counter."""
    for argument in function.arg_attr.values():
        if USER_NAME in argument.attr and argument.attr[USER_NAME].s.isdigit():
            del argument.attr[USER_NAME]


def _number_anew(meta_graph: Any) -> None:
    library = meta_graph.graph_def.library
    functions = _renumbered(function.signature.name for function in library.function)
    gradients = _renumbered(item.registered_op_type for item in library.registered_gradients)
    _replace(library.function, sorted(library.function, key=lambda f: _number(f.signature.name)))
    _replace(
        library.registered_gradients,
        sorted(library.registered_gradients, key=lambda item: _number(item.registered_op_type)),
    )
    for function in library.function:
        function.signature.name = functions[function.signature.name]
        _rename_in(function.node_def, functions, gradients)
    _rename_in(meta_graph.graph_def.node, functions, gradients)
    for item in library.registered_gradients:
        item.gradient_func = functions[item.gradient_func]
        item.registered_op_type = gradients[item.registered_op_type]
    for item in library.gradient:
        item.function_name = functions[item.function_name]
        item.gradient_func = functions[item.gradient_func]
    aliases = dict(meta_graph.meta_info_def.function_aliases)
    meta_graph.meta_info_def.function_aliases.clear()
    for name, alias in aliases.items():
        meta_graph.meta_info_def.function_aliases[functions.get(name, name)] = alias
    _rename_in_objects(meta_graph.object_graph_def, functions)


def _number(name: str) -> int:
    match = _NUMBERED.fullmatch(name)
    return int(match["number"]) if match else -1


def _renumbered(names: Iterable[str]) -> dict[str, str]:
    """Return a new name for each name, whose final number becomes its rank among all."""
    found = list(names)
    ranks = {number: rank for rank, number in enumerate(sorted({_number(n) for n in found} - {-1}))}
    renamed = {}
    for name in found:
        match = _NUMBERED.fullmatch(name)
        renamed[name] = f"{match['stem']}{ranks[int(match['number'])]}" if match else name
    return renamed


def _rename_in(
    nodes: Iterable[node_def_pb2.NodeDef],
    functions: Mapping[str, str],
    gradients: Mapping[str, str],
) -> None:
    for node in nodes:
        for value in node.attr.values():  # calls, loops, branches
            for called in (value.func, *value.list.func):
                if called.name in functions:
                    called.name = functions[called.name]
        if GRADIENT_ATTRIBUTE in node.attr:
            kind = node.attr[GRADIENT_ATTRIBUTE].s.decode()
            node.attr[GRADIENT_ATTRIBUTE].s = gradients.get(kind, kind).encode()


def _rename_in_objects(
    object_graph: saved_object_graph_pb2.SavedObjectGraph, functions: Mapping[str, str]
) -> None:
    before = saved_object_graph_pb2.SavedObjectGraph()
    before.concrete_functions.MergeFrom(object_graph.concrete_functions)
    object_graph.concrete_functions.clear()
    for name, saved in before.concrete_functions.items():
        object_graph.concrete_functions[functions[name]].CopyFrom(saved)
    for node in object_graph.nodes:
        kind = node.WhichOneof("kind")
        if kind == "function":
            names = [functions[name] for name in node.function.concrete_functions]
            node.function.concrete_functions[:] = names
        elif kind == "bare_concrete_function":
            bare = node.bare_concrete_function
            bare.concrete_function_name = functions[bare.concrete_function_name]
        elif kind == "captured_tensor":
            captured = node.captured_tensor
            captured.concrete_function = functions[captured.concrete_function]


def _replace(field: Any, items: Iterable[Any]) -> None:
    """Replace the items of a repeated message field."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)

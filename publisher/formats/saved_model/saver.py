"""Adds the nodes that save and restore a SavedModel's variables in a session.

A program that loads the model in a session, such as TensorFlow Serving, runs the nodes that
`saver_def` names. TensorFlow 2 writes two functions for them, which its own loader imports and
never calls. This module adds a few nodes to the main graph instead, as TensorFlow 1 does.
Source: tensorflow/python/training/saver.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2, saver_pb2
from tensorflow.python.checkpoint import functional_saver
from tensorflow.python.framework import op_def_registry

from publisher.formats.saved_model.canonical import FILE

SCOPE = "save/"
OPERATIONS = ("AssignVariableOp", "Const", "Identity", "NoOp", "Placeholder", "RestoreV2", "SaveV2")


@contextmanager
def without_saver() -> Iterator[None]:
    """Make TensorFlow write SavedModels without a saver, which takes long to trace."""
    saver_class = functional_saver.MultiDeviceSaver
    original = saver_class.to_proto
    saver_class.to_proto = lambda _: saver_pb2.SaverDef()
    try:
        yield
    finally:
        saver_class.to_proto = original


def add_saver(directory: Path, variables: Mapping[str, str], strings: Mapping[str, bytes]) -> None:
    """Add a saver to the `saved_model.pb` in `directory`, which must not have one.

    `variables` maps the variables' names to their keys in the checkpoint, in the order of saving.
    `strings` maps keys to constants of the main graph that the saver saves but does not restore.
    The caller must rewrite the fingerprint afterwards.
    """
    path = directory / FILE
    message = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    (meta_graph,) = message.meta_graphs
    nodes, saver = meta_graph.graph_def.node, meta_graph.saver_def
    prefix = _add(nodes, "Placeholder", "prefix")
    prefix.attr["dtype"].type = types_pb2.DT_STRING
    prefix.attr["shape"].shape.SetInParent()
    saver.filename_tensor_name = f"{prefix.name}:0"
    saver.save_tensor_name = f"{_add_saving(nodes, prefix.name, variables, strings)}:0"
    saver.restore_op_name = _add_restoring(nodes, prefix.name, variables)
    saver.version = saver_pb2.SaverDef.V2
    _list_operations(meta_graph.meta_info_def.stripped_op_list)
    path.write_bytes(message.SerializeToString(deterministic=True))


def _add_saving(
    nodes: Any, prefix: str, variables: Mapping[str, str], strings: Mapping[str, bytes]
) -> str:
    """Add the nodes that save all tensors; return the last, which outputs the prefix."""
    constants = {
        bytes(value): node.name
        for node in nodes
        if node.op == "Const"
        for value in node.attr["value"].tensor.string_val
    }
    reads = {node.input[0]: node.name for node in nodes if node.op == "ReadVariableOp"}
    tensors = [*(reads[name] for name in variables), *(constants[s] for s in strings.values())]
    keys, slices = _add_keys(nodes, "saved", [*variables.values(), *strings])
    save = _add(nodes, "SaveV2", "save", prefix, keys, slices, *tensors)
    save.attr["dtypes"].list.type.extend(_types(nodes, variables))
    save.attr["dtypes"].list.type.extend([types_pb2.DT_STRING] * len(strings))
    saved = _add(nodes, "Identity", "saved", prefix, f"^{save.name}")
    saved.attr["T"].type = types_pb2.DT_STRING
    return str(saved.name)


def _add_restoring(nodes: Any, prefix: str, variables: Mapping[str, str]) -> str:
    """Add the nodes that restore the variables; return the last, which waits for all of them."""
    types = _types(nodes, variables)
    keys, slices = _add_keys(nodes, "restored", list(variables.values()))
    restore = _add(nodes, "RestoreV2", "restore", prefix, keys, slices)
    restore.attr["dtypes"].list.type.extend(types)
    assignments = []
    for index, (name, dtype) in enumerate(zip(variables, types, strict=True)):
        value = f"{restore.name}:{index}"
        assignment = _add(nodes, "AssignVariableOp", f"assign_{index}", name, value)
        assignment.attr["dtype"].type = dtype
        assignments.append(f"^{assignment.name}")
    return str(_add(nodes, "NoOp", "restored", *assignments).name)


def _add(nodes: Any, operation: str, name: str, *inputs: str) -> Any:
    return nodes.add(op=operation, name=SCOPE + name, input=inputs)


def _add_keys(nodes: Any, name: str, keys: Sequence[str]) -> tuple[str, str]:
    """Add constants for the tensors' keys and their slices, all empty: no tensor is a slice."""
    names = []
    for suffix, values in (("keys", keys), ("slices", [""] * len(keys))):
        node = _add(nodes, "Const", f"{name}_{suffix}")
        node.attr["dtype"].type = types_pb2.DT_STRING
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.array(values, object)))
        names.append(str(node.name))
    return names[0], names[1]


def _types(nodes: Any, variables: Mapping[str, str]) -> list[int]:
    types = {node.name: node.attr["dtype"].type for node in nodes if node.op == "VarHandleOp"}
    return [types[name] for name in variables]


def _list_operations(listed: Any) -> None:
    """Add the definitions of the saver's operations to the graph's list of operations."""
    known = {operation.name: operation for operation in listed.op}
    for name in OPERATIONS:
        known.setdefault(name, op_def_registry.get(name))
    operations = [known[name].SerializeToString() for name in sorted(known)]
    del listed.op[:]
    for operation in operations:
        listed.op.add().MergeFromString(operation)

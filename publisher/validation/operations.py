"""Which operations a SavedModel may hold."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

# What `tf.saved_model.save` puts around a network. The main graph holds the variables and
# calls functions; one that has assets also holds their paths in a variable each.
MAIN_GRAPH_OPERATIONS = frozenset(
    {
        "AssignVariableOp",
        "Const",
        "NoOp",
        "Placeholder",
        "ReadVariableOp",
        "StatefulPartitionedCall",
        "VarHandleOp",
        "VarIsInitializedOp",
    }
)
# How every SavedModel writes and reads its own variables. They touch files, so they may
# stand in the two functions that the main graph names for it, and nothing else may call those.
SAVER_OPERATIONS = frozenset(
    {
        "AssignVariableOp",
        "Const",
        "Identity",
        "MergeV2Checkpoints",
        "NoOp",
        "Pack",
        "ReadVariableOp",
        "RestoreV2",
        "SaveV2",
        "Select",
        "ShardedFilename",
        "StaticRegexFullMatch",
        "StringJoin",
    }
)


def forbidden_operations(saved_model: Path, allowed: Iterable[str]) -> tuple[int, list[str]]:
    """Return the number of operations in `saved_model.pb` and those that may not be there.

    `allowed` are the network's own. All functions are looked at, whoever calls them. Each
    finding reads `operation in function`.
    """
    message = saved_model_pb2.SavedModel.FromString(saved_model.read_bytes())
    network = frozenset(allowed)
    count = 0
    found: set[str] = set()
    for meta_graph in message.meta_graphs:
        saver = _saver_functions(meta_graph)
        for function, nodes in _places(meta_graph.graph_def):
            if function is None:
                permitted = MAIN_GRAPH_OPERATIONS
            else:
                permitted = SAVER_OPERATIONS if function in saver else network
            place = function or "the main graph"
            for node in nodes:
                count += 1
                if node.op not in permitted:
                    found.add(f"{node.op} in {place}")
                if function is not None:
                    found.update(f"call of {name} in {place}" for name in _calls(node) & saver)
    return count, sorted(found)


def _places(
    graph: graph_pb2.GraphDef,
) -> Iterator[tuple[str | None, Iterable[node_def_pb2.NodeDef]]]:
    """Yield the nodes of the main graph (no name) and of every function."""
    yield None, graph.node
    for function in graph.library.function:
        yield function.signature.name, function.node_def


def _saver_functions(meta_graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    """Return the functions that the main graph calls to save and to restore variables."""
    saver = meta_graph.saver_def
    names = {saver.save_tensor_name.partition(":")[0], saver.restore_op_name}
    nodes = [node for node in meta_graph.graph_def.node if node.name in names]
    return set().union(*(_calls(node) for node in nodes))


def _calls(node: node_def_pb2.NodeDef) -> set[str]:
    """Return the functions that a node names in its attributes."""
    names: set[str] = set()
    for value in node.attr.values():
        names.update({value.func.name} if value.HasField("func") else ())
        names.update(function.name for function in value.list.func)
    return names

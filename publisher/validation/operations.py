"""Which operations a SavedModel may hold."""

from collections.abc import Iterable, Mapping
from pathlib import Path

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
# How a SavedModel writes and reads its own variables, besides the above. They touch files: they
# may stand where `saver_def` alone leads to.
SAVER_OPERATIONS = frozenset({"Identity", "RestoreV2", "SaveV2"})


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
        graph = meta_graph.graph_def
        saver = _saver_nodes(meta_graph)
        for node in graph.node:
            count += 1
            permitted = MAIN_GRAPH_OPERATIONS
            if node.name in saver:
                permitted |= SAVER_OPERATIONS
            if node.op not in permitted:
                found.add(f"{node.op} in the main graph")
        for function in graph.library.function:
            for node in function.node_def:
                count += 1
                if node.op not in network:
                    found.add(f"{node.op} in {function.signature.name}")
    return count, sorted(found)


def _saver_nodes(meta_graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    """Return the nodes of the main graph that run to save or restore variables, and only then."""
    saver = meta_graph.saver_def
    served = [
        tensor.name
        for signature in meta_graph.signature_def.values()
        for tensor in (*signature.inputs.values(), *signature.outputs.values())
    ]
    initializers = [
        name
        for collection in meta_graph.collection_def.values()
        for name in collection.node_list.value
    ]
    inputs = {node.name: node.input for node in meta_graph.graph_def.node}
    return _behind((saver.save_tensor_name, saver.restore_op_name), inputs) - _behind(
        (*served, *initializers), inputs
    )


def _behind(names: Iterable[str], inputs: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the nodes that these tensors or operations come of, their own included."""
    seen: set[str] = set()
    ahead = list(names)
    while ahead:
        name = ahead.pop().removeprefix("^").partition(":")[0]
        if name not in seen:
            seen.add(name)
            ahead.extend(inputs.get(name, ()))
    return seen

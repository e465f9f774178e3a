"""Which operations a SavedModel may hold."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tensorflow.core.framework import node_def_pb2
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
# How a SavedModel writes and reads its own variables, besides the above. They touch files: each
# may stand where its end of `saver_def` alone leads to, and takes the file's name from outside.
SAVING_OPERATIONS = frozenset({"Identity", "SaveV2"})
RESTORING_OPERATIONS = frozenset({"RestoreV2"})
_TOUCH_FILES = ("RestoreV2", "SaveV2")


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
        saving, restoring = _saver_nodes(meta_graph)
        for node in graph.node:
            count += 1
            permitted = MAIN_GRAPH_OPERATIONS
            if node.name in saving:
                permitted |= SAVING_OPERATIONS
            if node.name in restoring:
                permitted |= RESTORING_OPERATIONS
            own_name = node.op in _TOUCH_FILES and not _is_named_from_outside(node, meta_graph)
            if own_name or node.op not in permitted:
                found.add(f"{node.op} in the main graph")
        for function in graph.library.function:
            for node in function.node_def:
                count += 1
                if node.op not in network:
                    found.add(f"{node.op} in {function.signature.name}")
    return count, sorted(found)


def _saver_nodes(meta_graph: meta_graph_pb2.MetaGraphDef) -> tuple[set[str], set[str]]:
    """Return the nodes that run to save variables and only then, and the same for restoring."""
    inputs = {node.name: node.input for node in meta_graph.graph_def.node}
    saving = _behind([meta_graph.saver_def.save_tensor_name], inputs)
    restoring = _behind([meta_graph.saver_def.restore_op_name], inputs)
    other = _behind(_run_otherwise(meta_graph), inputs)
    return saving - restoring - other, restoring - saving - other


def _run_otherwise(meta_graph: meta_graph_pb2.MetaGraphDef) -> Iterator[str]:
    """Yield what is run when a model is loaded or called: results and initializers."""
    for signature in meta_graph.signature_def.values():
        for tensor in (*signature.inputs.values(), *signature.outputs.values()):
            yield tensor.name
            sparse = tensor.coo_sparse
            yield from (sparse.values_tensor_name, sparse.indices_tensor_name)
            yield sparse.dense_shape_tensor_name
            yield from (part.name for part in tensor.composite_tensor.components)
    for collection in meta_graph.collection_def.values():
        yield from collection.node_list.value


def _is_named_from_outside(
    node: node_def_pb2.NodeDef, meta_graph: meta_graph_pb2.MetaGraphDef
) -> bool:
    """Whether whoever runs this operation says which file it touches."""
    place = meta_graph.saver_def.filename_tensor_name.partition(":")[0]
    operations = {one.op for one in meta_graph.graph_def.node if one.name == place}
    return operations == {"Placeholder"} and list(node.input[:1]) == [place]


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

"""The operations that a SavedModel may contain."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

# `tf.saved_model.save` puts these around a network. The main graph declares the variables, calls
# functions, and keeps the path of each asset in a variable.
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
# A SavedModel also needs these to save and restore its variables. They touch files, so each may
# only be a node that `saver_def` alone reaches, and must take the file's name from the caller.
SAVING_OPERATIONS = frozenset({"Identity", "SaveV2"})
RESTORING_OPERATIONS = frozenset({"RestoreV2"})
_TOUCH_FILES = ("RestoreV2", "SaveV2")
# What the objects of a SavedModel may be. TensorFlow loads these itself. Any other name, and any
# metadata, is for a loader that registered it: Keras makes layers from theirs, with Python inside.
PLAIN_OBJECTS = frozenset({"_generic_user_object", "signature_map", "trackable_list_wrapper"})
PLAIN_KINDS = frozenset({"asset", "bare_concrete_function", "function", "variable"})


def forbidden_operations(saved_model: Path, allowed: Iterable[str]) -> tuple[int, list[str]]:
    """Return the number of operations in `saved_model.pb` and the forbidden ones.

    `allowed` are the network's own operations. The search covers all functions, called or not,
    and the objects that a loader makes. Each finding reads `operation in function`.
    """
    message = saved_model_pb2.SavedModel.FromString(saved_model.read_bytes())
    network = frozenset(allowed)
    count = 0
    found: set[str] = set()
    if not any(meta_graph.graph_def.node for meta_graph in message.meta_graphs):
        return 0, [f"{saved_model.name} holds no graph"]
    for meta_graph in message.meta_graphs:
        graph = meta_graph.graph_def
        found |= set(_objects_of_other_loaders(meta_graph))
        saving, restoring = _saver_nodes(meta_graph)
        for node in graph.node:
            count += 1
            permitted = MAIN_GRAPH_OPERATIONS
            if node.name in saving:
                permitted |= SAVING_OPERATIONS
            if node.name in restoring:
                permitted |= RESTORING_OPERATIONS
            fixed_file = node.op in _TOUCH_FILES and not _takes_name_from_caller(node, meta_graph)
            if fixed_file or node.op not in permitted:
                found.add(f"{node.op} in the main graph")
        for function in graph.library.function:
            for node in function.node_def:
                count += 1
                if node.op not in network:
                    found.add(f"{node.op} in {function.signature.name}")
    return count, sorted(found)


def _objects_of_other_loaders(meta_graph: meta_graph_pb2.MetaGraphDef) -> Iterator[str]:
    """Name the objects that a loader other than TensorFlow's own would act on."""
    for node in meta_graph.object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        plain = kind in PLAIN_KINDS or (
            kind == "user_object"
            and node.user_object.identifier in PLAIN_OBJECTS
            and not node.user_object.metadata
        )
        if not plain or node.registered_name or node.HasField("serialized_user_proto"):
            name = node.registered_name or node.user_object.identifier or kind
            yield f"{name} among the objects, which is more than variables and functions"


def _saver_nodes(meta_graph: meta_graph_pb2.MetaGraphDef) -> tuple[set[str], set[str]]:
    """Return the nodes that run only to save variables, and those that run only to restore."""
    inputs = {node.name: node.input for node in meta_graph.graph_def.node}
    saving = _ancestors([meta_graph.saver_def.save_tensor_name], inputs)
    restoring = _ancestors([meta_graph.saver_def.restore_op_name], inputs)
    other = _ancestors(_other_roots(meta_graph), inputs)
    return saving - restoring - other, restoring - saving - other


def _other_roots(meta_graph: meta_graph_pb2.MetaGraphDef) -> Iterator[str]:
    """Yield what a runtime evaluates to load or call the model: initializers, signatures."""
    for signature in meta_graph.signature_def.values():
        for tensor in (*signature.inputs.values(), *signature.outputs.values()):
            yield tensor.name
            sparse = tensor.coo_sparse
            yield from (sparse.values_tensor_name, sparse.indices_tensor_name)
            yield sparse.dense_shape_tensor_name
            yield from (part.name for part in tensor.composite_tensor.components)
    for collection in meta_graph.collection_def.values():
        yield from collection.node_list.value


def _takes_name_from_caller(
    node: node_def_pb2.NodeDef, meta_graph: meta_graph_pb2.MetaGraphDef
) -> bool:
    """Return whether the caller of this operation names the file that it touches."""
    filename = meta_graph.saver_def.filename_tensor_name.partition(":")[0]
    operations = {other.op for other in meta_graph.graph_def.node if other.name == filename}
    return operations == {"Placeholder"} and list(node.input[:1]) == [filename]


def _ancestors(names: Iterable[str], inputs: Mapping[str, Iterable[str]]) -> set[str]:
    """Return these tensors' and operations' nodes and all nodes that they depend on."""
    seen: set[str] = set()
    ahead = list(names)
    while ahead:
        name = ahead.pop().removeprefix("^").partition(":")[0]
        if name not in seen:
            seen.add(name)
            ahead.extend(inputs.get(name, ()))
    return seen

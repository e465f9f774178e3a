from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.saved_model import save

from publisher.families.bit import ARCHITECTURES, BitArchitecture, network
from publisher.families.bit.network import FOLDED_NETWORK_OPERATIONS, NETWORK_OPERATIONS
from publisher.formats.saved_model.canonical import make_canonical
from publisher.formats.saved_model.saver import without_saver
from publisher.validation.operations import (
    MAIN_GRAPH_OPERATIONS,
    RESTORING_OPERATIONS,
    SAVING_OPERATIONS,
    forbidden_operations,
)


def read(directory: Path) -> Any:
    return saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())


@pytest.fixture
def graph(classifier: Path) -> Any:
    """The good classifier's SavedModel message, to be changed."""
    return read(classifier)


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[Any], list[str]]:
    def write_and_judge(message: Any) -> list[str]:
        path = tmp_path / "saved_model.pb"
        path.write_bytes(message.SerializeToString())
        return forbidden_operations(path, NETWORK_OPERATIONS)[1]

    return write_and_judge


def function(message: Any, prefix: str) -> Any:
    functions = message.meta_graphs[0].graph_def.library.function
    return next(f for f in functions if f.signature.name.startswith(prefix))


def graph_of_an_r50x1(folder: Path, *, folded: bool = False) -> Any:
    """Return the graph of a classifier as it is saved, without the weights, which are zeros."""
    architecture = ARCHITECTURES["R50x1"]
    arrays = {n: np.broadcast_to(np.float32(0), s) for n, s in architecture.arrays(1000).items()}
    model, signature = network.build(architecture, arrays, (-1.0, 1.0), "output", folded=folded)
    path = folder / "graph.pb"
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    with without_saver():
        save.export_meta_graph(model, str(path), signature, options)
    return meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes()).graph_def


def used(*graphs: Any) -> tuple[set[str], set[str]]:
    """Return the operations of the main graphs, and of all functions."""
    main = {node.op for graph in graphs for node in graph.node}
    functions = [function for graph in graphs for function in graph.library.function]
    return main, {node.op for function in functions for node in function.node_def}


@pytest.mark.parametrize("head", ["classifier", "feature_extractor"])
def test_a_published_graph_passes_and_is_counted_whole(
    head: str, request: pytest.FixtureRequest
) -> None:
    directory = request.getfixturevalue(head)
    count, found = forbidden_operations(directory / "saved_model.pb", NETWORK_OPERATIONS)
    graph = read(directory).meta_graphs[0].graph_def
    assert found == []
    assert count == len(graph.node) + sum(len(f.node_def) for f in graph.library.function)


def test_nothing_is_allowed_that_no_published_graph_holds(
    classifier: Path, feature_extractor: Path
) -> None:
    graphs = [read(folder).meta_graphs[0].graph_def for folder in (classifier, feature_extractor)]
    main, functions = used(*graphs)
    assert main == MAIN_GRAPH_OPERATIONS | SAVING_OPERATIONS | RESTORING_OPERATIONS
    assert functions == NETWORK_OPERATIONS


def test_a_folded_graph_holds_what_is_allowed_and_nothing_less(
    folded_classifier: Path, tmp_path: Path
) -> None:
    _, small = used(read(folded_classifier).meta_graphs[0].graph_def)
    _, large = used(graph_of_an_r50x1(tmp_path, folded=True))
    # An input range other than the network's own takes a subtraction.
    assert small == large == FOLDED_NETWORK_OPERATIONS - {"Sub"}
    assert small < NETWORK_OPERATIONS


def test_a_network_of_full_width_needs_the_same_operations(tmp_path: Path) -> None:
    """TensorFlow makes a large constant of zeros by another operation than a small one."""
    _, functions = used(graph_of_an_r50x1(tmp_path))
    assert functions == NETWORK_OPERATIONS


@pytest.mark.parametrize("folded", [False, True], ids=["standardizing", "folded"])
@pytest.mark.parametrize("input_range", [(0.0, 255.0), (-1.0, 1.0)])
def test_every_input_range_needs_only_what_is_allowed(
    input_range: tuple[float, float],
    folded: bool,
    architecture: BitArchitecture,
    arrays: dict[str, npt.NDArray[np.float32]],
) -> None:
    model, _ = network.build(architecture, arrays, input_range, "logits", folded=folded)
    images = tf.TensorSpec((None, None, None, 3), tf.float32)
    graph = model.__call__.get_concrete_function(images).graph.as_graph_def()
    nodes = {node.op for one in graph.library.function for node in one.node_def}
    assert nodes <= (FOLDED_NETWORK_OPERATIONS if folded else NETWORK_OPERATIONS)


@pytest.mark.parametrize(
    "operation",
    ["ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "DecodeJpeg", "RestoreV2", "MadeUpByMe"],
)
@pytest.mark.parametrize("prefix", ["__inference_residual_unit_", "__inference_call_"])
def test_an_operation_that_is_not_allowed_is_named_with_its_function(
    operation: str, prefix: str, graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    changed = function(graph, prefix)
    changed.node_def.add(name="added", op=operation)
    assert judge(graph) == [f"{operation} in {changed.signature.name}"]


@pytest.mark.parametrize("operation", ["ReadFile", "PyFunc", "RestoreV2", "MadeUpByMe"])
def test_the_main_graph_is_looked_at(
    operation: str, graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    graph.meta_graphs[0].graph_def.node.add(name="added", op=operation)
    assert judge(graph) == [f"{operation} in the main graph"]


@pytest.mark.parametrize("entrance", ["save_tensor_name", "restore_op_name"])
def test_the_saver_may_not_do_more_than_save_and_restore(
    entrance: str, graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    named = getattr(graph.meta_graphs[0].saver_def, entrance).partition(":")[0]
    nodes = graph.meta_graphs[0].graph_def.node
    nodes.add(name="added", op="ReadFile")
    (node,) = [node for node in nodes if node.name == named]
    node.input.append("^added")
    assert judge(graph) == ["ReadFile in the main graph"]


@pytest.mark.parametrize("operation", ["SaveV2", "RestoreV2"])
def test_an_operation_is_not_the_savers_for_its_name(
    operation: str, graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    graph.meta_graphs[0].graph_def.node.add(name="save/added", op=operation)
    assert judge(graph) == [f"{operation} in the main graph"]


def test_a_signature_may_not_give_what_the_saver_reads(
    graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    signature = graph.meta_graphs[0].signature_def["serving_default"]
    next(iter(signature.outputs.values())).name = "save/restore:3"
    assert judge(graph) == ["RestoreV2 in the main graph"]


@pytest.mark.parametrize("caret", ["", "^"], ids=["value", "control"])
def test_a_call_may_not_wait_for_the_saver(
    caret: str, graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    nodes = graph.meta_graphs[0].graph_def.node
    (call,) = [node for node in nodes if node.op == "StatefulPartitionedCall"]
    call.input.append(f"{caret}save/saved")
    assert judge(graph) == ["Identity in the main graph", "SaveV2 in the main graph"]


def test_a_signature_may_not_give_it_in_parts(
    graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    signature = graph.meta_graphs[0].signature_def["serving_default"]
    next(iter(signature.outputs.values())).coo_sparse.values_tensor_name = "save/restore:3"
    assert judge(graph) == ["RestoreV2 in the main graph"]


def test_restoring_may_not_save(graph: Any, judge: Callable[[Any], list[str]]) -> None:
    """A session restores whatever it loads."""
    (node,) = [n for n in graph.meta_graphs[0].graph_def.node if n.name == "save/restored"]
    node.input.append("^save/save")
    assert judge(graph) == ["SaveV2 in the main graph"]


@pytest.mark.parametrize("name", ["save/save", "save/restore"])
def test_the_saver_may_not_choose_its_file(
    name: str, graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    nodes = graph.meta_graphs[0].graph_def.node
    nodes.add(name="chosen", op="Const")
    (node,) = [node for node in nodes if node.name == name]
    node.input[0] = "chosen"
    assert judge(graph) == [f"{node.op} in the main graph"]


def test_a_file_name_that_two_nodes_may_give_is_not_from_outside(
    graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    graph.meta_graphs[0].graph_def.node.add(name="save/prefix", op="Const")
    assert judge(graph) == ["RestoreV2 in the main graph", "SaveV2 in the main graph"]


def test_what_runs_when_a_model_is_loaded_may_not_touch_files(
    graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    collections = graph.meta_graphs[0].collection_def
    collections["saved_model_main_op"].node_list.value[:] = ["save/saved"]
    assert judge(graph) == ["Identity in the main graph", "SaveV2 in the main graph"]


def test_nodes_that_wait_for_each_other_are_looked_at_once(
    graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    nodes = graph.meta_graphs[0].graph_def.node
    nodes.add(name="one", op="NoOp", input=["^other"])
    nodes.add(name="other", op="ReadFile", input=["^one"])
    graph.meta_graphs[0].saver_def.restore_op_name = "one"
    assert judge(graph) == ["ReadFile in the main graph", "RestoreV2 in the main graph"]


def test_a_function_nobody_calls_is_looked_at(
    graph: Any, judge: Callable[[Any], list[str]]
) -> None:
    added = graph.meta_graphs[0].graph_def.library.function.add()
    added.signature.name = "unused"
    added.node_def.add(name="added", op="ReadFile")
    assert judge(graph) == ["ReadFile in unused"]


def test_a_second_meta_graph_is_looked_at(graph: Any, judge: Callable[[Any], list[str]]) -> None:
    graph.meta_graphs.add().graph_def.node.add(name="added", op="ReadFile")
    assert judge(graph) == ["ReadFile in the main graph"]


def test_files_and_python_are_found_in_nested_functions(tmp_path: Path) -> None:
    """As TensorFlow itself saves them."""

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)  # type: ignore[untyped-decorator]
    def inner(path: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(path)

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)  # type: ignore[untyped-decorator]
    def outer(path: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda content: content, [inner(path)], tf.string)

    model = tf.train.Checkpoint()
    model.__call__ = outer
    with without_saver():
        tf.saved_model.save(model, str(tmp_path), signatures=outer)
    make_canonical(tmp_path)
    _, found = forbidden_operations(tmp_path / "saved_model.pb", NETWORK_OPERATIONS)
    assert {finding.split("_")[0] for finding in found} == {
        "EagerPyFunc in ",
        "ReadFile in ",
    }

"""A SavedModel saves and restores its variables in a session, as programs of TensorFlow 1 do."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.checkpoint import functional_saver

from publisher.formats.saved_model.saver import SCOPE, without_saver

v1 = tf.compat.v1
PUBLISHED = pytest.mark.parametrize(
    "directory", ["classifier", "feature_extractor", "folded_classifier"]
)


def read(directory: Path) -> Any:
    content = (directory / "saved_model.pb").read_bytes()
    return saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]


@pytest.fixture
def published(directory: str, request: pytest.FixtureRequest) -> Path:
    """A SavedModel as it is published."""
    path: Path = request.getfixturevalue(directory)
    return path


@PUBLISHED
def test_it_saves_everything_and_restores_every_variable(directory: str, published: Path) -> None:
    nodes = {node.op: node for node in read(published).graph_def.node}
    types = {
        op: Counter(map(types_pb2.DataType.Name, nodes[op].attr["dtypes"].list.type))
        for op in ("SaveV2", "RestoreV2")
    }
    variables = {"DT_FLOAT": 61 if directory == "feature_extractor" else 63, "DT_INT64": 1}
    assert types == {"SaveV2": {**variables, "DT_STRING": 1}, "RestoreV2": variables}


@PUBLISHED
def test_no_function_saves_or_restores(published: Path) -> None:
    """A client would make it when it loads, and never call it."""
    meta_graph = read(published)
    inside = {node.op for f in meta_graph.graph_def.library.function for node in f.node_def}
    assert not inside & {"SaveV2", "RestoreV2", "AssignVariableOp", "DisableCopyOnRead"}
    calls = [n for n in meta_graph.graph_def.node if n.op == "StatefulPartitionedCall"]
    assert len(calls) == 1  # the signature


@PUBLISHED
def test_its_operations_are_among_those_that_the_graph_is_said_to_use(published: Path) -> None:
    meta_graph = read(published)
    listed = [operation.name for operation in meta_graph.meta_info_def.stripped_op_list.op]
    assert listed == sorted(set(listed))
    assert {node.op for node in meta_graph.graph_def.node} <= set(listed)


@PUBLISHED
def test_a_session_loads_it_and_saves_the_same(published: Path, tmp_path: Path) -> None:
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 48, 40, 3)).astype(np.float32)
    with tf.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.loader.load(session, ["serve"], str(published))
        signature = meta_graph.signature_def["serving_default"]
        ((output, result),) = signature.outputs.items()
        measured = session.run(result.name, {signature.inputs["images"].name: batch})
        saver = meta_graph.saver_def
        prefix = str(tmp_path / "again")
        path = session.run(saver.save_tensor_name, {saver.filename_tensor_name: prefix})
    assert path.decode() == prefix
    serve = tf.saved_model.load(str(published)).signatures["serving_default"]
    np.testing.assert_array_equal(measured, serve(images=tf.constant(batch))[output])

    before = tf.train.load_checkpoint(f"{published}/variables/variables")
    after = tf.train.load_checkpoint(prefix)
    keys = set(before.get_variable_to_shape_map())
    assert set(after.get_variable_to_shape_map()) == keys
    for key in keys:
        np.testing.assert_array_equal(after.get_tensor(key), before.get_tensor(key), err_msg=key)


def test_a_session_restores_what_it_has_changed(classifier: Path) -> None:
    bias = "resnet/head/conv2d/bias"
    with tf.Graph().as_default(), v1.Session() as session:
        saver = v1.saved_model.loader.load(session, ["serve"], str(classifier)).saver_def
        handle = session.graph.get_tensor_by_name(f"{bias}:0")
        value = session.graph.get_tensor_by_name(f"{bias}/Read/ReadVariableOp:0")
        before = session.run(value)
        session.run(tf.raw_ops.AssignVariableOp(resource=handle, value=before + 1.0))
        np.testing.assert_array_equal(session.run(value), before + 1.0)
        where = {saver.filename_tensor_name: f"{classifier}/variables/variables"}
        session.run(saver.restore_op_name, where)
        np.testing.assert_array_equal(session.run(value), before)


def test_what_tensorflow_loads_it_can_save_again(classifier: Path, tmp_path: Path) -> None:
    images = tf.constant(np.random.default_rng(0).uniform(-1, 1, (1, 40, 40, 3)), tf.float32)
    model = tf.saved_model.load(str(classifier))
    tf.saved_model.save(model, str(tmp_path / "again"))
    again = tf.saved_model.load(str(tmp_path / "again"))
    np.testing.assert_array_equal(again(images), model(images))
    with tf.Graph().as_default(), v1.Session() as session:
        v1.saved_model.loader.load(session, ["serve"], str(tmp_path / "again"))


def test_tensorflow_has_its_own_saver_back_even_after_an_error(tmp_path: Path) -> None:
    theirs = functional_saver.MultiDeviceSaver.to_proto
    with pytest.raises(ZeroDivisionError), without_saver():
        assert functional_saver.MultiDeviceSaver.to_proto is not theirs
        raise ZeroDivisionError
    assert functional_saver.MultiDeviceSaver.to_proto is theirs
    model = tf.train.Checkpoint(variable=tf.Variable(1.0))
    tf.saved_model.save(model, str(tmp_path))
    assert not read(tmp_path).saver_def.restore_op_name.startswith(SCOPE)
    assert read(tmp_path).saver_def.restore_op_name

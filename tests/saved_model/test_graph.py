"""The graph is saved without the weights; what comes of it is as if it had been with them."""

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from publisher.bit import BitArchitecture, network
from publisher.saved_model import bundle
from publisher.saved_model.canonical import make_canonical
from publisher.saved_model.gradients import custom_gradients_forgotten
from publisher.saved_model.graph import save_hollow

Weights = dict[str, npt.NDArray[np.float32]]
Shapes = dict[str, tuple[int, ...]]

MEGABYTE = 1 << 20
COUNTER = "save_counter/.ATTRIBUTES/VARIABLE_VALUE"


def save(
    architecture: BitArchitecture, shapes: Shapes, directory: Path, *, folded: bool = False
) -> tuple[dict[str, str], dict[str, Any]]:
    with custom_gradients_forgotten():
        return save_hollow(
            architecture,
            shapes,
            output="logits",
            input_range=(-1.0, 1.0),
            assets=[],
            folded=folded,
            directory=directory,
        )


@pytest.fixture(scope="module")
def shapes(arrays: Weights) -> Shapes:
    return {name: array.shape for name, array in arrays.items()}


@pytest.fixture(scope="module")
def hollow(
    architecture: BitArchitecture, shapes: Shapes, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str], dict[str, Any]]:
    """A SavedModel without values, the keys of its arrays, and what else it needs."""
    directory = tmp_path_factory.mktemp("hollow") / "saved_model"
    return directory, *save(architecture, shapes, directory)


def read(directory: Path) -> Any:
    content = (directory / "saved_model.pb").read_bytes()
    return saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]


# Memory.


def resident() -> int:
    """Return how many bytes of this process are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_half_a_gigabyte_of_weights_takes_no_memory_and_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = BitArchitecture("wide", (1, 1, 1, 1), 256)
    shapes = wide.arrays(10)
    assert sum(4 * math.prod(shape) for shape in shapes.values()) > 450 * MEGABYTE
    found: list[int] = []
    tensorflows_own = tf.saved_model.save

    def watched(model: Any, *arguments: Any, **options: Any) -> None:
        assert [tuple(variable.shape) for variable in model.variables] == list(shapes.values())
        found.append(resident())
        tensorflows_own(model, *arguments, **options)
        found.append(resident())

    monkeypatch.setattr(tf.saved_model, "save", watched)
    before = resident()
    save(wide, shapes, tmp_path / "saved_model")
    assert max(found) - before < 200 * MEGABYTE
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2 * MEGABYTE


# What is saved.


def test_the_variables_have_the_names_and_shapes_that_were_given(
    architecture: BitArchitecture, shapes: Shapes, hollow: tuple[Path, Any, Any]
) -> None:
    saved = [
        (node.variable.name, tuple(dimension.size for dimension in node.variable.shape.dim))
        for node in read(hollow[0]).object_graph_def.nodes
        if node.WhichOneof("kind") == "variable" and node.variable.name in shapes
    ]
    assert saved == list(shapes.items())


def test_each_array_has_its_key_in_the_order_of_the_arrays(
    hollow: tuple[Path, dict[str, str], Any], arrays: Weights, classifier: Path
) -> None:
    _, keys, _ = hollow
    assert list(keys) == list(arrays)
    reader = tf.train.load_checkpoint(str(classifier / "variables" / "variables"))
    for name, key in keys.items():
        np.testing.assert_array_equal(reader.get_tensor(key), arrays[name], err_msg=name)


def test_nothing_else_is_in_the_checkpoint_than_a_counter_and_the_objects(
    hollow: tuple[Path, dict[str, str], dict[str, Any]],
) -> None:
    directory, _, others = hollow
    assert set(others) == {COUNTER, bundle.OBJECT_GRAPH}
    assert (others[COUNTER].dtype, others[COUNTER].shape) == (np.int64, ())
    assert type(others[bundle.OBJECT_GRAPH]) is bytes
    written = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    assert set(written.get_variable_to_shape_map()) == set(others)


def test_it_cannot_be_loaded_before_the_values_are_there(hollow: tuple[Path, Any, Any]) -> None:
    with pytest.raises(FileNotFoundError, match="not found in checkpoint"):
        tf.saved_model.load(str(hollow[0]))


@pytest.mark.parametrize("folded", [False, True], ids=["standardizing", "folded"])
def test_it_is_what_tensorflow_saves_of_a_network_with_its_weights(
    folded: bool,
    architecture: BitArchitecture,
    arrays: Weights,
    shapes: Shapes,
    tmp_path: Path,
) -> None:
    """All but the values: the graph, the keys, and what else is in the checkpoint."""
    keys, others = save(architecture, shapes, tmp_path / "ours", folded=folded)
    with custom_gradients_forgotten():
        model, signature = network.build(architecture, arrays, (-1.0, 1.0), "logits", folded=folded)
        model.assets = []
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
        tf.saved_model.save(model, str(tmp_path / "theirs"), signature, options)
    for name in ("ours", "theirs"):
        make_canonical(tmp_path / name)
    graphs = [(tmp_path / name / "saved_model.pb").read_bytes() for name in ("ours", "theirs")]
    assert graphs[0] == graphs[1]
    theirs = tf.train.load_checkpoint(str(tmp_path / "theirs" / "variables" / "variables"))
    assert set(theirs.get_variable_to_shape_map()) == {*keys.values(), *others}
    assert {key: theirs.get_tensor(key) for key in others} == others
    for name, key in keys.items():
        np.testing.assert_array_equal(theirs.get_tensor(key), arrays[name], err_msg=name)


# Saving and restoring, as programs of TensorFlow 1 do.


@pytest.mark.parametrize("directory", ["classifier", "feature_extractor", "folded_classifier"])
def test_its_own_functions_save_and_restore_every_variable(
    directory: str, request: pytest.FixtureRequest
) -> None:
    meta_graph = read(request.getfixturevalue(directory))
    functions = {f.signature.name: f.node_def for f in meta_graph.graph_def.library.function}
    saver = meta_graph.saver_def
    types: dict[str, Counter[str]] = {}
    for entrance in (saver.save_tensor_name.partition(":")[0], saver.restore_op_name):
        (node,) = [node for node in meta_graph.graph_def.node if node.name == entrance]
        for inner in functions[node.attr["f"].func.name]:
            if inner.op in ("SaveV2", "RestoreV2"):
                found = inner.attr["dtypes"].list.type
                types[inner.op] = Counter(map(types_pb2.DataType.Name, found))
    arrays = 61 if directory == "feature_extractor" else 63
    everything = {"DT_FLOAT": arrays, "DT_INT64": 1, "DT_STRING": 1}
    assert types == {"SaveV2": everything, "RestoreV2": everything}


@pytest.mark.parametrize("directory", ["classifier", "folded_classifier"])
def test_a_program_of_tensorflow_1_loads_it_and_saves_the_same(
    directory: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    saved_model = str(request.getfixturevalue(directory))
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 48, 40, 3)).astype(np.float32)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.loader.load(session, ["serve"], saved_model)
        signature = meta_graph.signature_def["serving_default"]
        images, logits = signature.inputs["images"].name, signature.outputs["logits"].name
        result = session.run(logits, {images: batch})
        saver = meta_graph.saver_def
        prefix = str(tmp_path / "again")
        session.run(saver.save_tensor_name, {saver.filename_tensor_name: prefix})
    serve = tf.saved_model.load(saved_model).signatures["serving_default"]
    np.testing.assert_array_equal(result, serve(images=tf.constant(batch))["logits"])

    before = tf.train.load_checkpoint(f"{saved_model}/variables/variables")
    after = tf.train.load_checkpoint(prefix)
    keys = set(before.get_variable_to_shape_map())
    assert set(after.get_variable_to_shape_map()) == keys
    for key in keys:
        np.testing.assert_array_equal(after.get_tensor(key), before.get_tensor(key), err_msg=key)

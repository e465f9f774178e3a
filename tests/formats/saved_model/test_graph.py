"""The graph is saved without the weights; what comes of it is as if it had been with them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import save_context

from publisher.families.bit import BitArchitecture, network
from publisher.formats.saved_model import bundle
from publisher.formats.saved_model.canonical import make_canonical
from publisher.formats.saved_model.graph import save_without_weights
from publisher.formats.saved_model.saver import add_saver, without_saver
from publisher.util.memory import resident_bytes

Weights = dict[str, npt.NDArray[np.float32]]
Shapes = dict[str, tuple[int, ...]]

MEGABYTE = 1 << 20
COUNTER = "save_counter/.ATTRIBUTES/VARIABLE_VALUE"


def save(
    architecture: BitArchitecture, shapes: Shapes, directory: Path, *, folded: bool = False
) -> tuple[dict[str, str], dict[str, Any]]:
    return save_without_weights(
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
        found.append(resident_bytes())
        tensorflows_own(model, *arguments, **options)
        found.append(resident_bytes())

    monkeypatch.setattr(tf.saved_model, "save", watched)
    before = resident_bytes()
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
    options = tf.saved_model.SaveOptions()
    with save_context.save_context(options):
        model, signature = network.build(architecture, arrays, (-1.0, 1.0), "logits", folded=folded)
    model.assets = []
    with without_saver():
        tf.saved_model.save(model, str(tmp_path / "theirs"), signature, options)
    add_saver(
        tmp_path / "theirs",
        {**keys, "save_counter": COUNTER},
        {bundle.OBJECT_GRAPH: others[bundle.OBJECT_GRAPH]},
    )
    for name in ("ours", "theirs"):
        make_canonical(tmp_path / name)
    graphs = [(tmp_path / name / "saved_model.pb").read_bytes() for name in ("ours", "theirs")]
    assert graphs[0] == graphs[1]
    theirs = tf.train.load_checkpoint(str(tmp_path / "theirs" / "variables" / "variables"))
    assert set(theirs.get_variable_to_shape_map()) == {*keys.values(), *others}
    assert {key: theirs.get_tensor(key) for key in others} == others
    for name, key in keys.items():
        np.testing.assert_array_equal(theirs.get_tensor(key), arrays[name], err_msg=name)

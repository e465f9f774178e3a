from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from publisher.build.workers import convert, run_alone
from publisher.families import Architecture
from publisher.families.bit import reference
from publisher.formats.archive import members, pack
from publisher.formats.saved_model.export import ExportError, export
from publisher.weights import WeightsError
from tests.disks import disk_that_ends_at


@pytest.fixture(scope="module")
def again(
    architecture: Architecture,
    arrays: dict[str, npt.NDArray[np.float32]],
    class_names_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A second export with everything else another: folders, the file, the hash seed."""
    folder = tmp_path_factory.mktemp("quite_another_folder")
    asset = folder / "deeper" / class_names_file.name
    asset.parent.mkdir()
    asset.write_bytes(class_names_file.read_bytes())
    weights = folder / "weights.npz"
    np.savez(weights, allow_pickle=False, **dict(reversed(arrays.items())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "12345")
        patch.setenv("TZ", "Pacific/Kiritimati")
        run_alone(
            convert,
            weights,
            architecture,
            classes=10,
            head="classifier",
            output="logits",
            input_range=(-1.0, 1.0),
            assets=[asset],
            directory=folder / "exported",
        )
    return folder / "exported"


def test_two_exports_are_the_same_byte_for_byte(classifier: Path, again: Path) -> None:
    assert members(again) == members(classifier)
    for name in members(classifier):
        assert (again / name).read_bytes() == (classifier / name).read_bytes(), name


def test_and_so_are_their_archives(classifier_archive: Path, again: Path, tmp_path: Path) -> None:
    pack(again, tmp_path / "model.tar.gz")
    assert (tmp_path / "model.tar.gz").read_bytes() == classifier_archive.read_bytes()


def test_knows_nothing_of_the_machine_it_was_made_on(
    classifier: Path, weights_file: Path, class_names_file: Path
) -> None:
    graph = (classifier / "saved_model.pb").read_bytes()
    project = Path(__file__).parents[3]
    for path in (classifier, weights_file, class_names_file, project, project / ".venv"):
        assert str(path).encode() not in graph
        assert str(path.parent).encode() not in graph


def test_writes_a_saved_model_and_nothing_else(classifier: Path, feature_extractor: Path) -> None:
    plain = [
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert members(classifier) == ["assets/names.txt", *plain]
    assert members(feature_extractor) == plain


def test_assets_come_along_unchanged_under_their_own_names(
    classifier: Path, class_names_file: Path
) -> None:
    expected = class_names_file.read_bytes()
    assert (classifier / "assets" / "names.txt").read_bytes() == expected
    (asset,) = tf.saved_model.load(str(classifier)).assets
    path: Any = asset.asset_path.numpy()
    assert Path(path.decode()) == classifier / "assets" / "names.txt"


def test_a_missing_asset_stops_the_export(
    architecture: Architecture, arrays: dict[str, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    """TensorFlow itself would leave it out without a word."""
    with pytest.raises(ExportError, match=r"nowhere\.txt: does not exist, .*; restore it, or"):
        export(
            architecture,
            arrays,
            output="logits",
            input_range=(-1.0, 1.0),
            assets=[tmp_path / "nowhere.txt"],
            directory=tmp_path / "saved_model",
        )
    assert not (tmp_path / "saved_model").exists()


def test_a_disk_that_fills_up_is_told_although_the_graph_was_traced(
    architecture: Architecture, arrays: dict[str, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    """Weights are written beside the tracing; their error must not get lost there."""
    size = 4 << 20  # enough for the graph, and for half of the weights
    with disk_that_ends_at(size), pytest.raises(OSError, match="too large"):
        export(
            architecture,
            arrays,
            output="logits",
            input_range=(-1.0, 1.0),
            assets=[],
            directory=tmp_path / "saved_model",
        )
    assert (tmp_path / "saved_model" / "saved_model.pb").stat().st_size < size
    assert sum(array.nbytes for array in arrays.values()) > size
    with pytest.raises(OSError, match=r"not found|does not exist|No such file"):
        tf.saved_model.load(str(tmp_path / "saved_model"))


def test_weights_that_cannot_be_read_stop_the_export(
    architecture: Architecture, arrays: dict[str, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    class Damaged(dict[str, npt.NDArray[np.float32]]):
        def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
            if name == "resnet/group_norm/gamma":
                raise WeightsError("small.npz: damaged; get it again")
            return super().__getitem__(name)

    with pytest.raises(WeightsError, match="damaged; get it again"):
        export(
            architecture,
            Damaged(arrays),
            output="logits",
            input_range=(-1.0, 1.0),
            assets=[],
            directory=tmp_path / "saved_model",
            folded=True,
        )


def test_another_process_exports_the_same_bytes(
    architecture: Architecture,
    arrays: dict[str, npt.NDArray[np.float32]],
    class_names_file: Path,
    classifier: Path,
    tmp_path: Path,
) -> None:
    """TensorFlow's own counters have gone on here; nothing of them is left in the files."""
    tf.function(lambda: tf.constant(0.0)).get_concrete_function()
    export(
        architecture,
        arrays,
        output="logits",
        input_range=(-1.0, 1.0),
        assets=[class_names_file],
        directory=tmp_path / "again",
    )
    for name in members(classifier):
        assert (tmp_path / "again" / name).read_bytes() == (classifier / name).read_bytes(), name


def test_no_function_holds_one_constant_twice(classifier: Path) -> None:
    message = saved_model_pb2.SavedModel.FromString((classifier / "saved_model.pb").read_bytes())
    captured = {
        node.captured_tensor.name.partition(":")[0]
        for node in message.meta_graphs[0].object_graph_def.nodes
        if node.WhichOneof("kind") == "captured_tensor"
    }
    for function in message.meta_graphs[0].graph_def.library.function:
        constants = [
            (node.attr["value"].SerializeToString(deterministic=True), tuple(node.input))
            for node in function.node_def
            if node.op == "Const" and node.name not in captured
        ]
        assert len(constants) == len(set(constants)), function.signature.name


# --- weight standardization folded into the kernels ---


def functions_of(directory: Path) -> list[Any]:
    """Return the functions in the graph of a SavedModel."""
    message = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    return list(message.meta_graphs[0].graph_def.library.function)


def filters_of(directory: Path) -> set[str]:
    """Return what the kernels of all convolutions come from: an operation, or `argument`."""
    found = set()
    for function in functions_of(directory):
        made = {node.name: node.op for node in function.node_def}
        for node in function.node_def:
            if node.op == "Conv2D":
                found.add(made.get(node.input[1].partition(":")[0], "argument"))
    return found


def operations_of(directory: Path) -> Counter[str]:
    """Count the operations in all functions."""
    return Counter(node.op for function in functions_of(directory) for node in function.node_def)


def test_a_folded_graph_standardizes_nothing(classifier: Path, folded_classifier: Path) -> None:
    """Its convolutions read the kernels as they are stored; only group norms take a root."""
    assert filters_of(folded_classifier) <= {"argument", "ReadVariableOp"}
    assert not filters_of(classifier) <= {"argument", "ReadVariableOp"}
    folded, computed = operations_of(folded_classifier), operations_of(classifier)
    assert folded["Square"] == 0
    # Those of five kinds of units, of their projections, and of the stem.
    kernels = 5 * 3 + 4 + 1
    assert computed["Square"] == kernels
    assert computed["Rsqrt"] - folded["Rsqrt"] == kernels


@pytest.mark.parametrize("model", ["classifier", "folded_classifier"])
def test_a_graph_has_no_gradient_written_by_hand(
    model: str, request: pytest.FixtureRequest
) -> None:
    by_hand = {"Conv2DBackpropFilter", "Conv2DBackpropInput", "IdentityN", "ReluGrad"}
    assert not operations_of(request.getfixturevalue(model)).keys() & by_hand


def test_a_folded_graph_has_each_kind_of_unit_once(folded_classifier: Path) -> None:
    """Of six units two are of a kind."""
    units = [f for f in functions_of(folded_classifier) if "residual_unit" in f.signature.name]
    assert len(units) == 5


def test_a_folded_model_lists_its_variables_and_trains_none(
    folded_classifier: Path, arrays: dict[str, npt.NDArray[np.float32]]
) -> None:
    loaded = tf.saved_model.load(str(folded_classifier))
    assert list(loaded.trainable_variables) == []
    assert list(loaded.regularization_losses) == []
    names = [variable.name.removesuffix(":0") for variable in loaded.variables]
    assert names == list(arrays)
    for name, variable in zip(names, loaded.variables, strict=True):
        assert not variable.trainable
        expected = reference.folded(name, arrays[name])
        np.testing.assert_array_equal(variable.numpy(), expected, err_msg=name)


def test_a_folded_model_answers_as_the_other_one_does(
    classifier: Path, folded_classifier: Path, arrays: dict[str, npt.NDArray[np.float32]]
) -> None:
    """Through every way in: `training` either way, and the signature."""
    folded, computed = (
        tf.saved_model.load(str(directory)) for directory in (folded_classifier, classifier)
    )
    batch = np.random.default_rng(8).uniform(-1, 1, (2, 64, 48, 3)).astype(np.float32)
    truth = reference.logits(arrays, reference.features(arrays, batch))
    signature = folded.signatures["serving_default"]
    assert signature.structured_outputs == {
        "logits": tf.TensorSpec((None, 10), tf.float32, "logits")
    }
    close = {"rtol": 0, "atol": 1e-5 * np.abs(truth).max()}
    for answer in (
        folded(batch),
        folded(batch, training=False),
        folded(batch, training=True),
        signature(images=tf.constant(batch))["logits"],
    ):
        np.testing.assert_allclose(answer, truth, **close)
        np.testing.assert_allclose(answer, computed(batch), **close)


def test_a_folded_model_has_gradients_with_respect_to_images(
    folded_classifier: Path, arrays: dict[str, npt.NDArray[np.float32]]
) -> None:
    """Along a random direction, as differences of the float64 reference have it."""
    random = np.random.default_rng(8)
    batch = random.uniform(-1, 1, (1, 40, 32, 3)).astype(np.float32)
    direction = random.normal(size=batch.shape)
    loaded, images = tf.saved_model.load(str(folded_classifier)), tf.constant(batch)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logit = loaded(images)[0, 3]
    gradient = tape.gradient(logit, images).numpy()
    step = 1e-6
    ends = [
        reference.logits(arrays, reference.features(arrays, batch + sign * step * direction))[0, 3]
        for sign in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * step)
    assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-3)


def test_a_folded_export_is_the_same_byte_for_byte(
    architecture: Architecture,
    arrays: dict[str, npt.NDArray[np.float32]],
    class_names_file: Path,
    folded_classifier: Path,
    tmp_path: Path,
) -> None:
    """In another process, twice in one, and whatever the order of the arrays in memory is."""
    for number, order in enumerate((np.ascontiguousarray, np.asfortranarray)):
        export(
            architecture,
            {name: order(array) for name, array in arrays.items()},
            output="logits",
            input_range=(-1.0, 1.0),
            assets=[class_names_file],
            directory=tmp_path / str(number),
            folded=True,
        )
        assert members(tmp_path / str(number)) == members(folded_classifier)
        for name in members(folded_classifier):
            found = (tmp_path / str(number) / name).read_bytes()
            assert found == (folded_classifier / name).read_bytes(), name

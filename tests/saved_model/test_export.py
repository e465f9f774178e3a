from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from publisher.architectures import Architecture
from publisher.package import members, pack
from publisher.pipeline.workers import convert, run_alone
from publisher.saved_model.export import ExportError, export


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
    project = Path(__file__).parents[2]
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
    assert members(classifier) == ["assets/class_names.txt", *plain]
    assert members(feature_extractor) == plain


def test_assets_come_along_unchanged_under_their_own_names(
    classifier: Path, class_names_file: Path
) -> None:
    expected = class_names_file.read_bytes()
    assert (classifier / "assets" / "class_names.txt").read_bytes() == expected
    (asset,) = tf.saved_model.load(str(classifier)).assets
    path: Any = asset.asset_path.numpy()
    assert Path(path.decode()) == classifier / "assets" / "class_names.txt"


def test_a_missing_asset_stops_the_export(
    architecture: Architecture, arrays: dict[str, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    """TensorFlow itself would leave it out without a word."""
    with pytest.raises(ExportError, match=r"nowhere\.txt: .* is not there; put it there, or"):
        export(
            architecture,
            arrays,
            output="logits",
            input_range=(-1.0, 1.0),
            assets=[tmp_path / "nowhere.txt"],
            directory=tmp_path / "saved_model",
        )
    assert not (tmp_path / "saved_model").exists()


def test_the_same_process_exports_the_same_bytes_again(
    architecture: Architecture,
    arrays: dict[str, npt.NDArray[np.float32]],
    class_names_file: Path,
    classifier: Path,
    tmp_path: Path,
) -> None:
    """TensorFlow's own counters go on; nothing of them is left in the files."""
    for number in range(2):
        export(
            architecture,
            arrays,
            output="logits",
            input_range=(-1.0, 1.0),
            assets=[class_names_file],
            directory=tmp_path / str(number),
        )
        for name in members(classifier):
            found = (tmp_path / str(number) / name).read_bytes()
            assert found == (classifier / name).read_bytes(), name


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

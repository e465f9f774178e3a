import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

from publisher.formats.saved_model import fingerprint


def read(directory: Path) -> fingerprint_pb2.FingerprintDef:
    content = (directory / "fingerprint.pb").read_bytes()
    return fingerprint_pb2.FingerprintDef.FromString(content)


@pytest.fixture
def copy(classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "copy"))


def test_the_uuid_is_a_custom_one(classifier: Path) -> None:
    found = uuid.UUID(read(classifier).uuid)
    assert (found.version, found.variant) == (8, uuid.RFC_4122)
    assert read(classifier).uuid == str(found)


def test_the_uuid_does_not_follow_from_what_stood_there(copy: Path, classifier: Path) -> None:
    message = read(copy)
    message.uuid = str(uuid.uuid4())
    (copy / "fingerprint.pb").write_bytes(message.SerializeToString())
    fingerprint.make_reproducible(copy)
    expected = (classifier / "fingerprint.pb").read_bytes()
    assert (copy / "fingerprint.pb").read_bytes() == expected


def test_keeps_what_tensorflow_measured(tmp_path: Path) -> None:
    model = tf.train.Checkpoint(variable=tf.Variable(1.0))
    tf.saved_model.save(model, str(tmp_path))
    before = read(tmp_path)
    fingerprint.make_reproducible(tmp_path)
    after = read(tmp_path)
    assert after.uuid != before.uuid
    before.uuid = after.uuid
    assert after == before
    assert after.saved_model_checksum
    loaded = tf.saved_model.experimental.read_fingerprint(str(tmp_path))
    assert loaded.saved_model_checksum == after.saved_model_checksum


def change_graph(directory: Path) -> None:
    path = directory / "saved_model.pb"
    path.write_bytes(path.read_bytes().replace(b"training", b"Training", 1))


def change_index(directory: Path) -> None:
    path = directory / "variables" / "variables.index"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_asset(directory: Path) -> None:
    path = directory / "assets" / "names.txt"
    path.write_text(path.read_text().replace("class 3", "class three"))


def rename_asset(directory: Path) -> None:
    path = directory / "assets" / "names.txt"
    path.rename(path.with_name("labels.txt"))


def remove_asset(directory: Path) -> None:
    (directory / "assets" / "names.txt").unlink()


def add_extra_asset(directory: Path) -> None:
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "note.txt").write_text("")


@pytest.mark.parametrize(
    "change",
    [change_graph, change_index, change_asset, rename_asset, remove_asset, add_extra_asset],
)
def test_another_content_gives_another_uuid(
    change: Callable[[Path], None], copy: Path, classifier: Path
) -> None:
    change(copy)
    fingerprint.make_reproducible(copy)
    assert read(copy).uuid != read(classifier).uuid


def test_one_other_weight_gives_another_uuid(tmp_path: Path) -> None:
    """Its value stands in the shards only, its checksum in the index."""
    found = []
    value = np.linspace(0, 1, 100_000, dtype=np.float32)
    for directory in (tmp_path / "first", tmp_path / "second"):
        model = tf.train.Checkpoint(variable=tf.Variable(value))
        tf.saved_model.save(model, str(directory))
        fingerprint.make_reproducible(directory)
        found.append(read(directory))
        value[12_345] = np.nextafter(value[12_345], np.float32(2))
    first, second = found
    assert first.graph_def_program_hash == second.graph_def_program_hash
    assert first.uuid != second.uuid

"""One archive. The hostile ones are small; what is good was really exported."""

import gzip
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorflow.core.protobuf import saved_model_pb2

from publisher.families.bit.network import FOLDED_NETWORK_OPERATIONS, NETWORK_OPERATIONS
from publisher.formats.archive import pack
from publisher.util.files import sha256_file
from publisher.verify import archives
from publisher.verify.archives import inspect_graphs
from publisher.verify.findings import Finding
from tests.validation.test_archive import member, special, write
from tests.verify.conftest import flip

HANDLE = "a/b/1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tar.gz"


@pytest.fixture
def with_graph(classifier: Path, path: Path) -> Callable[[Callable[[Any], Any]], Path]:
    """Packs the good classifier with another graph."""

    def change_and_pack(change: Callable[[Any], Any]) -> Path:
        directory = path.with_name("saved_model")
        shutil.copytree(classifier, directory)
        graph = directory / "saved_model.pb"
        message = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
        change(message)
        graph.write_bytes(message.SerializeToString())
        pack(directory, path)
        return path

    return change_and_pack


# digest


def test_an_archive_with_the_stated_digest_and_size_is_the_one_that_is_meant(path: Path) -> None:
    path.write_bytes(b"archive")
    digest = sha256_file(path)
    found = archives.digests({HANDLE: path}, {HANDLE: digest}, {HANDLE: (7, digest)})
    assert found == Finding(
        "proved", "digest", f"1 archive as its manifest states: SHA-256 {digest}"
    )


def test_another_digest_and_another_size_are_told_apart(path: Path) -> None:
    path.write_bytes(b"archive")
    digest = sha256_file(path)
    there = {HANDLE: path}, {HANDLE: digest}
    other = archives.digests(*there, {HANDLE: (7, "0" * 64)})
    assert other == Finding(
        "failed", "digest", f"{HANDLE}: other bytes than the manifest describes"
    )
    longer = archives.digests(*there, {HANDLE: (1234, digest)})
    assert longer.detail == f"{HANDLE}: 7 bytes where the manifest states 1,234"


# archive


def test_a_packed_saved_model_is_safe(classifier_archive: Path) -> None:
    assert archives.safety({HANDLE: classifier_archive}).status == "proved"


@pytest.mark.parametrize(
    "extra",
    [
        special("assets", tarfile.SYMTYPE, "/etc"),
        special("fingerprint.pb", tarfile.LNKTYPE, "saved_model.pb"),
        special("fingerprint.pb", tarfile.FIFOTYPE),
        member("../escaped", b"x"),
        member("/etc/cron.d/x", b"x"),
        member("code.py", b"x"),
        member("saved_model.pb", b"another"),
    ],
    ids=lambda extra: extra[0].name,
)
def test_a_hostile_member_is_named(extra: tuple[tarfile.TarInfo, bytes | None], path: Path) -> None:
    found = archives.safety({HANDLE: write(path, extra)})
    assert found.status == "failed"
    assert found.detail.startswith(f"{HANDLE}: {extra[0].name!r} ")
    assert not (path.parent / "escaped").exists()


def test_an_archive_that_breaks_off_is_damaged(classifier_archive: Path, path: Path) -> None:
    path.write_bytes(classifier_archive.read_bytes()[:-10])
    found = archives.safety({HANDLE: path})
    assert found.status == "failed"
    assert "the gzip stream breaks off" in found.detail


def test_one_bit_of_the_compressed_data_is_seen(classifier_archive: Path, path: Path) -> None:
    shutil.copy(classifier_archive, path)
    flip(path, path.stat().st_size // 2)
    assert archives.safety({HANDLE: path}).status == "failed"


# operations


def test_a_published_graph_is_counted(classifier_archive: Path) -> None:
    count, found = inspect_graphs({HANDLE: classifier_archive})[HANDLE]
    assert count > 100
    assert found == []


def test_a_process_of_its_own_looks_at_graphs(
    classifier_archive: Path, feature_extractor_archive: Path
) -> None:
    both = {HANDLE: classifier_archive, "a/c/1": feature_extractor_archive}
    total = sum(count for count, _ in inspect_graphs(both).values())
    found = archives.operations(both)
    assert found.status == "proved"
    assert found.detail.startswith(f"{total:,} in the graph, none that reads files")


@pytest.mark.parametrize("operation", sorted(NETWORK_OPERATIONS | FOLDED_NETWORK_OPERATIONS))
def test_what_a_folded_or_another_network_needs_is_allowed(
    operation: str, with_graph: Callable[[Callable[[Any], Any]], Path]
) -> None:
    def add(message: Any) -> None:
        functions = message.meta_graphs[0].graph_def.library.function
        functions[0].node_def.add(name="added", op=operation)

    assert inspect_graphs({HANDLE: with_graph(add)})[HANDLE][1] == []


@pytest.mark.parametrize("operation", ["ReadFile", "WriteFile", "PyFunc", "MadeUpByMe"])
def test_a_forbidden_operation_is_named(
    operation: str, with_graph: Callable[[Callable[[Any], Any]], Path]
) -> None:
    archive = with_graph(
        lambda message: message.meta_graphs[0].graph_def.node.add(name="added", op=operation)
    )
    _, found = inspect_graphs({HANDLE: archive})[HANDLE]
    assert found == [f"{operation} in the main graph"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("_tf_keras_layer", {"identifier": "_tf_keras_layer"}),
        ("_generic_user_object", {"metadata": '{"class_name": "Lambda"}'}),
    ],
)
def test_an_object_that_keras_would_make_is_named(
    name: str, change: dict[str, str], with_graph: Callable[[Callable[[Any], Any]], Path]
) -> None:
    def spoil(message: Any) -> None:
        # A loader of Keras runs Python that is marshalled in the metadata.
        for field, value in change.items():
            setattr(message.meta_graphs[0].object_graph_def.nodes[0].user_object, field, value)

    (count, found) = inspect_graphs({HANDLE: with_graph(spoil)})[HANDLE]
    assert count
    assert found == [f"{name} among the objects, which is more than variables and functions"]


def test_a_registered_object_is_named(with_graph: Callable[[Callable[[Any], Any]], Path]) -> None:
    def spoil(message: Any) -> None:
        message.meta_graphs[0].object_graph_def.nodes[1].registered_name = "Custom.Layer"

    (_, found) = inspect_graphs({HANDLE: with_graph(spoil)})[HANDLE]
    assert found == ["Custom.Layer among the objects, which is more than variables and functions"]


@pytest.mark.parametrize("content", [b"", saved_model_pb2.SavedModel().SerializeToString()])
def test_an_empty_graph_is_none(content: bytes, path: Path) -> None:
    write(path, member("saved_model.pb", content), without="saved_model.pb")
    assert inspect_graphs({HANDLE: path})[HANDLE] == (0, ["saved_model.pb holds no graph"])


def test_what_is_no_graph_is_said_to_be_none(path: Path) -> None:
    _, found = inspect_graphs({HANDLE: write(path)})[HANDLE]
    assert found == ["saved_model.pb holds no graph"]


def test_an_archive_without_a_graph_is_said_to_have_none(path: Path) -> None:
    _, found = inspect_graphs({HANDLE: write(path, without="saved_model.pb")})[HANDLE]
    assert found == ["saved_model.pb is missing"]


def test_a_graph_that_would_fill_the_memory_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST_GRAPH", 4)
    _, found = inspect_graphs({HANDLE: write(path)})[HANDLE]
    assert found == ["saved_model.pb has 5 bytes, more than 4"]


@pytest.mark.parametrize("content", [b"", b"<html>", gzip.compress(b"no tar", mtime=0)])
def test_what_is_no_archive_is_said_to_be_unreadable(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    _, [found] = inspect_graphs({HANDLE: path})[HANDLE]
    assert found.startswith(("cannot be read as a compressed tar", "saved_model.pb is missing"))
    assert archives.safety({HANDLE: path}).status == "failed"

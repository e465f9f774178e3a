"""Archives made again. Conversions are stand-ins; `test_command` really makes one again."""

import gzip
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from publisher.build.stages import toolchain
from publisher.cli.main import main
from publisher.util.files import sha256_file
from publisher.verify import rebuild as rebuild_room
from publisher.verify.findings import Finding
from publisher.verify.rebuild import rebuild
from publisher.verify.targets import Target, target_of
from tests.builds import (
    CLASSIFIER_A,
    EXTRACTOR_A,
    HANDLES,
    Inline,
    Watcher,
    edited,
    project,
    real_weights,
    run_of,
)
from tests.releases import tree
from tests.verify.conftest import edit_json

Again = Callable[..., Finding]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: type[Inline]) -> Path:
    """A project that was published from a directory of weights, with its lock file."""
    folder = tmp_path / "project"
    project(folder)
    real_weights(tmp_path / "weights", ["a", "b"])
    monkeypatch.chdir(folder)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(rebuild_room, "Workers", Inline)
    with pytest.raises(SystemExit) as stopped:
        main(["publish", "--weights", str(tmp_path / "weights"), "--quiet"])
    assert stopped.value.code == 0
    return folder


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def again(folder: Path, tmp_path: Path, watcher: Watcher) -> Again:
    """Makes the archives of what is meant again."""

    def run(
        what: str | Path | None = CLASSIFIER_A, weights: Path = tmp_path / "weights"
    ) -> Finding:
        run = run_of(
            folder / "models.yaml", tmp_path / "again", weights=str(weights), reporter=watcher
        )
        return rebuild(run, target(what, folder))

    return run


def target(what: str | Path | None, folder: Path) -> Target:
    return target_of(what and str(what), str(folder / "dist"), {}, folder)


def test_the_same_weights_give_the_same_bytes(again: Again, tmp_path: Path) -> None:
    assert again() == Finding(
        "proved",
        "rebuild",
        f"made again from the weights in {tmp_path}/weights, byte for byte the same",
    )


def test_a_whole_release_is_made_again_and_nothing_that_needs_no_bytes(
    again: Again, folder: Path, watcher: Watcher
) -> None:
    assert again(None).status == "proved"
    assert dict(watcher.stages) == {"fetch": 2, "convert": 4, "package": 4}


def test_only_what_is_meant_is_made(again: Again, watcher: Watcher) -> None:
    again()
    assert set(watcher.reasons) == {
        ("fetch", "a"),
        ("convert", CLASSIFIER_A),
        ("package", CLASSIFIER_A),
    }


def test_it_is_made_and_not_taken_from_an_earlier_build(
    again: Again, folder: Path, watcher: Watcher
) -> None:
    before = tree(folder)
    again()
    assert ("convert", CLASSIFIER_A) in watcher.reasons
    assert tree(folder) == before


def test_other_weights_are_named(again: Again, folder: Path, tmp_path: Path) -> None:
    (folder / "models.lock.yaml").unlink()
    real_weights(tmp_path / "others", ["x", "a"])  # another place in the list, another seed
    found = again(CLASSIFIER_A, tmp_path / "others")
    assert found.status == "failed"
    assert found.detail == (
        f"{CLASSIFIER_A}: other bytes (other weights; other members: variables/variables.index)"
    )
    assert not (folder / "models.lock.yaml").exists()


def test_weights_that_the_lock_file_refuses_are_not_used(
    again: Again, folder: Path, tmp_path: Path
) -> None:
    real_weights(tmp_path / "others", ["x", "a"])
    lock = (folder / "models.lock.yaml").read_bytes()
    found = again(CLASSIFIER_A, tmp_path / "others")
    assert found.status == "failed"
    assert f"{CLASSIFIER_A}: cannot be made again: " in found.detail
    assert "models.lock.yaml records" in found.detail
    assert (folder / "models.lock.yaml").read_bytes() == lock


def test_nothing_is_recorded_and_nothing_advised(
    again: Again, folder: Path, watcher: Watcher
) -> None:
    (folder / "models.lock.yaml").unlink()
    assert again().status == "proved"
    assert watcher.warnings == []
    assert not (folder / "models.lock.yaml").exists()


def test_weights_that_are_not_there_are_named(again: Again, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    found = again(CLASSIFIER_A, tmp_path / "none")
    assert found.status == "failed"
    assert "cannot be made again: " in found.detail
    assert "distill/a.npz: there is no such file" in found.detail


def test_other_members_are_named(again: Again, folder: Path) -> None:
    names = folder / "names.txt"
    names.write_text(names.read_text().replace("class 3", "owl"))
    found = again(None)
    assert found.status == "failed"
    assert f"{CLASSIFIER_A}: other bytes (other members: assets/names.txt)" in found.detail
    assert EXTRACTOR_A not in found.detail


def test_another_toolchain_is_named(again: Again, folder: Path) -> None:
    names = folder / "names.txt"
    names.write_text(names.read_text().replace("class 3", "owl"))
    edit_json(
        folder / "dist" / "models" / CLASSIFIER_A / "manifest.json",
        lambda manifest: manifest["toolchain"].update(tensorflow="2.20.0"),
    )
    found = again()
    here = toolchain()["tensorflow"]
    assert f"tensorflow 2.20.0 there, {here} here; other members" in found.detail


def test_another_toolchain_that_gives_the_same_bytes_does_not_matter(
    again: Again, folder: Path
) -> None:
    edit_json(
        folder / "dist" / "models" / CLASSIFIER_A / "manifest.json",
        lambda manifest: manifest["toolchain"].update(tensorflow="2.20.0"),
    )
    assert again().status == "proved"


def test_the_same_members_in_another_package_are_other_bytes(
    again: Again, folder: Path, tmp_path: Path
) -> None:
    archive = folder / "dist" / "models" / CLASSIFIER_A / "model.tar.gz"
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(archive.with_name("manifest.json"), alone)
    (alone / "model.tar.gz").write_bytes(gzip.compress(gzip.decompress(archive.read_bytes())))
    found = again(alone / "model.tar.gz")
    assert found.detail == (
        f"{CLASSIFIER_A}: other bytes (the same members, packed in another way)"
    )


def test_an_archive_that_cannot_be_read_differs_in_every_member(
    again: Again, folder: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "dist" / "models" / CLASSIFIER_A / "manifest.json", alone)
    (alone / "model.tar.gz").write_text("<html>")
    assert "other members: assets" in again(alone / "model.tar.gz").detail


def test_what_the_registry_does_not_list_cannot_be_made(
    again: Again, folder: Path, watcher: Watcher
) -> None:
    variant = f"  - handle: {CLASSIFIER_A}\n    checkpoint: a\n    head: classifier\n"
    (folder / "models.yaml").write_text(edited((variant, "")))
    found = again()
    assert found == Finding(
        "failed",
        "rebuild",
        f"cannot be made: models.yaml does not list {CLASSIFIER_A}; give the one that it was"
        " published from with --registry",
    )
    assert watcher.reasons == {}


def test_every_handle_that_differs_is_named(
    again: Again, folder: Path, watcher: Watcher, tmp_path: Path
) -> None:
    (folder / "models.lock.yaml").unlink()
    real_weights(tmp_path / "others", ["x", "a", "b"])
    found = again(None, tmp_path / "others")
    assert [handle in found.detail for handle in HANDLES] == [True] * 4


def test_the_digest_of_the_archive_is_the_one_that_was_taken_before(
    folder: Path, tmp_path: Path, watcher: Watcher
) -> None:
    """An archive of gigabytes is read once."""
    found = target(CLASSIFIER_A, folder)
    assert found.digests[CLASSIFIER_A] == sha256_file(found.archives[CLASSIFIER_A])
    gone = replace(found)
    gone.__dict__["digests"] = found.digests
    (folder / "dist" / "models" / CLASSIFIER_A / "model.tar.gz").unlink()
    run = run_of(folder / "models.yaml", tmp_path / "again", weights=str(tmp_path / "weights"))
    assert rebuild(run, gone).status == "proved"

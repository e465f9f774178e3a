"""What a destination holds comes to a new machine: archives over HTTP, or from parts."""

from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from publisher.destinations.base import DestinationError
from publisher.destinations.local.directory import Directory
from publisher.release.errors import ReleaseError
from publisher.release.pull import pull
from publisher.release.sources.web import WebSource
from publisher.util.reporter import Silent
from tests.releases import CLASSIFIER, HANDLES, build, publish, registry_of, tree


@pytest.fixture
def held(tmp_path: Path) -> Directory:
    """A release that somebody published."""
    registry = registry_of(tmp_path / "registry")
    directory = Directory(tmp_path / "held")
    publish(registry, build(registry, tmp_path / "built"), directory)
    return directory


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def archive(directory: Directory, handle: str) -> Path:
    return Path(directory.name) / "models" / handle / "model.tar.gz"


def serve(httpserver: HTTPServer, directory: Directory, **others: bytes) -> WebSource:
    """Serve the archives of a release, or other bytes in the place of some."""
    for handle in directory.manifests():
        content = others.get(handle.split("/")[1], archive(directory, handle).read_bytes())
        httpserver.expect_request(f"/models/{handle}/model.tar.gz").respond_with_data(content)
    base = httpserver.url_for("").rstrip("/")
    return WebSource("gs://models/", base)


def bring(held: Directory, source: Any, target: Directory, work: Path, *parts: Directory) -> Any:
    with target.locked():
        return pull(held, source, target, parts, work, Silent())


def test_all_that_a_destination_holds_is_brought(
    held: Directory, httpserver: HTTPServer, tmp_path: Path, work: Path
) -> None:
    target = Directory(tmp_path / "target")
    source = serve(httpserver, held)
    assert sorted(bring(held, source, target, work)) == sorted(HANDLES)
    assert tree(tmp_path / "target") == tree(tmp_path / "held")
    assert len(httpserver.log) == len(HANDLES)
    assert list(work.iterdir()) == []


def test_what_a_part_holds_is_not_downloaded(
    held: Directory, httpserver: HTTPServer, tmp_path: Path, work: Path
) -> None:
    registry = registry_of(tmp_path / "registry")
    part = Directory(tmp_path / "part")
    publish(registry, build(registry, tmp_path / "again", only="small"), part)
    bring(held, serve(httpserver, held), Directory(tmp_path / "target"), work, part)
    assert tree(tmp_path / "target") == tree(tmp_path / "held")
    assert len(httpserver.log) == 1


def test_a_damaged_part_is_refused(
    held: Directory, httpserver: HTTPServer, tmp_path: Path, work: Path
) -> None:
    damaged = archive(held, CLASSIFIER)
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DestinationError, match="other bytes than its manifest states; build it"):
        target = Directory(tmp_path / "target")
        bring(held, serve(httpserver, held), target, work, held)


@pytest.mark.parametrize(
    ("content", "error"), [(b"other", DestinationError), (b"x" * 10_000, ReleaseError)]
)
def test_what_is_not_the_archive_that_is_stated_is_refused(
    held: Directory,
    httpserver: HTTPServer,
    tmp_path: Path,
    work: Path,
    content: bytes,
    error: type[Exception],
) -> None:
    target = Directory(tmp_path / "target")
    source = serve(httpserver, held, small_classification=content)
    with pytest.raises(error):
        bring(held, source, target, work)
    assert CLASSIFIER not in target.manifests()


def test_an_archive_that_cannot_be_had_is_named(
    held: Directory, httpserver: HTTPServer, tmp_path: Path, work: Path
) -> None:
    source = WebSource("gs://models/", httpserver.url_for("").rstrip("/"))
    with pytest.raises(ReleaseError, match=r"model\.tar\.gz"):
        bring(held, source, Directory(tmp_path / "target"), work)


def test_nothing_is_brought_where_no_release_is(
    httpserver: HTTPServer, tmp_path: Path, work: Path
) -> None:
    empty = Directory(tmp_path / "empty")
    assert bring(empty, WebSource("x", "x"), Directory(tmp_path / "target"), work) == []
    assert tree(tmp_path / "target") == {}

"""Servers that do what they should not, on loopback."""

from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from publisher.release import downloads
from publisher.release.downloads import download
from publisher.release.errors import ReleaseError
from publisher.util.reporter import Silent
from tests.builds import Watcher

CONTENT = bytes(range(256)) * 8


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.tar.gz"


def complaint(address: str, target: Path, size: int | None = None) -> str:
    with pytest.raises(ReleaseError) as caught:
        download(address, target, size, "a/b/1", Silent())
    assert str(caught.value).startswith(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_comes_is_written_as_it_is(httpserver: HTTPServer, target: Path) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    watcher = Watcher()
    download(httpserver.url_for("/a"), target, len(CONTENT), "a/b/1", watcher)
    assert target.read_bytes() == CONTENT
    assert watcher.finishes == [("download", "a/b/1")]


def test_nothing_is_unpacked_on_the_way(httpserver: HTTPServer, target: Path) -> None:
    """Compressed content would have another digest, and another size."""
    httpserver.expect_request("/a", headers={"Accept-Encoding": "identity"}).respond_with_data(
        CONTENT
    )
    download(httpserver.url_for("/a"), target, None, "a/b/1", Silent())
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 500, 206])
def test_a_refusal_is_said_with_its_status(
    status: int, httpserver: HTTPServer, target: Path
) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT, status)
    assert f"answers {status} " in complaint(httpserver.url_for("/a"), target)


def test_a_download_that_breaks_off_is_no_archive(httpserver: HTTPServer, target: Path) -> None:
    response = Response(CONTENT[:100])
    response.headers["Content-Length"] = str(len(CONTENT))
    httpserver.expect_request("/a").respond_with_response(response)
    said = complaint(httpserver.url_for("/a"), target, len(CONTENT))
    assert "cannot be downloaded (" in said
    assert "see to the address and the network" in said


def test_more_than_is_stated_is_not_taken(httpserver: HTTPServer, target: Path) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    said = complaint(httpserver.url_for("/a"), target, 100)
    assert "gives more than the 100 bytes that are expected" in said
    assert target.stat().st_size <= 100


def test_without_a_stated_size_there_is_a_limit_all_the_same(
    httpserver: HTTPServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "LARGEST", 1000)
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    assert "gives more than the 1,000 bytes" in complaint(httpserver.url_for("/a"), target)


def test_a_host_that_does_not_answer_is_named_with_the_reason(
    silent_host: str, target: Path
) -> None:
    said = complaint(f"{silent_host}/a", target)
    assert "refused" in said
    assert "HTTPConnectionPool" not in said


def test_a_full_disk_says_what_to_do(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    with pytest.raises(ReleaseError, match=r"cannot be written .* TMPDIR"):
        download(httpserver.url_for("/a"), tmp_path / "none" / "a", len(CONTENT), "a/b/1", Silent())

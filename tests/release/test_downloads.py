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


def test_a_redirect_from_https_to_http_is_refused(
    secure_server: HTTPServer, httpserver: HTTPServer, target: Path
) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    plain = httpserver.url_for("/a")
    moved = Response(b"", 302, {"Location": plain})
    secure_server.expect_request("/a").respond_with_response(moved)
    said = complaint(secure_server.url_for("/a"), target)
    assert f"redirects to {plain}, which is not secure" in said
    assert httpserver.log == []


def test_a_signature_in_an_address_is_not_shown(silent_host: str, target: Path) -> None:
    with pytest.raises(ReleaseError) as caught:
        download(f"{silent_host}/a?sig=5ecret", target, None, "a/b/1", Silent())
    assert str(caught.value).startswith(f"{silent_host}/a: cannot be read: no answer")
    assert "5ecret" not in str(caught.value)


@pytest.mark.parametrize("status", [404, 403, 500, 206])
def test_a_refusal_is_said_with_its_status(
    status: int, httpserver: HTTPServer, target: Path
) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT, status)
    assert f"the server answered {status} " in complaint(httpserver.url_for("/a"), target)


def test_a_download_that_breaks_off_is_no_archive(httpserver: HTTPServer, target: Path) -> None:
    response = Response(CONTENT[:100])
    response.headers["Content-Length"] = str(len(CONTENT))
    httpserver.expect_request("/a").respond_with_response(response)
    said = complaint(httpserver.url_for("/a"), target, len(CONTENT))
    assert "cannot be read: the " in said
    assert "3 attempts; check the network and run again" in said


def test_more_than_is_stated_is_not_taken(httpserver: HTTPServer, target: Path) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    said = complaint(httpserver.url_for("/a"), target, 100)
    assert "has more than the 100 bytes that are expected" in said
    assert list(target.parent.iterdir()) == []


def test_without_a_stated_size_there_is_a_limit_all_the_same(
    httpserver: HTTPServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "LARGEST", 1000)
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    assert "has more than the 1,000 bytes" in complaint(httpserver.url_for("/a"), target)


def test_a_host_that_does_not_answer_is_named_with_the_reason(
    silent_host: str, target: Path
) -> None:
    said = complaint(f"{silent_host}/a", target)
    assert "refused" in said
    assert "HTTPConnectionPool" not in said


def test_a_full_disk_says_what_to_do(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    (tmp_path / "none").write_bytes(b"")
    with pytest.raises(ReleaseError, match=r"cannot be written .* TMPDIR"):
        download(httpserver.url_for("/a"), tmp_path / "none" / "a", len(CONTENT), "a/b/1", Silent())

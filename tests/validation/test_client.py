import http.client
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tensorflow_hub as hub

from publisher.validation.client import hub_cache, served

HANDLE = "someone/small_classification/1"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "small.tar.gz"
    path.parent.mkdir()
    path.write_bytes(b"archive")
    path.with_name("secret.txt").write_bytes(b"secret")
    return path


@pytest.fixture
def address(archive: Path) -> Iterator[str]:
    with served({HANDLE: archive}) as addresses:
        yield addresses[HANDLE]


def get(address: str, path: str) -> tuple[int, bytes]:
    """Ask for exactly `path`; no client tidies it up."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_serves_each_archive_under_its_handle(archive: Path) -> None:
    other = archive.with_name("other.tar.gz")
    other.write_bytes(b"other archive")
    with served({HANDLE: archive, "feature_extractor": other}) as addresses:
        assert set(addresses) == {HANDLE, "feature_extractor"}
        answers = {key: get(address, urlsplit(address).path) for key, address in addresses.items()}
    assert answers == {HANDLE: (200, b"archive"), "feature_extractor": (200, b"other archive")}


def test_answers_the_query_that_the_client_appends(address: str) -> None:
    path = urlsplit(address).path
    assert get(address, f"{path}?tf-hub-format=compressed") == (200, b"archive")


def test_listens_on_loopback_only(address: str) -> None:
    parts = urlsplit(address)
    assert parts.hostname == "127.0.0.1"
    assert parts.port is not None
    # Another address of loopback's network reaches a server that listens everywhere.
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", parts.port))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/someone/small_classification/1",
        "/someone/small_classification/1/",
        "/someone/small_classification/1/secret.txt",
        "/someone/small_classification/1/../1/model.tar.gz",
        "/someone/small_classification/1/%2e%2e/secret.txt",
        "/../secret.txt",
        "/../../../../../../etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/models/small.tar.gz",
    ],
)
def test_offers_nothing_else(address: str, path: str) -> None:
    status, body = get(address, path)
    assert status == 404
    assert b"secret" not in body
    assert b"root:" not in body


def test_does_not_offer_the_archive_by_its_own_path(address: str, archive: Path) -> None:
    assert get(address, str(archive))[0] == 404


def test_is_gone_after_the_block(archive: Path) -> None:
    with served({HANDLE: archive}) as addresses:
        address = addresses[HANDLE]
    with pytest.raises(ConnectionRefusedError):
        get(address, urlsplit(address).path)


def test_is_gone_after_an_error(archive: Path) -> None:
    with pytest.raises(ZeroDivisionError), served({HANDLE: archive}) as addresses:
        address = addresses[HANDLE]
        raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        get(address, urlsplit(address).path)


def test_the_client_unpacks_into_the_cache(classifier_archive: Path, tmp_path: Path) -> None:
    cache = tmp_path / "hub-cache"
    with hub_cache(cache), served({HANDLE: classifier_archive}) as addresses:
        directory = Path(hub.resolve(addresses[HANDLE]))
        assert directory.parent == cache
        assert (directory / "saved_model.pb").is_file()
    assert not cache.exists()


def test_the_cache_is_empty_at_first(tmp_path: Path) -> None:
    (tmp_path / "stale").write_text("from a run that was cut off")
    with hub_cache(tmp_path):
        assert not (tmp_path / "stale").exists()


def test_settings_of_the_user_do_not_reach_the_client(
    monkeypatch: pytest.MonkeyPatch,
    classifier_archive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Elsewhere's cache, an uncompressed format, a dead proxy, progress on standard output."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    monkeypatch.setenv("TFHUB_DOWNLOAD_PROGRESS", "1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org")
    before = dict(os.environ)
    with hub_cache(tmp_path / "cache"), served({HANDLE: classifier_archive}) as addresses:
        assert urllib.request.proxy_bypass("127.0.0.1")
        assert Path(hub.resolve(addresses[HANDLE])).parent == tmp_path / "cache"
    assert dict(os.environ) == before
    assert not (tmp_path / "elsewhere").exists()
    assert capsys.readouterr().out == ""


def test_the_environment_is_as_before_after_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "mine")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ZeroDivisionError), hub_cache(tmp_path / "cache"):
        raise ZeroDivisionError
    assert os.environ["TFHUB_CACHE_DIR"] == "mine"
    assert "no_proxy" not in os.environ

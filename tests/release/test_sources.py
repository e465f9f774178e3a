"""A release in a bucket, read as everybody can; the bucket is a real server on loopback."""

import re
import socket
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from publisher.hub.app import application
from publisher.release.catalogue import load
from publisher.release.errors import ReleaseError
from publisher.release.sources.base import LARGEST
from publisher.release.sources.directory import DirectorySource
from publisher.release.sources.open import open_source
from tests.hub.html import cards, parsed
from tests.hub.releases import ask, served
from tests.releases import CLASSIFIER, tree

PREFIX = "/bucket/some/prefix/"
COMPRESSED = f"/{CLASSIFIER}?tf-hub-format=compressed"


@pytest.fixture
def objects(release: Path) -> dict[str, bytes]:
    """What the bucket holds, by path; tests change it."""
    return tree(release)


@pytest.fixture
def bucket(httpserver: HTTPServer, objects: dict[str, bytes]) -> str:
    """The address of an object store with one bucket."""

    def answer(request: Request) -> Response:
        path = request.path
        if not path.startswith(PREFIX) or path.removeprefix(PREFIX) not in objects:
            return Response("no such object", 404)
        return Response(objects[path.removeprefix(PREFIX)], 200)

    httpserver.expect_request(re.compile(".*")).respond_with_handler(answer)
    return httpserver.url_for("").rstrip("/")


def names(base: str) -> dict[str, dict[str, str]]:
    """Return every way to name the bucket, and the environment that it needs."""
    return {
        "gs://bucket/some/prefix": {"STORAGE_EMULATOR_HOST": base},
        "gs://bucket/some/prefix/": {"STORAGE_EMULATOR_HOST": f"{base}/"},
        "s3://bucket/some/prefix": {"AWS_ENDPOINT_URL_S3": base},
        "s3://bucket/some/prefix/": {"AWS_ENDPOINT_URL": base},
        f"{base}/bucket/some/prefix": {},
        f"{base}/bucket/some/prefix/": {},
    }


@pytest.mark.parametrize("way", range(6))
def test_a_bucket_is_served_like_a_directory(bucket: str, release: Path, way: int) -> None:
    where, environment = list(names(bucket).items())[way]
    with served(application(open_source(where, environment))) as base:
        assert len(cards(parsed(ask(base, "/").text))) == 3
        assert ask(base, "/index.json").body == (release / "index.json").read_bytes()
        answer = ask(base, COMPRESSED)
        # Clients take the archive from the bucket itself.
        archive = f"models/{CLASSIFIER}/model.tar.gz"
        assert answer.status == 302
        assert answer.headers["location"] == f"{bucket}{PREFIX}{archive}"
        assert "immutable" not in answer.headers["cache-control"]
        there = ask(bucket, f"{PREFIX}{archive}")
        assert there.body == (release / archive).read_bytes()
        assert ask(base, f"/{archive}").headers["location"] == answer.headers["location"]
        # And in a browser the address is the page.
        assert ask(base, f"/{CLASSIFIER}").status == 200


def test_without_an_emulator_the_services_themselves_are_asked() -> None:
    for where, address in (
        ("gs://bucket/a/b", "https://storage.googleapis.com/bucket/a/b/x"),
        ("gs://bucket", "https://storage.googleapis.com/bucket/x"),
        ("s3://bucket/a/b", "https://bucket.s3.amazonaws.com/a/b/x"),
        ("s3://bucket", "https://bucket.s3.amazonaws.com/x"),
        ("https://host.example/a/", "https://host.example/a/x"),
    ):
        found = open_source(where, {}).open("x", 1)
        assert getattr(found, "address") == address  # noqa: B009
        assert open_source(where, {}).name == where


def test_a_bucket_is_read_once(bucket: str, httpserver: HTTPServer) -> None:
    source = open_source(f"{bucket}/bucket/some/prefix", {})
    with served(application(source)) as base:
        asked = len(httpserver.log)
        for path in ("/", f"/{CLASSIFIER}", COMPRESSED, "/"):
            ask(base, path)
        assert len(httpserver.log) == asked


@pytest.mark.parametrize(
    ("path", "content", "complaint"),
    [
        ("index.json", None, "index.json: cannot be read: the server answered 404"),
        ("SHA256SUMS", None, "SHA256SUMS: cannot be read: the server answered 404"),
        (
            f"models/{CLASSIFIER}/model.tar.gz",
            None,
            "model.tar.gz: cannot be read: the server answered 404",
        ),
        (f"models/{CLASSIFIER}/model.tar.gz", b"other", "has 5 bytes where the index states"),
        (f"models/{CLASSIFIER}/manifest.json", b"{}", "manifest.json"),
        ("index.json", b"x" * (LARGEST + 1), "it sends more than 16,777,216 bytes"),
        ("index.json", b"<html>", "index.json: Invalid JSON"),
    ],
)
def test_a_bucket_that_holds_no_whole_release_is_not_served(
    bucket: str, objects: dict[str, bytes], path: str, content: bytes | None, complaint: str
) -> None:
    if content is None:
        del objects[path]
    else:
        objects[path] = content
    where = f"{bucket}/bucket/some/prefix"
    with pytest.raises(ReleaseError) as caught:
        load(open_source(where, {}))
    assert str(caught.value).startswith(where)
    assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_redirect_from_https_to_http_is_refused(
    secure_server: HTTPServer, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/a/index.json").respond_with_data(b"{}")
    plain = httpserver.url_for("/a/index.json")
    moved = Response(b"", 302, {"Location": plain})
    secure_server.expect_request("/a/index.json").respond_with_response(moved)
    source = open_source(secure_server.url_for("/a"), {})
    for call in (source.read, source.size):
        with pytest.raises(ReleaseError, match=f"redirects to {plain}, which is not secure"):
            call("index.json")
    assert httpserver.log == []


def test_a_host_that_does_not_answer_is_named() -> None:
    with socket.socket() as taken:  # a port that nobody else gets, and nobody listens at
        taken.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{taken.getsockname()[1]}/release"
        with pytest.raises(
            ReleaseError, match=r"cannot be read: no answer .*; check the network and run"
        ):
            load(open_source(where, {}))


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("ftp://host/a", "no release can be read from ftp://"),
        ("gs://", "names no bucket or host"),
        ("s3:///a", "names no bucket or host"),
        ("gs://user:password@host/a", "names no bucket or host"),
        ("https://user:password@host/a", "names no bucket or host"),
        ("https://", "names no bucket or host"),
        ("file:///srv/a", "no release can be read from file://"),
        ("nowhere", "there is no such directory; give one that `publisher publish` wrote"),
    ],
)
def test_what_is_no_release_is_refused(
    where: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReleaseError, match=complaint):
        load(open_source(where, {}))


def test_a_file_is_no_release(release: Path) -> None:
    with pytest.raises(ReleaseError, match="is not a directory"):
        DirectorySource(release / "index.json")

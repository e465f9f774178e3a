"""What is bad, absurd or slow gets a plain refusal, and never a traceback."""

import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest

from publisher.hub import answers
from publisher.hub.app import application
from publisher.hub.protocol import LARGEST_HEADERS, TimeoutProtocol
from publisher.release.errors import ReleaseError
from publisher.release.sources.directory import DirectorySource
from tests.hub.releases import Answer, ask, publish_into, resize, served
from tests.releases import CLASSIFIER, EXTRACTOR

HIDDEN = "this must not be seen"
COMPRESSED = f"/{CLASSIFIER}?tf-hub-format=compressed"
SECURITY = (
    "content-security-policy",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "cross-origin-opener-policy",
)


def plain(answer: Answer, status: int) -> None:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(answer.text.splitlines()) == 1
    for word in ("Traceback", "Error", 'File "', HIDDEN):
        assert word not in answer.text


def connect(base: str) -> socket.socket:
    parts = urlsplit(base)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def everything(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hub with files in and beside its release that no index names."""
    folder = tmp_path_factory.mktemp("exposed")
    release = publish_into(folder / "release", folder / "work")
    for place in (folder, release, release / "models" / CLASSIFIER):
        (place / "secret").write_text(HIDDEN)
    (release / ".hidden").write_text(HIDDEN)
    with served(release) as base:
        yield base


@pytest.mark.parametrize(
    "path",
    [
        "/secret",
        "/../secret",
        "/../../../../../../etc/passwd",
        "/%2e%2e/secret",
        "/%2e%2e%2fsecret",
        "/..%5csecret",
        "/models/../secret",
        f"/models/{CLASSIFIER}/secret",
        f"/models/{CLASSIFIER}/",
        f"/models/{CLASSIFIER}",
        f"/models/{CLASSIFIER}/../1/model.tar.gz",
        f"/models/{CLASSIFIER}/%2e%2e/1/manifest.json",
        f"/models/{EXTRACTOR}%00/model.tar.gz",
        f"//{CLASSIFIER}",
        f"/{CLASSIFIER}//",
        "/" + "a/" * 4000,
        "/.hidden",
        "/tfhub.dev/assets/docs/sayakpaul/sayakpaul.md",
        "/models",
        "/index.json/",
        "/index.json%00",
        "/%ff%fe",
        "//evil.example/",
        "//evil.example/%2f..",
        "/%0d%0aSet-Cookie:%20a=b",
    ],
)
def test_only_what_the_index_names_is_served(exposed: str, path: str) -> None:
    answer = ask(exposed, path)
    plain(answer, 404)
    assert "location" not in answer.headers
    page = ask(exposed, path, accept="text/html")
    assert page.status == 404
    assert HIDDEN not in page.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", COMPRESSED, "/index.json", "/nothing"])
def test_only_get_and_head_are_answered(hub: str, method: str, path: str) -> None:
    answer = ask(hub, path, method)
    plain(answer, 405)
    assert {name.strip() for name in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["/", f"/{CLASSIFIER}", COMPRESSED, "/nothing", "/index.json"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_answer_keeps_browsers_to_what_is_meant(hub: str, path: str, method: str) -> None:
    for headers in ({}, {"accept": "text/html"}, {"if_none_match": "*"}):
        found = ask(hub, path, method, **headers).headers
        for name in SECURITY:
            assert name in found
    assert found["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in found["content-security-policy"]
    assert "unsafe" not in found["content-security-policy"]
    assert "frame-ancestors 'none'" in found["content-security-policy"]


@pytest.mark.parametrize(
    "host",
    ["a b", "evil.example/path", "user@evil.example", '"><script>', "a:b", "a:1:2", "[::1"],
)
def test_a_host_that_is_none_is_refused(hub: str, host: str) -> None:
    """It would stand in snippets."""
    plain(ask(hub, "/", host=host), 400)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(hub: str, request_bytes: bytes) -> None:
    with connect(hub) as connection:
        connection.sendall(request_bytes)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (2 * LARGEST_HEADERS),
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * LARGEST_HEADERS,
        b"GET /" + b"x" * (2 * LARGEST_HEADERS),
    ],
)
def test_huge_headers_are_refused_before_they_end(hub: str, request_bytes: bytes) -> None:
    with connect(hub) as connection:
        answer = b""
        try:
            connection.sendall(request_bytes)
            answer = everything(connection)
        except ConnectionError:
            # The server may have closed while there was more to read.
            return
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "start",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"],
)
def test_a_client_that_does_not_finish_its_request_is_let_go(release: Path, start: bytes) -> None:
    class Hasty(TimeoutProtocol):
        request_seconds = 0.01

    with (
        served(application(DirectorySource(release)), http=Hasty) as base,
        connect(base) as connection,
    ):
        connection.sendall(start)
        assert everything(connection).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_goes_on_slowly_is_let_go_after_its_first_answer_too(release: Path) -> None:
    class Hasty(TimeoutProtocol):
        pass

    whole = b"GET /hub.svg HTTP/1.1\r\nHost: a\r\n\r\n"
    with (
        served(application(DirectorySource(release)), http=Hasty) as base,
        connect(base) as connection,
    ):
        connection.sendall(whole)
        answer = b""
        while b"</svg>" not in answer:
            answer += connection.recv(65536)
        Hasty.request_seconds = 0.01
        connection.sendall(whole[:10])
        assert everything(connection).lstrip().startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_is_let_go(own: Path) -> None:
    gone = threading.Event()

    class Hasty(TimeoutProtocol):
        reading_seconds = 0.05

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            gone.set()

    size = 64 << 20
    resize(own, CLASSIFIER, size)
    with (
        served(application(DirectorySource(own)), http=Hasty) as base,
        connect(base) as connection,
    ):
        connection.sendall(f"GET {COMPRESSED} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert gone.wait(60)
        received = 0
        try:
            while piece := connection.recv(1 << 20):
                received += len(piece)
        except ConnectionError:
            pass
    assert 0 < received < size


class Watched:
    """A file that knows how it was read."""

    def __init__(self, file: BinaryIO, closed: threading.Event) -> None:
        self.name = "archive"
        self.pieces: list[int] = []
        self._file = file
        self._closed = closed

    def seek(self, position: int) -> None:
        self._file.seek(position)

    def read(self, size: int) -> bytes:
        self.pieces.append(size)
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()
        self._closed.set()

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class WatchedSource(DirectorySource):
    """A release whose archives are `Watched`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.closed = threading.Event()
        self.files: list[Watched] = []

    def open(self, path: str, size: int) -> BinaryIO:
        self.files.append(Watched(super().open(path, size), self.closed))
        return self.files[-1]  # type: ignore[return-value]


def test_an_archive_is_never_in_memory_as_a_whole(own: Path) -> None:
    size = 3 * answers.PIECE + 17
    resize(own, CLASSIFIER, size)
    source = WatchedSource(own)
    with served(application(source)) as base:
        assert ask(base, COMPRESSED).body == bytes(size)
    assert source.files[0].pieces == [*[answers.PIECE] * 3, 17]
    assert source.closed.is_set()


def test_nothing_is_read_any_more_for_a_client_that_left(own: Path) -> None:
    size = 256 << 20
    resize(own, CLASSIFIER, size)
    source = WatchedSource(own)
    with served(application(source)) as base:
        with connect(base) as connection:
            # Closing with a reset: nothing of what is on its way is wanted.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(f"GET {COMPRESSED} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert connection.recv(100)
        assert source.closed.wait(60)
    assert sum(source.files[0].pieces) < size


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("headers", [{}, {"if_none_match": "*"}, {"range": "bytes=9999-"}])
def test_no_file_stays_open(own: Path, method: str, headers: dict[str, str]) -> None:
    source = WatchedSource(own)
    with served(application(source)) as base:
        ask(base, COMPRESSED, method, **headers)
        assert source.closed.wait(60)


def test_an_archive_that_ends_too_soon_is_no_whole_answer(own: Path) -> None:
    size = 8 << 20
    resize(own, CLASSIFIER, size)

    class Shrinking(DirectorySource):
        def open(self, path: str, size: int) -> BinaryIO:
            file = super().open(path, size)
            os.truncate(own / path, size // 2)
            return file

    with served(application(Shrinking(own))) as base, connect(base) as connection:
        connection.sendall(f"GET {COMPRESSED} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    assert f"content-length: {size}".encode() in head
    assert len(body) < size
    assert b"Traceback" not in body


def damage_missing(archive: Path) -> None:
    archive.unlink()


def damage_other_size(archive: Path) -> None:
    archive.unlink()
    archive.write_bytes(b"other")


def damage_link(archive: Path) -> None:
    moved = archive.rename(archive.parent.parent.parent / "elsewhere")
    archive.symlink_to(moved)


def damage_folder_link(archive: Path) -> None:
    moved = archive.parent.rename(archive.parent.parent.parent / "elsewhere")
    archive.parent.symlink_to(moved)


def damage_pipe(archive: Path) -> None:
    archive.unlink()
    os.mkfifo(archive)


DAMAGE = [damage_missing, damage_other_size, damage_link, damage_folder_link, damage_pipe]


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_archive_that_was_damaged_since_is_refused_and_logged(
    own: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    with served(own) as base:
        damage(own / "models" / CLASSIFIER / "model.tar.gz")  # type: ignore[operator]
        for method in ("GET", "HEAD"):
            answer = ask(base, COMPRESSED, method)
            assert answer.status == 500
            assert "immutable" not in answer.headers["cache-control"]
        plain(ask(base, COMPRESSED), 500)
        assert str(own) not in ask(base, COMPRESSED).text
        assert CLASSIFIER in caplog.text
        # The others do not suffer.
        assert ask(base, f"/{EXTRACTOR}?tf-hub-format=compressed").status == 200


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_release_with_a_damaged_archive_is_not_served_at_all(own: Path, damage: object) -> None:
    damage(own / "models" / CLASSIFIER / "model.tar.gz")  # type: ignore[operator]
    with pytest.raises(ReleaseError, match=CLASSIFIER):
        application(DirectorySource(own))


def test_a_fault_of_the_program_is_a_line_outside_and_a_traceback_in_the_log(
    release: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(DirectorySource):
        def open(self, path: str, size: int) -> BinaryIO:
            raise RuntimeError(HIDDEN)

    with served(application(Faulty(release))) as base:
        answer = ask(base, COMPRESSED)
    plain(answer, 500)
    for name in SECURITY:
        assert name in answer.headers
    assert any(record.exc_info for record in caplog.records if record.levelno >= logging.ERROR)


def test_too_many_connections_at_once_are_refused(release: Path) -> None:
    with served(application(DirectorySource(release)), limit_concurrency=2) as base:
        with connect(base), connect(base):
            answer = ask(base, "/")
        assert (answer.status, answer.body) == (503, b"Service Unavailable")

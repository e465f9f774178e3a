import base64
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from publisher.weights import Digest, Retry, UnreachableError, WeightsError, download
from tests.util.http.server import Answer, FileServer, status

CONTENT = np.random.default_rng(0).bytes(300_017)
TOTAL = len(CONTENT)
SOME = 1 << 17  # bytes that come before a connection breaks
DIGEST = Digest(size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def files(server: HTTPServer) -> FileServer:
    return FileServer(server, CONTENT)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "w.npz"


Get = Callable[..., Digest]


@pytest.fixture
def get(files: FileServer, target: Path, retry: Retry) -> Get:
    def call(**changes: Any) -> Digest:
        settings: dict[str, Any] = {"expected": DIGEST, "largest": 1 << 20, "retry": retry}
        url = changes.pop("url", files.url)
        return download(url, target, **(settings | changes))

    return call


def names(target: Path) -> set[str]:
    return {entry.name for entry in target.parent.iterdir()}


def failure(call: Get, **changes: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        call(**changes)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_brings_the_file_and_leaves_nothing_else(
    get: Get, files: FileServer, target: Path, pauses: list[float]
) -> None:
    assert get() == DIGEST
    assert target.read_bytes() == CONTENT
    assert names(target) == {"w.npz"}
    assert files.requests[0].headers["Accept-Encoding"] == "identity"
    assert "Range" not in files.requests[0].headers
    assert pauses == []


def test_replaces_an_older_file(get: Get, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    get()
    assert target.read_bytes() == CONTENT


def test_goes_on_where_an_earlier_run_stopped(get: Get, files: FileServer, target: Path) -> None:
    files.answers = [files.truncate(SOME), *(files.truncate(0) for _ in range(3))]
    message = failure(get)
    assert message.startswith(f"{files.url}: the connection ")
    assert "4 attempts. Run again later: a download goes on from where it stopped." in message
    assert names(target) == {"w.npz.part", "w.npz.part.json"}
    assert get() == DIGEST
    assert files.ranges[-1] == f"bytes={SOME}-"


def test_one_line_says_that_nobody_listens(
    get: Get, closed_address: str, target: Path, pauses: list[float]
) -> None:
    with pytest.raises(UnreachableError) as caught:
        get(url=closed_address + "w.npz")
    message = str(caught.value)
    assert message.startswith(f"cannot reach {closed_address}w.npz: no answer (connection refused)")
    assert "\n" not in message
    assert len(pauses) == 3
    assert names(target) == set()


def test_says_before_each_pause_why_and_how_long(get: Get, files: FileServer) -> None:
    told: list[str] = []
    files.answers = [status(503, {"Retry-After": "17"})]
    assert get(warn=told.append) == DIGEST
    said = "the server answered 503 (SERVICE UNAVAILABLE); attempt 2 of 4 in 17 s"
    assert told == [f"{files.url}: {said}"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(404), "the server answered 404 (NOT FOUND). Check the address, the checkpoint's"),
        (status(302, {"Location": "ftp://a/w"}), "redirects to ftp://a/w, which is not secure. Gi"),
        (status(200, {"Content-Encoding": "gzip"}), "Content-Encoding 'gzip'"),
    ],
)
def test_says_what_to_do(get: Get, files: FileServer, answer: Answer, words: str) -> None:
    files.answers = [answer]
    message = failure(get)
    assert message.startswith(f"{files.url}: ")
    assert words in message


def test_a_file_of_another_architecture_is_too_large(get: Get, target: Path) -> None:
    message = failure(get, largest=1000)
    assert "has more than the 1,000 bytes that are expected of a checkpoint" in message
    assert message.endswith("Check its path and architecture in models.yaml.")
    assert names(target) == set()


def test_says_so_when_the_disk_is_too_small(
    get: Get, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(target.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=7))
    assert f"{TOTAL} more bytes have to come and the disk has 7 left" in failure(get)


def test_says_so_when_it_cannot_write(get: Get, target: Path) -> None:
    target.parent.write_text("a file where the folder should be")
    assert f"{target}: cannot be written" in failure(get)


# Proof


def goog(content: bytes) -> dict[str, str]:
    checksum = google_crc32c.Checksum(content)
    md5 = hashlib.md5(content, usedforsecurity=False)
    return {
        "crc32c": base64.b64encode(checksum.digest()).decode(),
        "md5": base64.b64encode(md5.digest()).decode(),
    }


RIGHT, WRONG = goog(CONTENT), goog(b"other")


def with_hashes(files: FileServer, *values: str) -> None:
    def answer(request: Request) -> Response:
        response = files.serve(request)
        for value in values:
            response.headers.add("x-goog-hash", value)
        return response

    files.answers = [answer]


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("bad", [None, "crc32c", "md5"])
def test_holds_the_file_to_googles_hashes(
    get: Get, files: FileServer, target: Path, joined: bool, bad: str | None
) -> None:
    values = [f"{kind}={(WRONG if kind == bad else RIGHT)[kind]}" for kind in RIGHT]
    with_hashes(files, *([",".join(values)] if joined else values))
    if bad is None:
        assert get(expected=None) == DIGEST
        return
    target.parent.mkdir()
    target.write_bytes(b"old")
    message = failure(get, expected=None)
    assert f"came with {bad} {RIGHT[bad]}, and the server says {WRONG[bad]}" in message
    assert "was not replaced" in message
    assert target.read_bytes() == b"old"
    assert names(target) == {"w.npz"}


def test_ignores_hashes_it_does_not_know(get: Get, files: FileServer) -> None:
    with_hashes(files, "sha9=abc")
    assert get() == DIGEST


def test_holds_a_resumed_file_to_the_hashes_of_its_beginning(
    get: Get, files: FileServer, target: Path
) -> None:
    with_hashes(files, f"md5={WRONG['md5']}")
    answer = files.answers.pop()
    files.answers = [lambda request: cut(answer(request)), *(files.truncate(0) for _ in range(3))]
    failure(get, expected=None)
    assert "came with md5" in failure(get, expected=None)
    assert files.ranges[-1] == f"bytes={SOME}-"
    assert names(target) == set()


def cut(response: Response) -> Response:
    """Announce all of an answer, and send the beginning."""
    headers = response.headers.copy()
    headers["Content-Length"] = str(TOTAL)
    return Response(iter([CONTENT[:SOME]]), 200, headers)


def test_a_file_that_is_not_the_expected_one_replaces_nothing(
    get: Get, files: FileServer, target: Path, pauses: list[float]
) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    corrupt = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    files.answers = [lambda _: Response(corrupt, 200)]
    message = failure(get)
    assert hashlib.sha256(corrupt).hexdigest() in message
    assert DIGEST.sha256 in message
    assert f"{target} was not replaced" in message
    assert target.read_bytes() == b"old"
    assert names(target) == {"w.npz"}
    assert pauses == []
    assert get() == DIGEST


def test_a_file_of_another_size_is_not_the_expected_one(get: Get) -> None:
    message = failure(get, expected=Digest(size=TOTAL + 1, sha256=DIGEST.sha256))
    assert f"{TOTAL} bytes" in message and f"{TOTAL + 1} bytes" in message


def test_the_caller_has_the_last_word(get: Get, target: Path) -> None:
    def refuse(part: Path, digest: Digest) -> None:
        assert part.read_bytes() == CONTENT
        assert digest == DIGEST
        raise WeightsError("not like this")

    assert failure(get, accept=refuse) == "not like this"
    assert names(target) == set()


# Secrets


@pytest.mark.parametrize("code", [404, 503])
def test_shows_no_secrets(get: Get, files: FileServer, code: int, target: Path) -> None:
    secret = files.url.replace("http://", "http://user:pa55@") + "?sig=5ecret#5ecret"
    files.answers = [status(code)] * 4
    message = failure(get, url=secret)
    assert files.url in message
    for word in ("pa55", "user", "5ecret", "Traceback", "Pool"):
        assert word not in message


@pytest.mark.parametrize("url", ["http://a b:x/", "http://[x/w.npz", "nonsense", "http://a:99999/"])
def test_an_address_that_cannot_be_used_is_no_crash(get: Get, url: str) -> None:
    assert "cannot" in failure(get, url=url)

"""A file that comes over HTTP: whole, or on from where it stopped."""

import dataclasses
import gzip
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from publisher.util.http import HttpError, NoAnswerError, Retry
from publisher.util.http.download import receive
from publisher.util.http.request import PIECE
from tests.util.http.server import FileServer, status

CONTENT = np.random.default_rng(0).bytes(5 * PIECE + 17)
SOME = 2 * PIECE  # bytes that come before a connection breaks
BOTH = {"w.npz.part", "w.npz.part.json"}


@pytest.fixture
def files(server: HTTPServer) -> FileServer:
    return FileServer(server, CONTENT)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "w.npz.part"


Get = Callable[..., bytes]


@pytest.fixture
def get(files: FileServer, target: Path, retry: Retry) -> Get:
    """Receives the file, and returns what came."""

    def call(**changes: Any) -> bytes:
        settings: dict[str, Any] = {"largest": 1 << 20, "retry": retry}
        url = changes.pop("url", files.url)
        receive(url, target, **(settings | changes))
        return target.read_bytes()

    return call


def names(target: Path) -> set[str]:
    return {entry.name for entry in target.parent.iterdir()}


def failure(call: Get, **changes: Any) -> str:
    with pytest.raises(HttpError) as caught:
        call(**changes)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_brings_the_file_and_says_what_hashes_the_server_states(
    files: FileServer, target: Path, retry: Retry, pauses: list[float]
) -> None:
    files.headers = {"x-goog-hash": "md5=abc"}
    assert receive(files.url, target, largest=1 << 20, retry=retry) == "md5=abc"
    assert target.read_bytes() == CONTENT
    assert names(target) == BOTH
    assert files.requests[0].headers["Accept-Encoding"] == "identity"
    assert "Range" not in files.requests[0].headers
    assert pauses == []


def test_tells_how_far_it_is(get: Get) -> None:
    seen: list[tuple[int, int | None]] = []
    get(progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_manages_without_a_length(get: Get, files: FileServer, target: Path) -> None:
    files.answers = [lambda _: Response(iter([CONTENT]), 200)]
    seen: list[int | None] = []
    assert get(progress=lambda _, total: seen.append(total)) == CONTENT
    assert set(seen) == {None}


# Connections that break


@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_goes_on_where_the_connection_broke(
    get: Get, files: FileServer, target: Path, pauses: list[float], kind: str
) -> None:
    files.answers = [getattr(files, kind)(SOME)]
    assert get() == CONTENT
    assert len(pauses) == 1
    first, second = files.ranges
    assert first is None and second is not None
    found = re.fullmatch(r"bytes=(\d+)-", second)
    # A reset may throw away what the machine had received and not yet handed over.
    assert found and int(found[1]) <= SOME
    if kind == "truncate":
        assert int(found[1]) == SOME
    assert files.requests[1].headers["If-Range"] == '"v1"'


def test_goes_on_after_a_stall(
    get: Get, files: FileServer, retry: Retry, released: threading.Event, pauses: list[float]
) -> None:
    def stall(_: Request) -> Response:
        def body() -> Iterator[bytes]:
            yield CONTENT[:SOME]
            released.wait()

        headers = files.all_headers() | {"Content-Length": str(len(CONTENT))}
        return Response(body(), 200, headers)

    files.answers = [stall]
    # Long enough for all that comes before the stall and after it, on a machine that is busy.
    assert get(retry=dataclasses.replace(retry, read_timeout=2.0)) == CONTENT
    assert files.ranges == [None, f"bytes={SOME}-"]
    assert len(pauses) == 1


def test_each_attempt_resumes_where_the_last_one_stopped(get: Get, files: FileServer) -> None:
    files.answers = [files.truncate(PIECE) for _ in range(3)]
    assert get() == CONTENT
    assert files.ranges == [None, *(f"bytes={n * PIECE}-" for n in (1, 2, 3))]


def test_the_next_run_goes_on_after_all_attempts_failed(
    get: Get, files: FileServer, target: Path
) -> None:
    files.answers = [files.truncate(SOME), *(files.truncate(0) for _ in range(3))]
    message = failure(get)
    assert f"ended after {SOME} of {len(CONTENT)} bytes" in message or "broke after" in message
    assert "4 attempts" in message
    assert names(target) == BOTH
    assert get() == CONTENT
    assert files.ranges[-1] == f"bytes={SOME}-"


def test_the_next_run_goes_on_after_an_interruption(
    get: Get, files: FileServer, target: Path
) -> None:
    def interrupt(done: int, _: int | None) -> None:
        if done >= SOME:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(progress=interrupt)
    assert target.read_bytes() == CONTENT[:SOME]
    assert get() == CONTENT
    assert files.ranges == [None, f"bytes={SOME}-"]


def test_one_line_says_that_nobody_listens(
    get: Get, closed_address: str, target: Path, pauses: list[float]
) -> None:
    with pytest.raises(NoAnswerError) as caught:
        get(url=closed_address + "w.npz")
    message = str(caught.value)
    assert message == "no answer (connection refused), 4 attempts"
    assert "\n" not in message
    assert len(pauses) == 3
    assert names(target) == set()


def test_a_server_that_never_answers_cannot_be_reached(
    get: Get, files: FileServer, retry: Retry, released: threading.Event
) -> None:
    arrived = threading.Semaphore(0)

    def silence(_: Request) -> Response:
        arrived.release()
        released.wait()
        return Response(b"", 200)

    files.answers = [silence, silence]
    with pytest.raises(NoAnswerError, match="timed out"):
        get(retry=dataclasses.replace(retry, attempts=2, read_timeout=0.2))
    # A request that the server reads only now would be taken for one of the next test.
    assert all(arrived.acquire(timeout=300) for _ in range(2))


# Resuming


def leave_part(target: Path, files: FileServer, content: bytes, **changes: Any) -> None:
    note = {"url": files.url, "validator": '"v1"', "length": len(CONTENT), "hashes": ""}
    target.write_bytes(content)
    target.with_name("w.npz.part.json").write_text(json.dumps(note | changes))


def test_starts_over_when_the_server_ignores_ranges(
    get: Get, files: FileServer, target: Path
) -> None:
    leave_part(target, files, b"x" * 100)
    files.answers = [lambda _: Response(CONTENT, 200)]
    assert get() == CONTENT
    assert files.ranges == ["bytes=100-"]


def test_starts_over_when_the_file_changed_between_attempts(get: Get, files: FileServer) -> None:
    def older(request: Request) -> Response:
        files.etag, before = '"v0"', files.etag
        answer = files.truncate(SOME)(request)
        files.etag = before
        return answer

    files.answers = [older]
    assert get() == CONTENT
    assert files.requests[1].headers["If-Range"] == '"v0"'
    assert len(files.requests) == 2


TOTAL = len(CONTENT)
UNFIT = {
    "absent": {},
    "wrong start": {"Content-Range": f"bytes 99-{TOTAL - 1}/{TOTAL}"},
    "wrong total": {"Content-Range": f"bytes 100-{TOTAL}/{TOTAL + 1}"},
    "beyond the end": {"Content-Range": f"bytes 100-{TOTAL}/{TOTAL}"},
    "backwards": {"Content-Range": f"bytes 100-99/{TOTAL}"},
    "other unit": {"Content-Range": f"lines 100-{TOTAL - 1}/{TOTAL}"},
    "other version": {"Content-Range": f"bytes 100-{TOTAL - 1}/{TOTAL}", "ETag": '"v2"'},
}


@pytest.mark.parametrize("headers", UNFIT.values(), ids=UNFIT)
def test_starts_over_when_the_rest_does_not_fit(
    get: Get, files: FileServer, target: Path, headers: dict[str, str], pauses: list[float]
) -> None:
    leave_part(target, files, CONTENT[:100])
    files.answers = [lambda _: Response(CONTENT[100:], 206, headers)]
    assert get() == CONTENT
    assert files.ranges == ["bytes=100-", None]
    assert pauses == []


@pytest.mark.parametrize("total", [str(TOTAL), "*"])
def test_takes_a_rest_that_fits(get: Get, files: FileServer, target: Path, total: str) -> None:
    leave_part(target, files, CONTENT[:100])
    headers = {"Content-Range": f"bytes 100-{TOTAL - 1}/{total}"}
    files.answers = [lambda _: Response(CONTENT[100:], 206, headers)]
    assert get() == CONTENT
    assert files.ranges == ["bytes=100-"]


def test_asks_again_for_what_a_short_range_left_out(
    get: Get, files: FileServer, target: Path
) -> None:
    leave_part(target, files, CONTENT[:100])
    headers = {"Content-Range": f"bytes 100-199/{TOTAL}"}
    files.answers = [lambda _: Response(CONTENT[100:200], 206, headers)]
    assert get() == CONTENT
    assert files.ranges == ["bytes=100-", "bytes=200-"]


def test_a_part_that_is_whole_needs_only_proof(get: Get, files: FileServer, target: Path) -> None:
    leave_part(target, files, CONTENT)
    assert get() == CONTENT
    assert files.ranges == [f"bytes={TOTAL}-"]


@pytest.mark.parametrize("headers", [{}, {"Content-Range": f"bytes */{TOTAL}"}])
def test_starts_over_when_there_is_no_such_range(
    get: Get, files: FileServer, target: Path, headers: dict[str, str]
) -> None:
    leave_part(target, files, CONTENT + b"too long")
    files.answers = [status(416, headers)]
    assert get() == CONTENT
    assert files.ranges == [f"bytes={TOTAL + 8}-", None]


@pytest.mark.parametrize(
    "changes",
    [{"url": "http://elsewhere/w.npz"}, {"validator": None}, {"surprise": 1}],
    ids=["other address", "no validator", "unknown field"],
)
def test_starts_over_when_the_note_does_not_vouch_for_the_part(
    get: Get, files: FileServer, target: Path, changes: dict[str, Any]
) -> None:
    leave_part(target, files, b"x" * 100, **changes)
    assert get() == CONTENT
    assert files.ranges == [None]


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"text"'])
def test_starts_over_when_the_note_is_spoiled(
    get: Get, files: FileServer, target: Path, text: str
) -> None:
    leave_part(target, files, b"x" * 100)
    target.with_name("w.npz.part.json").write_text(text)
    assert get() == CONTENT
    assert files.ranges == [None]


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": '"strong"', "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}, '"strong"'),
        (
            {"ETag": 'W/"weak"', "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"},
            "Sun, 06 Nov 1994 08:49:37 GMT",
        ),
        ({"ETag": 'W/"weak"'}, None),
        ({}, None),
    ],
)
def test_resumes_only_by_what_names_the_version(
    get: Get, files: FileServer, headers: dict[str, str], validator: str | None
) -> None:
    files.etag = None
    files.headers = headers
    files.answers = [files.truncate(SOME)]
    assert get() == CONTENT
    assert files.requests[1].headers.get("If-Range") == validator
    assert files.ranges[1] == (f"bytes={SOME}-" if validator else None)


def test_a_refused_request_keeps_the_part(get: Get, files: FileServer, target: Path) -> None:
    leave_part(target, files, CONTENT[:100])
    files.answers = [status(403)]
    assert "403" in failure(get)
    assert get() == CONTENT
    assert files.ranges == ["bytes=100-", "bytes=100-"]


# Answers worth another attempt, and others


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_tries_again_when_the_server_is_unwell(
    get: Get, files: FileServer, code: int, pauses: list[float]
) -> None:
    files.answers = [status(code), status(code)]
    assert get() == CONTENT
    assert len(pauses) == 2


def test_gives_up_in_the_end_and_says_what_the_server_said(get: Get, files: FileServer) -> None:
    files.answers = [status(503)] * 4
    message = failure(get)
    assert message.startswith("the server answered 503")
    assert "4 attempts" in message
    assert len(files.requests) == 4


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416, 206, 204])
def test_other_answers_are_final(
    get: Get, files: FileServer, target: Path, code: int, pauses: list[float]
) -> None:
    files.answers = [status(code)]
    message = failure(get)
    assert message.startswith(f"the server answered {code} ")
    assert pauses == []
    assert len(files.requests) == 1
    assert names(target) == set()


# Size and room


def test_refuses_a_length_that_is_too_large(get: Get, files: FileServer, target: Path) -> None:
    seen: list[int] = []
    message = failure(get, largest=TOTAL - 1, progress=lambda done, _: seen.append(done))
    assert f"more than the {TOTAL - 1:,} bytes" in message
    assert seen == []  # not one byte was taken
    assert names(target) == set()
    assert get(largest=TOTAL) == CONTENT


def test_stops_when_too_much_comes_unannounced(get: Get, files: FileServer, target: Path) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1 << 30:
            sent += 1 << 20
            yield bytes(1 << 20)

    files.answers = [lambda _: Response(body(), 200)]
    assert "more than the 1,000 bytes" in failure(get, largest=1000)
    assert names(target) == set()
    assert sent < 1 << 29


def test_looks_for_room_before_it_starts(
    get: Get, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(target.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=TOTAL - 1))
    with pytest.raises(OSError, match=f"{TOTAL} more bytes have to come .* has {TOTAL - 1} left"):
        get()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=TOTAL))
    assert get() == CONTENT


def test_needs_room_only_for_the_rest(
    get: Get, files: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(target, files, CONTENT[:100])
    usage = shutil.disk_usage(target.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=TOTAL - 100))
    assert get() == CONTENT


def test_refuses_a_body_in_another_encoding(get: Get, files: FileServer, target: Path) -> None:
    packed = gzip.compress(CONTENT)
    files.answers = [lambda _: Response(packed, 200, {"Content-Encoding": "gzip"})]
    assert "Content-Encoding 'gzip'" in failure(get)
    assert not target.exists()


# Secrets


def test_shows_and_keeps_no_secrets_when_the_connection_breaks(
    get: Get, files: FileServer, closed_address: str, target: Path
) -> None:
    secret = closed_address.replace("http://", "http://user:pa55@") + "w.npz?sig=5ecret"
    message = failure(get, url=secret)
    files.answers = [files.truncate(SOME), *(files.truncate(0) for _ in range(3))]
    message += failure(get, url=files.url + "?sig=5ecret")
    message += target.with_name("w.npz.part.json").read_text()
    for word in ("pa55", "user", "5ecret", "Pool"):
        assert word not in message

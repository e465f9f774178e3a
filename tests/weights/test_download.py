import base64
import dataclasses
import gzip
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from publisher.weights import Digest, Retry, UnreachableError, WeightsError, download
from publisher.weights.download import BODY_CHUNK, redirected, without_secrets
from tests.weights.server import FileServer, status

CONTENT = np.random.default_rng(0).bytes(5 * BODY_CHUNK + 17)
DIGEST = Digest(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
SOME = 2 * BODY_CHUNK  # bytes that come before a connection breaks


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


def test_tells_how_far_it_is(get: Get) -> None:
    seen: list[tuple[int, int | None]] = []
    get(progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_manages_without_a_length(get: Get, files: FileServer, target: Path) -> None:
    files.answers = [lambda _: Response(iter([CONTENT]), 200)]
    seen: list[int | None] = []
    assert get(progress=lambda _, total: seen.append(total)) == DIGEST
    assert set(seen) == {None}
    assert target.read_bytes() == CONTENT


# Connections that break


@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_goes_on_where_the_connection_broke(
    get: Get, files: FileServer, target: Path, pauses: list[float], kind: str
) -> None:
    files.answers = [getattr(files, kind)(SOME)]
    assert get() == DIGEST
    assert target.read_bytes() == CONTENT
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
    assert get(retry=dataclasses.replace(retry, read_timeout=0.2)) == DIGEST
    assert files.ranges == [None, f"bytes={SOME}-"]
    assert len(pauses) == 1


def test_each_attempt_resumes_where_the_last_one_stopped(get: Get, files: FileServer) -> None:
    files.answers = [files.truncate(BODY_CHUNK) for _ in range(3)]
    assert get() == DIGEST
    assert files.ranges == [None, *(f"bytes={n * BODY_CHUNK}-" for n in (1, 2, 3))]


def test_the_next_run_goes_on_after_all_attempts_failed(
    get: Get, files: FileServer, target: Path
) -> None:
    files.answers = [files.truncate(SOME), *(files.truncate(0) for _ in range(3))]
    message = failure(get)
    assert f"ended after {SOME} of {len(CONTENT)} bytes" in message or "broke after" in message
    assert "4 attempts" in message and "goes on from where it stopped" in message
    assert names(target) == {"w.npz.part", "w.npz.part.json"}
    assert get() == DIGEST
    assert files.ranges[-1] == f"bytes={SOME}-"


def test_the_next_run_goes_on_after_an_interruption(
    get: Get, files: FileServer, target: Path
) -> None:
    def interrupt(done: int, _: int | None) -> None:
        if done >= SOME:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(progress=interrupt)
    assert not target.exists()
    assert get() == DIGEST
    assert files.ranges == [None, f"bytes={SOME}-"]


def test_one_line_says_that_nobody_listens(
    get: Get, closed_address: str, target: Path, pauses: list[float]
) -> None:
    with pytest.raises(UnreachableError) as caught:
        get(url=closed_address + "w.npz")
    message = str(caught.value)
    assert message.startswith(f"cannot reach {closed_address}w.npz: connection refused")
    assert "\n" not in message
    assert len(pauses) == 3
    assert names(target) == set()


def test_a_server_that_never_answers_cannot_be_reached(
    get: Get, files: FileServer, retry: Retry, released: threading.Event
) -> None:
    def silence(_: Request) -> Response:
        released.wait()
        return Response(b"", 200)

    files.answers = [silence, silence]
    with pytest.raises(UnreachableError, match="timed out"):
        get(retry=dataclasses.replace(retry, attempts=2, read_timeout=0.2))


# Resuming


def leave_part(target: Path, files: FileServer, content: bytes, **changes: Any) -> None:
    target.parent.mkdir(exist_ok=True)
    note = {"url": files.url, "validator": '"v1"', "length": len(CONTENT), "hashes": ""}
    target.with_name("w.npz.part").write_bytes(content)
    target.with_name("w.npz.part.json").write_text(json.dumps(note | changes))


def test_starts_over_when_the_server_ignores_ranges(
    get: Get, files: FileServer, target: Path
) -> None:
    leave_part(target, files, b"x" * 100)
    files.answers = [lambda _: Response(CONTENT, 200)]
    assert get() == DIGEST
    assert files.ranges == ["bytes=100-"]
    assert target.read_bytes() == CONTENT


def test_starts_over_when_the_file_changed_between_attempts(get: Get, files: FileServer) -> None:
    def older(request: Request) -> Response:
        files.etag, before = '"v0"', files.etag
        answer = files.truncate(SOME)(request)
        files.etag = before
        return answer

    files.answers = [older]
    assert get() == DIGEST
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
    assert get() == DIGEST
    assert files.ranges == ["bytes=100-", None]
    assert pauses == []


@pytest.mark.parametrize("total", [str(TOTAL), "*"])
def test_takes_a_rest_that_fits(get: Get, files: FileServer, target: Path, total: str) -> None:
    leave_part(target, files, CONTENT[:100])
    headers = {"Content-Range": f"bytes 100-{TOTAL - 1}/{total}"}
    files.answers = [lambda _: Response(CONTENT[100:], 206, headers)]
    assert get() == DIGEST
    assert files.ranges == ["bytes=100-"]


def test_asks_again_for_what_a_short_range_left_out(
    get: Get, files: FileServer, target: Path
) -> None:
    leave_part(target, files, CONTENT[:100])
    headers = {"Content-Range": f"bytes 100-199/{TOTAL}"}
    files.answers = [lambda _: Response(CONTENT[100:200], 206, headers)]
    assert get() == DIGEST
    assert files.ranges == ["bytes=100-", "bytes=200-"]


def test_a_part_that_is_whole_needs_only_proof(get: Get, files: FileServer, target: Path) -> None:
    leave_part(target, files, CONTENT)
    assert get() == DIGEST
    assert files.ranges == [f"bytes={TOTAL}-"]


@pytest.mark.parametrize("headers", [{}, {"Content-Range": f"bytes */{TOTAL}"}])
def test_starts_over_when_there_is_no_such_range(
    get: Get, files: FileServer, target: Path, headers: dict[str, str]
) -> None:
    leave_part(target, files, CONTENT + b"too long")
    files.answers = [status(416, headers)]
    assert get() == DIGEST
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
    assert get() == DIGEST
    assert files.ranges == [None]


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"text"'])
def test_starts_over_when_the_note_is_spoiled(
    get: Get, files: FileServer, target: Path, text: str
) -> None:
    leave_part(target, files, b"x" * 100)
    target.with_name("w.npz.part.json").write_text(text)
    assert get() == DIGEST
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
    assert get() == DIGEST
    assert files.requests[1].headers.get("If-Range") == validator
    assert files.ranges[1] == (f"bytes={SOME}-" if validator else None)


def test_a_refused_request_keeps_the_part(get: Get, files: FileServer, target: Path) -> None:
    leave_part(target, files, CONTENT[:100])
    files.answers = [status(403)]
    assert "403" in failure(get)
    assert get() == DIGEST
    assert files.ranges == ["bytes=100-", "bytes=100-"]


# Answers worth another attempt, and others


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_tries_again_when_the_server_is_unwell(
    get: Get, files: FileServer, code: int, pauses: list[float]
) -> None:
    files.answers = [status(code), status(code)]
    assert get() == DIGEST
    assert len(pauses) == 2


def test_pauses_grow_up_to_a_limit(
    get: Get, files: FileServer, retry: Retry, pauses: list[float]
) -> None:
    files.answers = [status(500)] * 6
    assert get(retry=dataclasses.replace(retry, attempts=7)) == DIGEST
    for pause, base in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True):
        assert min(base, 8) <= pause <= min(base + 1, 8)


def test_gives_up_in_the_end_and_says_what_the_server_said(get: Get, files: FileServer) -> None:
    files.answers = [status(503)] * 4
    message = failure(get)
    assert message.startswith(f"{files.url}: the server answered 503")
    assert "4 attempts" in message
    assert len(files.requests) == 4


def http_date(after: timedelta) -> str:
    return format_datetime(datetime.now(UTC) + after, usegmt=True)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("17", 17, 17),
        ("0", 1, 2),
        ("86400", 120, 120),
        ("99999999999999999999999", 120, 120),
        (http_date(timedelta(days=1)), 120, 120),
        (http_date(timedelta(days=-1)), 1, 2),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 1, 2),
        ("soon", 1, 2),
        ("-5", 1, 2),
    ],
    ids=["seconds", "none", "too long", "absurd", "date", "past", "long past", "word", "negative"],
)
def test_waits_as_long_as_it_is_asked_to_within_reason(
    get: Get, files: FileServer, pauses: list[float], value: str, low: float, high: float
) -> None:
    files.answers = [status(503, {"Retry-After": value})]
    assert get() == DIGEST
    assert len(pauses) == 1
    assert low <= pauses[0] <= high


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416, 206, 204])
def test_other_answers_are_final(
    get: Get, files: FileServer, target: Path, code: int, pauses: list[float]
) -> None:
    files.answers = [status(code)]
    message = failure(get)
    assert message.startswith(f"{files.url}: the server answered {code} ")
    assert "models.yaml" in message
    assert pauses == []
    assert len(files.requests) == 1
    assert names(target) == set()


# Redirects


def test_follows_redirects(get: Get, files: FileServer, server: HTTPServer) -> None:
    server.expect_request("/a").respond_with_handler(status(302, {"Location": "/b"}))
    server.expect_request("/b").respond_with_handler(status(307, {"Location": files.url}))
    assert get(url=server.url_for("/a")) == DIGEST


def test_follows_no_more_than_ten_redirects(get: Get, files: FileServer) -> None:
    files.answers = [status(302, {"Location": files.url})] * 10
    assert get() == DIGEST
    files.requests.clear()
    files.answers = [status(302, {"Location": files.url})] * 11
    assert "more than 10 redirects" in failure(get)
    assert len(files.requests) == 11


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://elsewhere/w.npz"])
def test_refuses_to_be_led_out_of_http(get: Get, files: FileServer, location: str) -> None:
    files.answers = [status(302, {"Location": location})]
    assert "redirects to" in failure(get)
    assert len(files.requests) == 1


def test_refuses_to_be_led_out_of_encryption() -> None:
    assert redirected("https://a/w", "https://b/w") == "https://b/w"
    assert redirected("https://a/w", "/v") == "https://a/v"
    assert redirected("http://a/w", "https://b/w") == "https://b/w"
    with pytest.raises(WeightsError, match=r"https://a/w: redirects to http://b/w, .* not secure"):
        redirected("https://u:pw@a/w?key=1", "http://b/w?key=2")


def test_refuses_to_be_led_to_what_is_no_address() -> None:
    with pytest.raises(WeightsError, match="https://a/w: redirects to something that is not"):
        redirected("https://a/w", "http://[x")


# Size and room


def test_refuses_a_length_that_is_too_large(get: Get, files: FileServer, target: Path) -> None:
    seen: list[int] = []
    message = failure(get, largest=TOTAL - 1, progress=lambda done, _: seen.append(done))
    assert f"more than the {TOTAL - 1} bytes" in message
    assert seen == []  # not one byte was taken
    assert names(target) == set()
    assert get(largest=TOTAL) == DIGEST


def test_stops_when_too_much_comes_unannounced(get: Get, files: FileServer, target: Path) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1 << 30:
            sent += 1 << 20
            yield bytes(1 << 20)

    files.answers = [lambda _: Response(body(), 200)]
    assert "more than the 1000 bytes" in failure(get, largest=1000)
    assert names(target) == set()
    assert sent < 1 << 29


def test_looks_for_room_before_it_starts(
    get: Get, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(target.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=TOTAL - 1))
    message = failure(get)
    assert f"{TOTAL} more bytes have to come and the disk has {TOTAL - 1} left" in message
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=TOTAL))
    assert get() == DIGEST


def test_needs_room_only_for_the_rest(
    get: Get, files: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(target, files, CONTENT[:100])
    usage = shutil.disk_usage(target.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=TOTAL - 100))
    assert get() == DIGEST


def test_says_so_when_it_cannot_write(get: Get, target: Path) -> None:
    target.parent.write_text("a file where the folder should be")
    message = failure(get)
    assert f"{target}: cannot be written" in message


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
    leave_part(target, files, b"x" + CONTENT[1:100], hashes=f"md5={RIGHT['md5']}")
    assert "came with md5" in failure(get, expected=None)
    assert names(target) == set()


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
    message = failure(get, expected=Digest(TOTAL + 1, DIGEST.sha256))
    assert f"{TOTAL} bytes" in message and f"{TOTAL + 1} bytes" in message


def test_the_caller_has_the_last_word(get: Get, target: Path) -> None:
    def refuse(part: Path, digest: Digest) -> None:
        assert part.read_bytes() == CONTENT
        assert digest == DIGEST
        raise WeightsError("not like this")

    assert failure(get, accept=refuse) == "not like this"
    assert names(target) == set()


def test_refuses_a_body_in_another_encoding(get: Get, files: FileServer, target: Path) -> None:
    packed = gzip.compress(CONTENT)
    files.answers = [lambda _: Response(packed, 200, {"Content-Encoding": "gzip"})]
    assert "Content-Encoding 'gzip'" in failure(get)
    assert not target.exists()


# Secrets


@pytest.mark.parametrize("code", [404, 503])
def test_shows_no_secrets(get: Get, files: FileServer, code: int, target: Path) -> None:
    secret = files.url.replace("http://", "http://user:pa55@") + "?sig=5ecret#5ecret"
    files.answers = [status(code)] * 4
    message = failure(get, url=secret)
    assert files.url in message
    for word in ("pa55", "user", "5ecret", "Traceback", "Pool"):
        assert word not in message


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


@pytest.mark.parametrize("url", ["http://a b:x/", "http://[x/w.npz", "nonsense", "http://a:99999/"])
def test_an_address_that_cannot_be_used_is_no_crash(get: Get, url: str) -> None:
    assert "cannot" in failure(get, url=url)


def test_without_secrets_keeps_host_port_and_path() -> None:
    assert without_secrets("https://u:p@host:8443/a/b?k=v#f") == "https://host:8443/a/b"

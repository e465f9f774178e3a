"""One request to a real server: redirects, bounds, timeouts, secrets."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from requests import PreparedRequest, Response
from werkzeug import Request
from werkzeug import Response as Answer

from publisher.util.http import HttpError, NoAnswerError, Retry, TransientError
from publisher.util.http.request import MOST_REDIRECTS, body, new_session, request, require
from tests.util.http.server import status

SECRET = "5ecret"


def sign(prepared: PreparedRequest) -> PreparedRequest:
    prepared.headers["Authorization"] = f"Bearer {SECRET}"
    return prepared


def get(address: str, retry: Retry, follow: int = MOST_REDIRECTS) -> Response:
    return request(new_session(), "GET", address, retry=retry, follow=follow, sign=sign)


def headers_of(server: HTTPServer) -> list[Request]:
    return [asked for asked, _ in server.log]


def test_the_answer_comes_as_it_is_stored(server: HTTPServer, retry: Retry) -> None:
    server.expect_request("/a").respond_with_data(b"content")
    assert body(require(get(server.url_for("/a"), retry)), 7) == b"content"
    assert headers_of(server)[0].headers["Accept-Encoding"] == "identity"


def test_no_credentials_are_taken_from_netrc(
    server: HTTPServer, retry: Retry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine {server.host} login a password {SECRET}")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.expect_request("/a").respond_with_handler(status(302, {"Location": "/b"}))
    server.expect_request("/b").respond_with_data(b"")
    get(server.url_for("/a"), retry).close()
    assert [asked.headers.get("Authorization") for asked in headers_of(server)] == [
        f"Bearer {SECRET}",
        None,
    ]


# Redirects


def test_redirects_are_followed_without_credentials(server: HTTPServer, retry: Retry) -> None:
    server.expect_request("/a").respond_with_handler(status(302, {"Location": "/b"}))
    server.expect_request("/b").respond_with_handler(
        status(307, {"Location": server.url_for("/c")})
    )
    server.expect_request("/c").respond_with_data(b"content")
    assert body(get(server.url_for("/a"), retry), 100) == b"content"
    signed = ["Authorization" in asked.headers for asked in headers_of(server)]
    assert signed == [True, False, False]


def test_no_redirect_is_followed_unasked(server: HTTPServer, retry: Retry) -> None:
    server.expect_request("/a").respond_with_handler(status(302, {"Location": "/b"}))
    assert get(server.url_for("/a"), retry, follow=0).status_code == 302
    assert len(headers_of(server)) == 1


def test_there_is_an_end_to_redirects(server: HTTPServer, retry: Retry) -> None:
    server.expect_request("/a").respond_with_handler(status(302, {"Location": "/a"}))
    with pytest.raises(HttpError, match="leads through more than 3 redirects"):
        get(server.url_for("/a"), retry, follow=3)
    assert len(headers_of(server)) == 4


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://elsewhere/w.npz"])
def test_no_redirect_leads_out_of_http(server: HTTPServer, retry: Retry, location: str) -> None:
    server.expect_request("/a").respond_with_handler(status(302, {"Location": location}))
    with pytest.raises(HttpError, match=f"it redirects to {location}, which is not secure"):
        get(server.url_for("/a"), retry)


def test_no_redirect_leads_from_https_to_http(
    secure_server: HTTPServer, server: HTTPServer, retry: Retry
) -> None:
    plain = server.url_for("/b")
    secure_server.expect_request("/a").respond_with_handler(status(302, {"Location": plain}))
    with pytest.raises(HttpError, match=f"it redirects to {plain}, which is not secure"):
        get(secure_server.url_for("/a"), retry)
    assert server.log == []


def test_the_body_of_a_redirect_is_not_read(server: HTTPServer, retry: Retry) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1 << 28:
            sent += 1 << 20
            yield bytes(1 << 20)

    server.expect_request("/a").respond_with_handler(
        lambda _: Answer(endless(), 302, {"Location": "/b"})
    )
    server.expect_request("/b").respond_with_data(b"content")
    assert body(get(server.url_for("/a"), retry), 100) == b"content"
    assert sent < 1 << 27


# Answers


def test_no_more_is_read_than_is_wanted(server: HTTPServer, retry: Retry) -> None:
    server.expect_request("/a").respond_with_data(bytes(1001))
    with pytest.raises(HttpError, match="more than 1,000 bytes"):
        body(get(server.url_for("/a"), retry), 1000)


def test_an_answer_that_breaks_off_is_transient(server: HTTPServer, retry: Retry) -> None:
    cut = Answer(iter([b"abc"]), 200, {"Content-Length": "100"})
    server.expect_request("/a").respond_with_response(cut)
    with pytest.raises(TransientError, match=r"the answer broke off \(too few bytes came\)"):
        body(get(server.url_for("/a"), retry), 1000)


@pytest.mark.parametrize(("code", "kind"), [(503, TransientError), (404, HttpError)])
def test_a_refusal_says_its_status_and_how_long_to_wait(
    code: int, kind: type[HttpError], server: HTTPServer, retry: Retry
) -> None:
    server.expect_request("/a").respond_with_handler(status(code, {"Retry-After": "17"}))
    with pytest.raises(kind) as caught:
        require(get(server.url_for("/a"), retry))
    assert (type(caught.value), caught.value.status, caught.value.pause) == (kind, code, 17.0)


def test_nobody_is_waited_for_for_ever(
    server: HTTPServer, retry: Retry, released: threading.Event
) -> None:
    arrived = threading.Event()

    def silence(_: Request) -> Answer:
        arrived.set()
        released.wait()
        return Answer(b"")

    server.expect_request("/a").respond_with_handler(silence)
    with pytest.raises(NoAnswerError, match=r"no answer \(timed out\)"):
        get(server.url_for("/a"), dataclasses.replace(retry, read_timeout=0.2))
    # A request that the server reads only now would be taken for one of the next test.
    assert arrived.wait(300)


def test_no_error_shows_a_secret(closed_address: str, retry: Retry) -> None:
    nobody = closed_address.replace("http://", f"http://user:{SECRET}@")
    for address in (f"{nobody}a?sig={SECRET}#{SECRET}", f"http://[{SECRET}"):
        with pytest.raises(HttpError) as caught:
            get(address, retry)
        assert SECRET not in f"{caught.value} {caught.value!r}"
        assert caught.value.__suppress_context__

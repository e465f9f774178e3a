"""A resumable upload: what arrived is not sent again, and what fails says how."""

import io
from collections.abc import Iterable

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from publisher.util.http import GoneError, HttpError, Retry, TransientError
from publisher.util.http.upload import UploadSession

CONTENT = bytes(range(100))
SECRET = "5ecret"


class Storage:
    """Keeps what it gets; `faults` are answers that come first."""

    def __init__(self, server: HTTPServer) -> None:
        self.kept = b""
        self.spans: list[str | None] = []
        self.faults: list[Response] = []
        self.address = server.url_for(f"/upload?upload_id={SECRET}")
        server.expect_request("/upload").respond_with_handler(self._handle)

    def _handle(self, request: Request) -> Response:
        span = request.headers.get("Content-Range")
        self.spans.append(span)
        if self.faults:
            return self.faults.pop(0)
        assert "Authorization" not in request.headers
        self.kept += request.get_data()
        total = int(span.rpartition("/")[2]) if span else len(self.kept)
        if len(self.kept) >= total:
            return Response(b"", 200)
        there = {"Range": f"bytes=0-{len(self.kept) - 1}"} if self.kept else {}
        return Response(b"", 308, there)


@pytest.fixture
def storage(server: HTTPServer) -> Storage:
    return Storage(server)


def session(storage: Storage, retry: Retry, received: int | None = 0) -> UploadSession:
    return UploadSession(storage.address, len(CONTENT), retry, received, piece=40)


def finish(upload: UploadSession, content: bytes = CONTENT) -> None:
    while not upload.finished:
        upload.advance(io.BytesIO(content))


def test_a_file_goes_piece_by_piece(storage: Storage, retry: Retry) -> None:
    finish(session(storage, retry))
    assert storage.kept == CONTENT
    assert storage.spans == ["bytes 0-39/100", "bytes 40-79/100", "bytes 80-99/100"]


def test_what_arrived_before_is_not_sent_again(storage: Storage, retry: Retry) -> None:
    storage.kept = CONTENT[:70]
    finish(session(storage, retry, None))
    assert storage.kept == CONTENT
    assert storage.spans == ["bytes */100", "bytes 70-99/100"]


def test_after_a_transient_error_it_is_asked_what_arrived(storage: Storage, retry: Retry) -> None:
    storage.faults = [Response(b"", 503)]
    upload = session(storage, retry)
    with pytest.raises(TransientError):
        upload.advance(io.BytesIO(CONTENT))
    finish(upload)
    assert storage.spans[:3] == ["bytes 0-39/100", "bytes */100", "bytes 0-39/100"]
    assert storage.kept == CONTENT


def test_an_empty_file_is_a_file(storage: Storage, retry: Retry) -> None:
    finish(UploadSession(storage.address, 0, retry, 0), b"")
    assert storage.spans == [None]


@pytest.mark.parametrize("there", [[], [("Range", "bytes=0-99")]], ids=["nothing", "all"])
def test_a_storage_that_makes_no_progress_is_a_transient_error(
    storage: Storage, retry: Retry, there: Iterable[tuple[str, str]]
) -> None:
    storage.faults = [Response(b"", 308, there)]
    with pytest.raises(TransientError, match=r"kept nothing|does not finish"):
        session(storage, retry).advance(io.BytesIO(CONTENT))


@pytest.mark.parametrize("code", [404, 410])
def test_a_session_may_be_gone(storage: Storage, retry: Retry, code: int) -> None:
    storage.faults = [Response(b"", code)]
    with pytest.raises(GoneError):
        session(storage, retry).advance(io.BytesIO(CONTENT))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"error": {"message": "No storage.objects.create"}}', "No storage.objects.create"),
        (b"<html>", "FORBIDDEN"),
        (bytes(2 << 20), "FORBIDDEN"),
    ],
    ids=["said", "not understood", "too large"],
)
def test_a_refusal_says_why(storage: Storage, retry: Retry, content: bytes, words: str) -> None:
    storage.faults = [Response(content, 403)]
    with pytest.raises(HttpError, match=words) as caught:
        session(storage, retry).advance(io.BytesIO(CONTENT))
    assert (type(caught.value), caught.value.status) == (HttpError, 403)


def test_the_address_is_a_secret(storage: Storage, retry: Retry) -> None:
    storage.faults = [Response(b"", 302, {"Location": "https://elsewhere/"})]
    upload = session(storage, retry)
    with pytest.raises(HttpError) as caught:
        upload.advance(io.BytesIO(CONTENT))
    assert SECRET not in f"{upload!r} {caught.value!r}"
    assert len(storage.spans) == 1


def test_an_upload_can_be_cancelled(storage: Storage, server: HTTPServer, retry: Retry) -> None:
    session(storage, retry).cancel()
    assert [asked.method for asked, _ in server.log] == ["DELETE"]

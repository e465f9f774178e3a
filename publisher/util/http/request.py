"""Requests with timeouts, bounded bodies and safe redirects."""

from collections.abc import Callable, Collection, Mapping
from typing import IO, Any

import requests
from requests import PreparedRequest, Response, Session

from publisher.util.http.address import redirected
from publisher.util.http.errors import (
    HttpError,
    NoAnswerError,
    TransientError,
    failure,
    is_transient,
    one_line,
)
from publisher.util.http.retry import Retry, retry_after

MOST_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)
PIECE = 1 << 16  # bytes; a connection that breaks loses at most this much

Sign = Callable[[PreparedRequest], PreparedRequest]


class _Session(Session):
    """A session that ignores redirects: requests would read each one's body, whatever its size."""

    def get_redirect_target(self, resp: Response) -> None:
        return None


def new_session() -> Session:
    """Return a session, whose connections requests share."""
    return _Session()


def unsigned(prepared: PreparedRequest) -> PreparedRequest:
    """Add no credentials; without this, requests takes some from ~/.netrc."""
    return prepared


def request(
    session: Session,
    method: str,
    address: str,
    *,
    retry: Retry,
    follow: int = 0,
    sign: Sign | None = None,
    headers: Mapping[str, str] | None = None,
    json: Mapping[str, Any] | None = None,
    data: bytes | IO[bytes] | None = None,
) -> Response:
    """Send one request and return the answer, whatever its status, with its body unread.

    The server sends the body without an encoding, unless `headers` accept one. `request` follows
    at most `follow` redirects, none of them from https to http. `sign` adds credentials to the
    first request only.

    Raises `NoAnswerError` if no answer came, and `HttpError` for an invalid address or redirect.
    """
    for _ in range(follow + 1):
        try:
            response = session.request(
                method,
                address,
                headers={"Accept-Encoding": "identity", **(headers or {})},
                auth=sign,
                json=json,
                data=data,
                stream=True,
                allow_redirects=False,
                timeout=retry.timeouts,
            )
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise NoAnswerError(0, f"no answer ({failure(error)})") from None
        except (requests.RequestException, ValueError) as error:
            raise HttpError(
                0, f"the address cannot be used ({type(error).__name__})", "correct it"
            ) from None
        location = response.headers.get("Location", "")
        if not follow or response.status_code not in REDIRECTS or not location:
            return response
        response.close()
        address = redirected(address, location)
        sign = sign and unsigned
    raise HttpError(
        0,
        f"it leads through more than {follow} redirects",
        "give the address where the file really is",
    )


def require(response: Response, good: Collection[int] = (200,)) -> Response:
    """Return the answer if its status is one of `good`.

    Otherwise closes it and raises `TransientError` or `HttpError`.
    """
    status = response.status_code
    if status in good:
        return response
    response.close()
    kind = TransientError if is_transient(status) else HttpError
    raise kind(status, one_line(response.reason or ""), pause=retry_after(response.headers))


def body(response: Response, largest: int) -> bytes:
    """Return the body of an answer, and close the answer.

    Raises `HttpError` for more than `largest` bytes, and `TransientError` if the body breaks off.
    """
    content = bytearray()
    with response:
        try:
            for piece in response.iter_content(PIECE):
                content += piece
                if len(content) > largest:
                    raise HttpError(0, f"it sends more than {largest:,} bytes", "see what it is")
        except requests.RequestException as error:
            raise TransientError(0, f"the answer broke off ({failure(error)})") from None
    return bytes(content)

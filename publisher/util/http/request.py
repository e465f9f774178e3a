"""One request: bounded, within timeouts, its redirects followed only where that is safe."""

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
    """Leaves redirects alone: requests would read the body of each, whatever its size."""

    def get_redirect_target(self, resp: Response) -> None:
        return None


def new_session() -> Session:
    """Return a session whose connections `request` may share."""
    return _Session()


def unsigned(prepared: PreparedRequest) -> PreparedRequest:
    """Add no credentials. Without this, requests looks for some in ~/.netrc."""
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
    """Send one request and return its answer, whatever its status; its body is not read yet.

    The body comes as it is stored, unless `headers` accept an encoding. At most `follow`
    redirects are followed, none of them from https to http. `sign` adds credentials to the
    first request only, so they go nowhere else.

    Raises `NoAnswerError` if none came, and `HttpError` for an address or a redirect that
    cannot be used.
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

    Raises `TransientError` or `HttpError` otherwise, and closes the answer.
    """
    status = response.status_code
    if status in good:
        return response
    response.close()
    kind = TransientError if is_transient(status) else HttpError
    raise kind(status, one_line(response.reason or ""), pause=retry_after(response.headers))


def body(response: Response, largest: int) -> bytes:
    """Return the body of an answer, and close it.

    Raises `HttpError` for more than `largest` bytes, and `TransientError` if it breaks off.
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

"""The HTTP client for huggingface_hub, with timeouts, size limits and bounded retries."""

from collections.abc import Mapping
from typing import Any

import httpx2
from huggingface_hub.utils._http import parse_ratelimit_headers

from publisher.util.http import (
    HttpError,
    NoAnswerError,
    Retry,
    TransientError,
    failure,
    is_transient,
    origin_of,
    redirected,
    retry_after,
)

LARGEST_ANSWER = 1 << 26  # bytes
MOST_REQUESTS = 20_000  # for one call of the library; an archive may have 10,000 parts

# The Hub may answer this with status 409 when it creates a repository. The library would retry
# at once and for ever.
_BUSY = b"another conflicting operation is in progress"


class Client(httpx2.Client):
    """An `httpx2.Client` that retries after transient errors and limits time and size.

    It does not retry file uploads: the library rewinds the file and retries itself.
    """

    def __init__(self, origin: str, retry: Retry) -> None:
        super().__init__(follow_redirects=False, event_hooks={"response": [_refuse_unsafe]})
        self.requests = 0
        self._origin = origin
        self._retry = retry
        timeouts = httpx2.Timeout(retry.read_timeout, connect=retry.connect_timeout)
        self._timeouts = timeouts.as_dict()

    def close(self) -> None:
        """Do nothing: the library closes its client, but this one is reused."""

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request; see `httpx2.Client`. Raises `HttpError` after the last attempt."""
        if "authorization" in request.headers and not self._is_for_hub(request):
            raise HttpError(0, "a redirect to another host, which must not get the token")
        # The library sends some requests without a timeout.
        request.extensions = {**request.extensions, "timeout": self._timeouts}
        if not isinstance(request.stream, httpx2.ByteStream):
            return self._send_once(request, options)
        return self._retry.run(lambda: self._send_or_raise(request, options))

    def _is_for_hub(self, request: httpx2.Request) -> bool:
        """Return whether a request goes to the Hub rather than to its storage."""
        return origin_of(str(request.url)) == self._origin

    def _send_or_raise(
        self, request: httpx2.Request, options: Mapping[str, Any]
    ) -> httpx2.Response:
        try:
            response = self._send_once(request, options)
        except httpx2.TransportError as error:
            raise no_answer(error) from None
        status = response.status_code
        if is_transient(status) or (status == 409 and _BUSY in response.content):
            # Messages of the storage repeat signatures.
            reason = reason_of(response) if self._is_for_hub(request) else ""
            raise TransientError(status, reason, pause=_requested_pause(response))
        return response

    def _send_once(self, request: httpx2.Request, options: Mapping[str, Any]) -> httpx2.Response:
        """Send a request and read its response."""
        self.requests += 1
        if self.requests > MOST_REQUESTS:
            raise HttpError(0, f"more than {MOST_REQUESTS:,} requests for one call")
        content = bytearray()
        response = super().send(request, **{**options, "stream": True})
        try:
            for piece in response.iter_bytes():
                content += piece
                if len(content) > LARGEST_ANSWER:
                    raise HttpError(0, f"more than {LARGEST_ANSWER:,} bytes in one answer")
        finally:
            response.close()
        if 300 <= response.status_code < 400:
            raise HttpError(response.status_code, "it leads elsewhere")
        pause = _requested_pause(response)
        if is_transient(response.status_code) and pause > self._retry.longest_asked:
            remedy = "wait a while and run again"
            raise HttpError(response.status_code, f"for {pause:,.0f} s from now", remedy)
        # These headers describe the encoded content, which is decoded here.
        sent = {"content-encoding", "content-length", "transfer-encoding"}
        return httpx2.Response(
            response.status_code,
            headers=[(k, v) for k, v in response.headers.multi_items() if k.lower() not in sent],
            content=bytes(content),
            request=response.request,
        )


def _refuse_unsafe(response: httpx2.Response) -> None:
    """Raise `HttpError` for a redirect out of HTTP, or from https to http."""
    if response.has_redirect_location:
        redirected(str(response.request.url), response.headers["Location"])


def no_answer(error: httpx2.HTTPError) -> NoAnswerError:
    """Return the error for a request without a response."""
    return NoAnswerError(0, f"no answer ({failure(error)})")


def reason_of(response: httpx2.Response) -> str:
    """Return the Hub's error message."""
    parts: list[Any] = [response.headers.get("X-Error-Message")]
    try:
        answer = response.json()
    except (ValueError, httpx2.StreamError):
        answer = None
    if isinstance(answer, dict):
        parts += [answer.get("error"), answer.get("message")]
        errors = answer.get("errors")
        for error in errors if isinstance(errors, list) else ():
            parts.append(error.get("message") if isinstance(error, dict) else error)
    return " ".join(dict.fromkeys(part for part in parts if isinstance(part, str) and part))


def _requested_pause(response: httpx2.Response) -> float:
    """Return the seconds that the Hub asks to wait."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds + 1.0
    return retry_after(response.headers)

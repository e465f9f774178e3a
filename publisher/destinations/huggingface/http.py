"""The client for HTTP that huggingface_hub is given: bounded, and patient only so long."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
import tenacity
from huggingface_hub.utils._http import parse_ratelimit_headers

from publisher.util.http import Retry

LARGEST_ANSWER = 1 << 26  # bytes
LONGEST_PAUSE = 330.0  # seconds; a rate limit of the Hub ends after five minutes
MOST_REQUESTS = 20_000  # for one call of the library; an archive may have 10,000 parts
PASSING = (408, 429, 500, 502, 503, 504)

# The Hub says this with status 409 when it makes a repository, and the library asks again at
# once and for ever.
_BUSY = b"another conflicting operation is in progress"


class RefusalError(Exception):
    """An answer that no further attempt would mend, or none. The library does not know it.

    `status` is that of the answer; 0 without one, or where it cannot be understood.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class _PassingError(RefusalError):
    """A failure that another attempt may not meet; `pause` is what the Hub asked for."""

    def __init__(self, status: int, reason: str, pause: float = 0.0) -> None:
        super().__init__(status, reason)
        self.pause = pause


class Client(httpx2.Client):
    """Sends requests with timeouts, reads bounded answers, and tries again where that may help.

    A file that is sent is not sent again here: the library winds it back and does so itself.
    """

    def __init__(self, origin: str, retry: Retry) -> None:
        super().__init__(follow_redirects=False)
        self.requests = 0
        self._origin = origin
        self._retry = retry
        patience = httpx2.Timeout(retry.read_timeout, connect=retry.connect_timeout)
        self._patience = patience.as_dict()

    def close(self) -> None:
        """Stay open: the library closes what it shares, and this one is kept."""

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request, see `httpx2.Client`. Raises `RefusalError` where that is the end."""
        if "authorization" in request.headers and not self._is_own(request):
            raise RefusalError(0, "it leads elsewhere, where the token must not go")
        # The library gives no timeout to some of its requests.
        request.extensions = {**request.extensions, "timeout": self._patience}
        if not isinstance(request.stream, httpx2.ByteStream):
            return self._once(request, options)
        try:
            return tenacity.Retrying(
                stop=tenacity.stop_after_attempt(self._retry.attempts),
                wait=self._retry.pause,
                retry=tenacity.retry_if_exception_type(_PassingError),
                sleep=self._retry.sleep,
                reraise=True,
            )(self._attempt, request, options)
        except _PassingError as error:
            said = [error.reason] if error.reason else []
            problem = ", ".join([*said, f"{self._retry.attempts} attempts"])
            raise RefusalError(error.status, problem) from None

    def _is_own(self, request: httpx2.Request) -> bool:
        """Whether it goes to the Hub itself; storage repeats signatures in what it says."""
        return origin_of(str(request.url)) == self._origin

    def _attempt(self, request: httpx2.Request, options: Mapping[str, Any]) -> httpx2.Response:
        try:
            response = self._once(request, options)
        except httpx2.TransportError as error:
            raise _PassingError(0, failure(error)) from None
        status = response.status_code
        if status in PASSING or (status == 409 and _BUSY in response.content):
            reason = reason_of(response) if self._is_own(request) else ""
            raise _PassingError(status, reason, _pause_asked_for(response))
        return response

    def _once(self, request: httpx2.Request, options: Mapping[str, Any]) -> httpx2.Response:
        """Send a request and read its answer."""
        self.requests += 1
        if self.requests > MOST_REQUESTS:
            raise RefusalError(0, "there is no end to it")
        response = super().send(request, **{**options, "stream": True})
        content = bytearray()
        try:
            for piece in response.iter_bytes():
                content += piece
                if len(content) > LARGEST_ANSWER:
                    raise RefusalError(0, f"more than {LARGEST_ANSWER:,} bytes came")
        finally:
            response.close()
        if 300 <= response.status_code < 400:
            raise RefusalError(response.status_code, "it leads elsewhere")
        pause = _pause_asked_for(response)
        if response.status_code in PASSING and pause > LONGEST_PAUSE:
            raise RefusalError(response.status_code, f"for {pause:,.0f} s from now")
        # They tell of the content as it came, and here it is unpacked.
        sent = {"content-encoding", "content-length", "transfer-encoding"}
        return httpx2.Response(
            response.status_code,
            headers=[(k, v) for k, v in response.headers.multi_items() if k.lower() not in sent],
            content=bytes(content),
            request=response.request,
        )


def origin_of(address: str) -> str:
    """Return scheme, host and port of an address, in one form."""
    parts = urlsplit(address)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme.lower())
    return f"{parts.scheme.lower()}://{(parts.hostname or '').lower()}:{port}"


def failure(error: httpx2.HTTPError) -> str:
    """Say why a request got no answer, in words that cannot hold any of its address."""
    if isinstance(error, httpx2.TimeoutException):
        return "timed out"
    text = repr(error)
    for sign, words in (
        ("Name or service", "its name cannot be resolved"),
        ("refused", "connection refused"),
        ("unreachable", "no route to it"),
        ("SSL", "its certificate or encryption is not accepted"),
        ("complete message body", "too few bytes came"),
        ("without sending", "it closed the connection without an answer"),
        ("reset by peer", "it reset the connection"),
    ):
        if sign in text:
            return words
    return "connection failed"


def reason_of(response: httpx2.Response) -> str:
    """Return what the Hub says is wrong, as it says it."""
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


def _pause_asked_for(response: httpx2.Response) -> float:
    """Return how many seconds the Hub asks to wait."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds + 1.0
    after = response.headers.get("Retry-After", "")
    return float(after) if re.fullmatch(r"\d{1,9}", after) else 0.0

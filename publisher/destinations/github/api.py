"""A client for GitHub's REST API that retries after transient errors.

The token is sent to the API and its upload host only, never along a redirect. Messages from
GitHub are shown with the token removed.

Sources: GitHub REST API documentation, "Best practices for using the REST API" (redirects,
rate limits), "Rate limits for the REST API" and "REST API endpoints for release assets".
"""

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError
from requests import PreparedRequest, Response

from publisher.destinations.base import (
    ConflictError,
    DestinationError,
    failure_message,
    service_address,
    token_of,
    unreadable,
)
from publisher.errors import first_problem
from publisher.util.http import (
    LOOPBACK,
    PLAIN_ADDRESS,
    HttpError,
    Retry,
    TransientError,
    is_transient,
    one_line,
    retry_after,
)
from publisher.util.http.request import REDIRECTS, body, new_session, request

ADDRESS = "https://api.github.com"
API_VERSION = "2022-11-28"
SECONDARY_PAUSE = 60.0  # seconds to wait if GitHub does not say how long
LARGEST_ANSWER = 1 << 26  # bytes; a list of 100 releases with long pages is smaller
MOST_REDIRECTS = 3
PERMISSION = (
    "grant the token the repository permission Contents: write (in GitHub Actions:"
    " `permissions: contents: write`; a classic token: the scope repo)"
)
REMEDIES = {
    401: "the token in GITHUB_TOKEN or GH_TOKEN is not accepted: create a new one and set it",
    403: PERMISSION,
    404: f"check that it exists and {PERMISSION}",
    **dict.fromkeys(REDIRECTS, "the repository was renamed: correct `to` in models.yaml"),
}

_JSON = "application/vnd.github+json"
_BYTES = "application/octet-stream"

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Answer:
    """A response. `reason` is GitHub's error message, on one line."""

    status: int
    content: bytes
    headers: Mapping[str, str]
    reason: str = ""


class _ErrorBody(BaseModel):
    model_config = ConfigDict(strict=True)

    message: str = ""
    errors: list[dict[str, Any] | str] = []


class Api:
    """The API with one token.

    `ask`, `send` and `fetch` raise `HttpError` for an unexpected status. Call them in a step
    of `during`, which retries after a `TransientError`, raises other failures as
    `DestinationError`, and names the step in messages.
    """

    def __init__(self, name: str, environment: Mapping[str, str], retry: Retry) -> None:
        self._name = name
        self._doing = "asking"
        self._base = service_address(
            name,
            "GITHUB_API_URL",
            environment.get("GITHUB_API_URL") or ADDRESS,
            f"unset it (default: {ADDRESS}), or set it to https://HOST/api/v3",
        )
        self._token = token_of(
            name,
            "GITHUB_TOKEN or GH_TOKEN",
            environment.get("GITHUB_TOKEN") or environment.get("GH_TOKEN") or "",
            "set it again",
        )
        self._retry = retry
        self._session = new_session()

    @property
    def has_token(self) -> bool:
        """Whether the environment has a token."""
        return bool(self._token)

    def error(self, problem: str) -> DestinationError:
        """Return an error that names the current step."""
        return DestinationError(f"{self._name}: {self._doing}: {problem}")

    def conflict(self, problem: str) -> ConflictError:
        """Return an error about another publisher's write during the current step."""
        return ConflictError(f"{self._name}: {self._doing}: {problem}")

    def during(self, doing: str, step: Callable[[], T]) -> T:
        """Run a step; start it again after a `TransientError`."""
        before, self._doing = self._doing, doing
        try:
            return self._retry.run(step)
        except HttpError as error:
            where = f"{self._name}: {self._doing}"
            raise DestinationError(failure_message(where, error, "GitHub", REMEDIES)) from None
        finally:
            self._doing = before

    def ask(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        accept: str = _JSON,
        expected: Collection[int] = (200,),
        allowed: Collection[int] = (),
    ) -> Answer:
        """Send one request; return statuses in `expected`, and errors in `allowed`."""
        # Lists of releases contain whole pages and compress well.
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        response = self._request(method, f"{self._base}{path}", headers, json=json)
        return self._checked(response, expected, allowed)

    def send(self, address: str, name: str, source: Path | bytes, content_type: str) -> Answer:
        """Upload an asset. Return 404 and 422 instead of raising."""
        url = f"{address}?name={quote(name)}"
        headers = {"Accept": _JSON, "Content-Type": content_type}
        if isinstance(source, bytes):
            response = self._request("POST", url, headers, data=source)
        else:
            try:
                file = source.open("rb")
            except OSError as error:
                raise unreadable(error, str(source)) from error
            with file:
                response = self._request("POST", url, headers, data=file)
        return self._checked(response, (201,), (404, 422))

    def fetch(self, path: str, largest: int) -> bytes:
        """Return the content of an asset, at most `largest` bytes. Follow redirects to storage."""
        headers = {"Accept": _BYTES}
        response = self._request("GET", f"{self._base}{path}", headers, follow=MOST_REDIRECTS)
        return self._checked(response, (200,), (), largest).content

    def parsed(self, kind: type[M], answer: Answer) -> M:
        """Parse a response. Raises `DestinationError` if its form is wrong."""
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            raise self.error(
                f"the response is not GitHub's ({first_problem(error)}); check GITHUB_API_URL and"
                " the proxies on the way"
            ) from None

    def upload_address(self, template: str) -> str:
        """Return the upload address of a release. Raises `DestinationError` for a foreign host.

        Source: "REST API endpoints for release assets" (`upload_url`). GitHub Enterprise
        takes uploads on the API's host or on a host `uploads.`, as github.com does.
        """
        address = template.partition("{")[0]
        api = urlsplit(self._base)
        host = api.netloc.lower()
        try:
            parts = urlsplit(address)
            if api.hostname in LOOPBACK:
                good = parts.scheme in ("http", "https") and parts.hostname in LOOPBACK
            else:
                places = (host, f"uploads.{host.removeprefix('api.')}")
                good = parts.scheme == "https" and parts.netloc.lower() in places
        except ValueError:
            good = False
        if not good or not PLAIN_ADDRESS.fullmatch(address):
            raise self.error(
                "the upload address is not GitHub's own; check GITHUB_API_URL and the proxies on"
                " the way"
            )
        return address

    def _request(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        *,
        follow: int = 0,
        json: Mapping[str, Any] | None = None,
        data: bytes | IO[bytes] | None = None,
    ) -> Response:
        def sign(prepared: PreparedRequest) -> PreparedRequest:
            if self._token:
                prepared.headers["Authorization"] = f"Bearer {self._token}"
            return prepared

        ours = {"User-Agent": "bit-publisher", "X-GitHub-Api-Version": API_VERSION}
        return request(
            self._session,
            method,
            address,
            retry=self._retry,
            follow=follow,
            sign=sign,
            headers={**ours, **headers},
            json=json,
            data=data,
        )

    def _checked(
        self,
        response: Response,
        expected: Collection[int],
        allowed: Collection[int],
        largest: int = LARGEST_ANSWER,
    ) -> Answer:
        content = body(response, largest)
        status, headers = response.status_code, response.headers
        if status in expected:
            return Answer(status, content, headers)
        reason = self._reason(content)
        if status == 429 or (status == 403 and _is_rate_limit(headers, reason)):
            raise self._rate_limited(status, headers, reason)
        if is_transient(status):
            raise TransientError(status, reason, pause=retry_after(headers))
        if status in allowed:
            return Answer(status, content, headers, reason)
        raise HttpError(status, reason)

    def _rate_limited(self, status: int, headers: Mapping[str, str], reason: str) -> HttpError:
        """Return the error for a rate limit: transient unless the wait is too long."""
        pause = _seconds_until_reset(headers)
        if pause <= self._retry.longest_asked:
            return TransientError(status, reason, "wait a while and run again", pause=pause)
        until = datetime.fromtimestamp(time.time() + pause, UTC)
        return HttpError(
            status,
            reason,
            f"the rate limit is used up until {until:%Y-%m-%d %H:%M} UTC: run again then",
        )

    def _reason(self, content: bytes) -> str:
        """Return GitHub's error message: one short line without the token."""
        try:
            parsed = _ErrorBody.model_validate_json(content)
        except ValidationError:
            return ""
        parts = [parsed.message]
        for error in parsed.errors:
            if isinstance(error, str):
                parts.append(error)
            else:
                parts += [str(error[key]) for key in ("field", "code", "message") if key in error]
        return one_line(" ".join(parts), (self._token,))


def _is_rate_limit(headers: Mapping[str, str], reason: str) -> bool:
    """Return whether a 403 is a rate limit rather than a missing permission."""
    return (
        "Retry-After" in headers
        or headers.get("X-RateLimit-Remaining") == "0"
        or "secondary rate limit" in reason
    )


def _seconds_until_reset(headers: Mapping[str, str]) -> float:
    """Return the seconds until GitHub accepts requests again."""
    after, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
    if re.fullmatch(r"\d{1,9}", after):
        return float(after)
    if headers.get("X-RateLimit-Remaining") == "0" and re.fullmatch(r"\d{1,11}", reset):
        return max(int(reset) - time.time(), 0.0)
    return SECONDARY_PAUSE

"""GitHub's REST API: one request at a time, and steps that are repeated where that may help.

The token goes to the API and to the address of its uploads, and nowhere else: no redirect is
followed with it. Nothing that GitHub says is shown before the token is taken out of it.

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
SECONDARY_PAUSE = 60.0  # seconds to wait where GitHub does not say how long
LARGEST_ANSWER = 1 << 26  # bytes; a list of 100 releases with long pages stays below
MOST_REDIRECTS = 3
PERMISSION = (
    "grant the token the repository permission Contents: write (in GitHub Actions:"
    " `permissions: contents: write`; a classic token: the scope repo)"
)
REMEDIES = {
    401: "the token in GITHUB_TOKEN or GH_TOKEN is not accepted: make another and set it",
    403: PERMISSION,
    404: f"see that it is there and {PERMISSION}",
    **dict.fromkeys(REDIRECTS, "the repository has another name now: correct `to` in models.yaml"),
}

_JSON = "application/vnd.github+json"
_BYTES = "application/octet-stream"

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Answer:
    """What came back; `reason` is what GitHub said is wrong, in one line."""

    status: int
    content: bytes
    headers: Mapping[str, str]
    reason: str = ""


class _ErrorBody(BaseModel):
    model_config = ConfigDict(strict=True)

    message: str = ""
    errors: list[dict[str, Any] | str] = []


class Api:
    """The API as one token sees it.

    `ask`, `send` and `fetch` raise `HttpError` for any other answer than those expected.
    `during` repeats a step after each `TransientError`, makes `DestinationError`s of the
    others, and knows for messages what is being done.
    """

    def __init__(self, name: str, environment: Mapping[str, str], retry: Retry) -> None:
        self._name = name
        self._doing = "asking"
        self._base = service_address(
            name,
            "GITHUB_API_URL",
            environment.get("GITHUB_API_URL") or ADDRESS,
            f"leave it out ({ADDRESS}), or set it to https://HOST/api/v3",
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
        """Whether there is a token at all."""
        return bool(self._token)

    def error(self, problem: str) -> DestinationError:
        """Return an error of what is being done."""
        return DestinationError(f"{self._name}: {self._doing}: {problem}")

    def conflict(self, problem: str) -> ConflictError:
        """Return an error of what somebody else did meanwhile."""
        return ConflictError(f"{self._name}: {self._doing}: {problem}")

    def during(self, doing: str, step: Callable[[], T]) -> T:
        """Do a step, again from its beginning after a `TransientError`."""
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
        """Send one request. A status in `also` is for the caller to judge, too."""
        # Lists with pages in them are long, and compress well.
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        response = self._request(method, f"{self._base}{path}", headers, json=json)
        return self._checked(response, expected, allowed)

    def send(self, address: str, name: str, source: Path | bytes, content_type: str) -> Answer:
        """Upload an asset; 404 and 422 are for the caller to judge."""
        url = f"{address}?name={quote(name)}"
        headers = {"Accept": _JSON, "Content-Type": content_type}
        if isinstance(source, bytes):
            response = self._request("POST", url, headers, data=source)
        else:
            try:
                file = source.open("rb")
            except OSError as error:
                raise DestinationError(
                    f"{source}: cannot be read ({error.strerror}); build it again"
                ) from error
            with file:
                response = self._request("POST", url, headers, data=file)
        return self._checked(response, (201,), (404, 422))

    def fetch(self, path: str, largest: int) -> bytes:
        """Return the content of an asset, which may lie elsewhere. At most `largest` bytes."""
        headers = {"Accept": _BYTES}
        response = self._request("GET", f"{self._base}{path}", headers, follow=MOST_REDIRECTS)
        return self._checked(response, (200,), (), largest).content

    def parsed(self, kind: type[M], answer: Answer) -> M:
        """Return an answer as what it should be."""
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            raise self.error(
                f"this is no answer of GitHub ({first_problem(error)}); see to GITHUB_API_URL and"
                " to what lies between"
            ) from None

    def upload_address(self, template: str) -> str:
        """Return the address of a release's uploads, if the token may go there.

        Sources: "REST API endpoints for release assets" (`upload_url`); GitHub Enterprise
        has its uploads on the API's own host, or where github.com has them.
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
                "the place for uploads that is named is not GitHub's own; see to GITHUB_API_URL"
                " and to what lies between"
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
        """Return what a rate limit means: a pause, or the end if it would be too long."""
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
        """Return what GitHub says is wrong: one short line without the token."""
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
    """Tell a 403 that passes from one of missing permission."""
    return (
        "Retry-After" in headers
        or headers.get("X-RateLimit-Remaining") == "0"
        or "secondary rate limit" in reason
    )


def _seconds_until_reset(headers: Mapping[str, str]) -> float:
    """Return the seconds until GitHub takes requests again."""
    after, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
    if re.fullmatch(r"\d{1,9}", after):
        return float(after)
    if headers.get("X-RateLimit-Remaining") == "0" and re.fullmatch(r"\d{1,11}", reset):
        return max(int(reset) - time.time(), 0.0)
    return SECONDARY_PAUSE

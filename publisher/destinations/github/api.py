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
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
import tenacity
from pydantic import BaseModel, ConfigDict, ValidationError

from publisher.destinations.base import ConflictError, DestinationError
from publisher.errors import first_problem
from publisher.util.http import LOOPBACK, PLAIN_ADDRESS, Retry, failure, is_service_address
from publisher.weights.download import redirected
from publisher.weights.errors import WeightsError

ADDRESS = "https://api.github.com"
API_VERSION = "2022-11-28"
LONGEST_PAUSE = 120.0  # seconds that are waited for because GitHub asks for it
SECONDARY_PAUSE = 60.0  # seconds to wait where it does not say how long
LARGEST_ANSWER = 1 << 26  # bytes; a list of 100 releases with long pages stays below
LONGEST_REASON = 300  # characters
MOST_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
PERMISSION = (
    "grant the token the repository permission Contents: write (in GitHub Actions:"
    " `permissions: contents: write`; a classic token: the scope repo)"
)

_JSON = "application/vnd.github+json"
_BYTES = "application/octet-stream"

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class PassingError(Exception):
    """A failure that another attempt may not meet; `pause` is what GitHub asked for."""

    def __init__(self, problem: str, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.pause = pause


@dataclass(frozen=True)
class Answer:
    """What came back; `reason` is what GitHub said is wrong, in one line."""

    status: int
    content: bytes
    headers: Mapping[str, str]
    reason: str = ""


class _Fault(BaseModel):
    model_config = ConfigDict(strict=True)

    message: str = ""
    errors: list[dict[str, Any] | str] = []


class Api:
    """The API as one token sees it.

    `ask`, `send` and `fetch` raise `PassingError` for what may pass, and `DestinationError`
    for any other answer than those expected. `during` repeats a step until it has passed, and
    knows for messages what is being done.
    """

    def __init__(self, name: str, environment: Mapping[str, str], retry: Retry) -> None:
        self._name = name
        self._doing = "asking"
        self._base = self._checked(environment.get("GITHUB_API_URL") or ADDRESS)
        self._token = (environment.get("GITHUB_TOKEN") or environment.get("GH_TOKEN") or "").strip()
        # An odd character would be refused by the client library, which shows the header.
        if not re.fullmatch(r"[!-~]*", self._token):
            raise DestinationError(
                f"{name}: the token in GITHUB_TOKEN or GH_TOKEN has characters that no token has;"
                " set it again"
            )
        self._retry = retry
        self._session = requests.Session()

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
        """Do a step, again from its beginning after a failure that may pass."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._retry.attempts),
            wait=self._retry.pause,
            retry=tenacity.retry_if_exception_type(PassingError),
            sleep=self._retry.sleep,
            reraise=True,
        )
        before, self._doing = self._doing, doing
        try:
            return retrying(step)
        except PassingError as error:
            raise self.error(
                f"{error} ({self._retry.attempts} attempts); wait a while and run again, what"
                " arrived is not sent again"
            ) from None
        finally:
            self._doing = before

    def ask(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        accept: str = _JSON,
        good: Collection[int] = (200,),
        also: Collection[int] = (),
    ) -> Answer:
        """Send one request. A status in `also` is for the caller to judge, too."""
        response = self._request(method, f"{self._base}{path}", accept=accept, json=json)
        return self._judged(response, good, also)

    def send(self, address: str, name: str, source: Path | bytes, content_type: str) -> Answer:
        """Upload an asset; 404 and 422 are for the caller to judge."""
        url = f"{address}?name={quote(name)}"
        kind = {"Content-Type": content_type}
        if isinstance(source, bytes):
            response = self._request("POST", url, data=source, headers=kind)
        else:
            try:
                file = source.open("rb")
            except OSError as error:
                raise DestinationError(
                    f"{source}: cannot be read ({error.strerror}); build it again"
                ) from error
            with file:
                response = self._request("POST", url, data=file, headers=kind)
        return self._judged(response, (201,), (404, 422))

    def fetch(self, path: str, largest: int) -> bytes:
        """Return the content of an asset, which may lie elsewhere. At most `largest` bytes."""
        address, signed = f"{self._base}{path}", True
        for _ in range(MOST_REDIRECTS + 1):
            response = self._request("GET", address, accept=_BYTES, signed=signed)
            location = response.headers.get("Location", "")
            if response.status_code not in REDIRECTS or not location:
                return self._judged(response, (200,), (), largest).content
            response.close()
            try:
                address, signed = redirected(address, location), False
            except WeightsError as error:
                raise self.error(str(error)) from None
        raise self.error(f"leads through more than {MOST_REDIRECTS} redirects; run again later")

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

    def _checked(self, text: str) -> str:
        """Return the API's address without a slash at its end."""
        if not is_service_address(text):
            raise DestinationError(
                f"{self._name}: GITHUB_API_URL is no address of an API; leave it out"
                f" ({ADDRESS}), or set it to https://HOST/api/v3"
            )
        return text.rstrip("/")

    def _request(
        self,
        method: str,
        address: str,
        *,
        accept: str = _JSON,
        signed: bool = True,
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
        data: Any = None,
    ) -> requests.Response:
        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if signed and self._token:
                request.headers["Authorization"] = f"Bearer {self._token}"
            return request

        try:
            return self._session.request(
                method,
                address,
                headers={
                    "Accept": accept,
                    "User-Agent": "bit-publisher",
                    "X-GitHub-Api-Version": API_VERSION,
                    **({"Accept-Encoding": "identity"} if accept == _BYTES else {}),
                    **(headers or {}),
                },
                json=json,
                data=data,
                # Given also where nothing is signed: the client library looks into ~/.netrc
                # for a request that has none.
                auth=sign,
                stream=True,
                allow_redirects=False,
                timeout=(self._retry.connect_timeout, self._retry.read_timeout),
            )
        except requests.RequestException as error:
            raise PassingError(failure(error)) from None
        except ValueError:
            raise self.error(
                "the answer leads to something that is not an address; run again later"
            ) from None

    def _judged(
        self,
        response: requests.Response,
        good: Collection[int],
        also: Collection[int],
        largest: int = LARGEST_ANSWER,
    ) -> Answer:
        content = self._body(response, largest)
        status, headers = response.status_code, response.headers
        if status in good:
            return Answer(status, content, headers)
        reason = self._reason(content)
        said = f"GitHub answered {status}{f' ({reason})' if reason else ''}"
        if status >= 500 or status == 408:
            raise PassingError(said)
        if status == 429 or (status == 403 and _is_limit(headers, reason)):
            raise self._limited(headers, said)
        if status in also:
            return Answer(status, content, headers, reason)
        raise self.error(f"{said}; {_advice(status)}")

    def _limited(self, headers: Mapping[str, str], said: str) -> Exception:
        """Return what a rate limit means: a pause, or the end if it would be too long."""
        pause = _limit(headers)
        if pause <= LONGEST_PAUSE:
            return PassingError(said, pause)
        until = datetime.fromtimestamp(time.time() + pause, UTC)
        return self.error(
            f"{said}; the rate limit is used up until {until:%Y-%m-%d %H:%M} UTC: run again then"
        )

    def _body(self, response: requests.Response, largest: int) -> bytes:
        content = bytearray()
        with response:
            try:
                for piece in response.iter_content(1 << 16):
                    content += piece
                    if len(content) > largest:
                        raise self.error(f"more than {largest:,} bytes came; see what lies there")
            except requests.RequestException as error:
                raise PassingError(failure(error)) from None
        return bytes(content)

    def _reason(self, content: bytes) -> str:
        """Return what GitHub says is wrong: one short line without the token."""
        try:
            fault = _Fault.model_validate_json(content)
        except ValidationError:
            return ""
        parts = [fault.message]
        for error in fault.errors:
            if isinstance(error, str):
                parts.append(error)
            else:
                parts += [str(error[key]) for key in ("field", "code", "message") if key in error]
        text = " ".join(" ".join(parts).split())
        if self._token:
            text = text.replace(self._token, "***")
        return "".join(c for c in text if c.isprintable())[:LONGEST_REASON]


def _is_limit(headers: Mapping[str, str], reason: str) -> bool:
    """Tell a 403 that passes from one of missing permission."""
    return (
        "Retry-After" in headers
        or headers.get("X-RateLimit-Remaining") == "0"
        or "secondary rate limit" in reason
    )


def _limit(headers: Mapping[str, str]) -> float:
    """Return the seconds until GitHub takes requests again."""
    after, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
    if re.fullmatch(r"\d{1,9}", after):
        return float(after)
    if headers.get("X-RateLimit-Remaining") == "0" and re.fullmatch(r"\d{1,11}", reset):
        return max(int(reset) - time.time(), 0.0)
    return SECONDARY_PAUSE


def _advice(status: int) -> str:
    if status == 401:
        return "the token in GITHUB_TOKEN or GH_TOKEN is not accepted: make another and set it"
    if status == 403:
        return PERMISSION
    if status == 404:
        return f"see that it is there and {PERMISSION}"
    if status in REDIRECTS:
        return "the repository has another name now: correct `to` in models.yaml"
    return "mend that and run again"

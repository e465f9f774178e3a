"""kagglesdk's client with what it lacks: timeouts, bounds, further attempts, plain errors.

kagglesdk finds the credentials and makes the requests. It waits for ever, reads whatever
comes, and repeats in its errors what the service and the network said.

Of the two programs that are built on it, kagglehub 1.0 makes a version even when no byte
arrived, and cannot go on with an interrupted upload; importing kaggle 2.2 logs in.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from kagglesdk.common.types.http_redirect import HttpRedirect
from kagglesdk.kaggle_env import KaggleEnv
from kagglesdk.kaggle_http_client import KaggleHttpClient
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt

from publisher.destinations.base import ConflictError, DestinationError
from publisher.util.http import failure

LARGEST = 16 << 20  # bytes of any answer that is read
LONGEST_RETRY_AFTER = 120.0  # seconds
LONGEST_REASON = 200  # characters
PASSING = (408, 429, 500, 502, 503, 504)
UNTOUCHED = (408, 429)  # the service did nothing
ENVIRONMENTS: Mapping[str, KaggleEnv] = {"PROD": KaggleEnv.PROD, "TEST": KaggleEnv.TEST}


@dataclass(frozen=True)
class Patience:
    """How long the service is waited for. Seconds, and a number of attempts.

    `processing` is how long an uploaded version may take to be listed, `settling` how long
    one that is listed may look incomplete, or one whose request got no answer may take.
    """

    attempts: int = 5
    first_pause: float = 1.0
    longest_pause: float = 30.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    processing: float = 1800.0
    settling: float = 60.0
    look_again: float = 5.0
    sleep: Callable[[float], None] = time.sleep

    @property
    def timeouts(self) -> tuple[float, float]:
        """Return the timeouts as requests takes them."""
        return (self.connect_timeout, self.read_timeout)


PATIENCE = Patience()


@dataclass(frozen=True)
class Fault:
    """Why a request failed: the service's status (0: no answer) and words for people."""

    status: int
    reason: str
    passing: bool = False
    pause: float = 0.0


class ServiceError(DestinationError):
    """The service said no, or nothing. `status` is that of its answer, 0 without one."""

    status = 0


class RefusedError(Exception):
    """An answer that is a refusal; made into a `Fault` before anyone sees it."""

    def __init__(self, status: int, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.status, self.reason, self.pause = status, reason, pause


class _Timeouts(HTTPAdapter):
    """Gives a timeout to requests that come without one."""

    def __init__(self, timeouts: tuple[float, float]) -> None:
        super().__init__()
        self._timeouts = timeouts

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or self._timeouts
        return super().send(*args, **kwargs)


class _Client(KaggleHttpClient):  # type: ignore[misc]
    """kagglesdk's client. It reads at most `LARGEST` bytes and waits only so long."""

    def __init__(self, timeouts: tuple[float, float], **settings: Any) -> None:
        super().__init__(verbose=False, user_agent="bit-publisher", **settings)
        self._timeouts = timeouts

    def secrets(self) -> list[str]:
        """Return the credentials that are used, which no message may repeat.

        Raises `DestinationError` if a file of them cannot be read.
        """
        try:
            self._init_session()
        except (OSError, ValueError) as error:
            raise DestinationError(
                f"~/.kaggle: the credentials there cannot be read ({type(error).__name__}); see to"
                " the files and their permissions"
            ) from error
        auth = self._session.auth
        return [str(auth[1])] if isinstance(auth, tuple) else [auth.token] if auth else []

    def _init_session(self) -> None:
        if self._session is not None:
            return
        super()._init_session()
        session: Any = self._session
        # Otherwise requests reads an answer whole, whatever its size.
        session.stream = True
        for scheme in ("https://", "http://"):
            session.mount(scheme, _Timeouts(self._timeouts))

    def _prepare_response(self, response_type: Any, http_response: requests.Response) -> Any:
        status = http_response.status_code
        if response_type is HttpRedirect and status == 200:
            return http_response
        content = bounded(http_response)
        try:
            answer = json.loads(content or b"{}")
        except ValueError:
            answer = None
        if status != 200:
            said = answer.get("message") if isinstance(answer, dict) else None
            reason = str(said or http_response.reason or "")
            raise RefusedError(status, reason, _retry_after(http_response))
        if not isinstance(answer, dict):
            raise TypeError("another kind of answer")
        code = answer.get("code", 200)
        if isinstance(code, int) and code >= 400:
            raise RefusedError(code, str(answer.get("message", "")))
        # The calls that create and update say so with status 200.
        if answer.get("error"):
            code = answer.get("errorCode")
            if not isinstance(code, int) or not 400 <= code < 600:
                code = 400
            raise RefusedError(code, str(answer["error"]))
        return response_type.from_dict(answer)


class Connection:
    """A way to Kaggle with somebody's credentials. `name` is what errors begin with.

    Raises `DestinationError` for an environment of Kaggle's that is not known.
    """

    def __init__(self, name: str, environment: Mapping[str, str], patience: Patience) -> None:
        self.name = name
        self.patience = patience
        kind = environment.get("KAGGLE_API_ENVIRONMENT") or "PROD"
        if kind not in ENVIRONMENTS:
            raise DestinationError(
                f"{name}: KAGGLE_API_ENVIRONMENT has a value that is not known here; unset it"
            )
        self.encrypted = ENVIRONMENTS[kind] is KaggleEnv.PROD
        key, token = environment.get("KAGGLE_KEY"), _token(environment.get("KAGGLE_API_TOKEN"))
        self._given = [secret for secret in (key, token) if secret]
        # What kagglesdk's classes of calls are made of.
        self.client = _Client(
            patience.timeouts,
            env=ENVIRONMENTS[kind],
            username=environment.get("KAGGLE_USERNAME"),
            password=key,
            api_token=token,
        )

    @property
    def signed_in(self) -> bool:
        """Whether there are credentials, good or bad."""
        return bool(self.client.secrets())

    def ask(
        self, what: str, call: Callable[[Any], Any], request: Any, *, again: bool = True
    ) -> Any:
        """Return the answer to a call. `again` says whether it may be carried out twice.

        `what` is what the error speaks of: `ServiceError`, or `ConflictError` for a 409.
        """

        def once() -> Any:
            try:
                return call(request)
            except RefusedError as error:
                passing = error.status in (PASSING if again else UNTOUCHED)
                return Fault(error.status, error.reason, passing, error.pause)
            except requests.RequestException as error:
                return Fault(0, failure(error), again)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                # kagglesdk found another kind of value than it knows.
                return Fault(502, f"an answer that is not understood ({type(error).__name__})")

        return self.patiently(what, once)

    def patiently(self, what: str, once: Callable[[], Any]) -> Any:
        """Return what `once` does, called again while it returns a `Fault` that may pass."""
        outcome = Retrying(
            stop=stop_after_attempt(self.patience.attempts),
            wait=self._pause,
            retry=retry_if_result(lambda result: isinstance(result, Fault) and result.passing),
            sleep=self.patience.sleep,
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )(once)
        if isinstance(outcome, Fault):
            raise self.error(what, outcome)
        return outcome

    def error(self, what: str, fault: Fault) -> DestinationError:
        """Return the error that says what failed, why, and what to do."""
        reason = " ".join(fault.reason.split())
        for secret in (*self._given, *self.client.secrets()):
            reason = reason.replace(secret, "(secret)")
        reason = "".join(c for c in reason if c.isprintable())[:LONGEST_REASON] or "no reason given"
        said = f"{self.name}: {what}: {fault.status or 'no answer'}, {reason}"
        if fault.status == 409:
            return ConflictError(f"{said}; somebody else wrote there: run again")
        error = ServiceError(f"{said}; {_remedy(fault)}")
        error.status = fault.status
        return error

    def _pause(self, state: RetryCallState) -> float:
        outcome = state.outcome.result() if state.outcome else None
        growing = self.patience.first_pause * 2.0 ** (state.attempt_number - 1)
        asked = outcome.pause if isinstance(outcome, Fault) else 0.0
        return max(min(growing, self.patience.longest_pause), asked)


def bounded(response: requests.Response) -> bytes:
    """Return the body of a response that was not read yet, if it is small enough."""
    content = bytearray()
    with response:
        for piece in response.iter_content(1 << 16):
            content += piece
            if len(content) > LARGEST:
                raise RefusedError(502, f"an answer of more than {LARGEST:,} bytes")
    return bytes(content)


def _remedy(fault: Fault) -> str:
    """Return what to do about a fault."""
    if fault.status == 401:
        return (
            "the credentials are not accepted: make a new token at kaggle.com/settings/api"
            " and set KAGGLE_API_TOKEN to it"
        )
    if fault.status in (413, 507) or "quota" in fault.reason.lower():
        return "remove something there or ask Kaggle for more space, and run again"
    if fault.status == 403:
        return "let this user edit the model at Kaggle"
    if fault.status == 0:
        return "see to the network, and run again"
    if fault.passing or fault.status >= 500:
        return "wait a while and run again"
    return "look at the model at Kaggle, and at models.yaml"


def _token(value: str | None) -> str | None:
    """Return a token that is given as it is, or as the path of a file, as Kaggle's clients do."""
    try:
        if value and Path(value).is_file():
            with Path(value).open(encoding="utf-8") as file:
                return file.read(1 << 16).strip() or None
    except (OSError, ValueError):
        pass
    return value or None


def _retry_after(response: requests.Response) -> float:
    """Return how many seconds the service asks to wait, within bounds."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), LONGEST_RETRY_AFTER) if text.isascii() and text.isdigit() else 0.0

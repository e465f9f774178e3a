"""kagglesdk's client with what it lacks: timeouts, bounds, further attempts, plain errors.

kagglesdk finds the credentials and makes the requests. It waits for ever, reads whatever
comes, and repeats in its errors what the service and the network said.

Of the two programs that are built on it, kagglehub 1.0 makes a version even when no byte
arrived, and cannot go on with an interrupted upload; importing kaggle 2.2 logs in.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from kagglesdk.common.types.http_redirect import HttpRedirect
from kagglesdk.kaggle_env import KaggleEnv
from kagglesdk.kaggle_http_client import KaggleHttpClient
from requests.adapters import HTTPAdapter

from publisher.destinations.base import ConflictError, DestinationError, failure_message
from publisher.util.http import (
    HttpError,
    Retry,
    TransientError,
    failure,
    is_transient,
    one_line,
    redirected,
    retry_after,
)
from publisher.util.http.request import body

LARGEST = 16 << 20  # bytes of any answer that is read
NOT_PROCESSED = (408, 429)  # the service did nothing
ENVIRONMENTS: Mapping[str, KaggleEnv] = {"PROD": KaggleEnv.PROD, "TEST": KaggleEnv.TEST}
REMEDIES = {
    401: (
        "the credentials are not accepted: make a new token at kaggle.com/settings/api"
        " and set KAGGLE_API_TOKEN to it"
    ),
    403: "let this user edit the model at Kaggle",
    **dict.fromkeys((400, 404, 422), "look at the model at Kaggle, and at models.yaml"),
}

T = TypeVar("T")


@dataclass(frozen=True)
class KaggleRetry(Retry):
    """How requests are tried again, and how long a version is waited for, in seconds.

    `processing` is how long an uploaded version may take to be listed, `settling` how long
    one that is listed may look incomplete, or one whose request got no answer may take.
    """

    longest_pause: float = 30.0
    processing: float = 1800.0
    settling: float = 60.0
    poll_interval: float = 5.0


DEFAULT_RETRY = KaggleRetry()


class ServiceError(DestinationError):
    """The service said no, or nothing. `status` is that of its answer, 0 without one."""

    status = 0


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
        session.get_redirect_target = _safe_target(session.get_redirect_target)
        for scheme in ("https://", "http://"):
            session.mount(scheme, _Timeouts(self._timeouts))

    def _prepare_response(self, response_type: Any, http_response: requests.Response) -> Any:
        status = http_response.status_code
        if response_type is HttpRedirect and status == 200:
            return http_response
        content = body(http_response, LARGEST)
        try:
            answer = json.loads(content or b"{}")
        except (ValueError, RecursionError):
            answer = None
        if status != 200:
            said = answer.get("message") if isinstance(answer, dict) else None
            reason = str(said or http_response.reason or "")
            raise HttpError(status, reason, pause=retry_after(http_response.headers))
        if not isinstance(answer, dict):
            raise TypeError("another kind of answer")
        code = answer.get("code", 200)
        if isinstance(code, int) and code >= 400:
            raise HttpError(code, str(answer.get("message", "")))
        # The calls that create and update say so with status 200.
        if answer.get("error"):
            code = answer.get("errorCode")
            if not isinstance(code, int) or not 400 <= code < 600:
                code = 400
            raise HttpError(code, str(answer["error"]))
        return response_type.from_dict(answer)


class Connection:
    """A way to Kaggle with somebody's credentials. `name` is what errors begin with.

    Raises `DestinationError` for an environment of Kaggle's that is not known.
    """

    def __init__(self, name: str, environment: Mapping[str, str], retry: KaggleRetry) -> None:
        self.name = name
        self.retry = retry
        kind = environment.get("KAGGLE_API_ENVIRONMENT") or "PROD"
        if kind not in ENVIRONMENTS:
            raise DestinationError(
                f"{name}: KAGGLE_API_ENVIRONMENT has a value that is not known here; unset it"
            )
        self.encrypted = ENVIRONMENTS[kind] is KaggleEnv.PROD
        key, token = environment.get("KAGGLE_KEY"), _token(environment.get("KAGGLE_API_TOKEN"))
        self._secrets = [secret for secret in (key, token) if secret]
        # What kagglesdk's classes of calls are made of.
        self.client = _Client(
            retry.timeouts,
            env=ENVIRONMENTS[kind],
            username=environment.get("KAGGLE_USERNAME"),
            password=key,
            api_token=token,
        )

    @property
    def has_credentials(self) -> bool:
        """Whether there are credentials, good or bad."""
        return bool(self.client.secrets())

    def ask(
        self, what: str, call: Callable[[Any], Any], request: Any, *, again: bool = True
    ) -> Any:
        """Return the answer to a call. `again` says whether it may be carried out twice.

        `what` is what the error speaks of: `ServiceError`, or `ConflictError` for a 409.
        """

        def step() -> Any:
            try:
                return call(request)
            except HttpError as error:
                found = error
            except requests.RequestException as error:
                found = TransientError(0, f"no answer ({failure(error)})")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                # kagglesdk found another kind of value than it knows.
                reason = f"an answer that is not understood ({type(error).__name__})"
                raise HttpError(502, reason) from None
            lasts = not isinstance(found, TransientError) and not is_transient(found.status)
            kind = (
                HttpError
                if lasts or not (again or found.status in NOT_PROCESSED)
                else TransientError
            )
            reason = one_line(found.reason, (*self._secrets, *self.client.secrets()))
            raise kind(found.status, reason, found.remedy, pause=found.pause)

        return self.run(what, step)

    def run(self, what: str, step: Callable[[], T]) -> T:
        """Return what `step` does, again from its beginning after a `TransientError`."""
        try:
            return self.retry.run(step)
        except HttpError as error:
            raise self.error(what, error) from None

    def error(self, what: str, error: HttpError) -> DestinationError:
        """Return the error that says what failed, why, and what to do."""
        where = f"{self.name}: {what}"
        if error.status == 409:
            return ConflictError(
                f"{where}: {error.said('Kaggle')}; somebody else wrote there: run again"
            )
        made = ServiceError(failure_message(where, error, "Kaggle", REMEDIES))
        made.status = error.status
        return made


def _safe_target(
    target_of: Callable[[requests.Response], str | None],
) -> Callable[[requests.Response], str | None]:
    """Return a session's way to find where a redirect leads, with an error for an unsafe one."""

    def target(response: requests.Response) -> str | None:
        location = target_of(response)
        if location is not None:
            redirected(response.url, location)
            # Otherwise requests reads its body whole, whatever its size.
            response.close()
        return location

    return target


def _token(value: str | None) -> str | None:
    """Return a token that is given as it is, or as the path of a file, as Kaggle's clients do."""
    try:
        if value and Path(value).is_file():
            with Path(value).open(encoding="utf-8") as file:
                return file.read(1 << 16).strip() or None
    except (OSError, ValueError):
        pass
    return value or None

"""kagglesdk's client with timeouts, size limits, retries and safe errors.

kagglesdk finds the credentials and sends the requests, but has no timeouts or size limits, and
repeats messages of the service and the network in its errors.

Two programs build on it. kagglehub 1.0 creates a version even if no byte arrived, and cannot
resume an interrupted upload. Importing kaggle 2.2 logs in.
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

LARGEST = 16 << 20  # bytes of any response
NOT_PROCESSED = (408, 429)  # the service did not carry out the request
ENVIRONMENTS: Mapping[str, KaggleEnv] = {"PROD": KaggleEnv.PROD, "TEST": KaggleEnv.TEST}
REMEDIES = {
    401: (
        "the credentials are not accepted: create a new token at kaggle.com/settings/api"
        " and set KAGGLE_API_TOKEN to it"
    ),
    403: "let this user edit the model at Kaggle",
    **dict.fromkeys((400, 404, 422), "check the model at Kaggle, and models.yaml"),
}

T = TypeVar("T")


@dataclass(frozen=True)
class KaggleRetry(Retry):
    """How to retry requests and wait for a version. Times in seconds.

    `processing` is the timeout for Kaggle to list an uploaded version. `settling` is the
    timeout for a listed version to be complete, and for one whose request got no response.
    """

    longest_pause: float = 30.0
    processing: float = 1800.0
    settling: float = 60.0
    poll_interval: float = 5.0


DEFAULT_RETRY = KaggleRetry()


class ServiceError(DestinationError):
    """The service refused a request or did not respond; `status` is 0 without a response."""

    status = 0


class _Timeouts(HTTPAdapter):
    """An adapter that sets a timeout on requests without one."""

    def __init__(self, timeouts: tuple[float, float]) -> None:
        super().__init__()
        self._timeouts = timeouts

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or self._timeouts
        return super().send(*args, **kwargs)


class _Client(KaggleHttpClient):  # type: ignore[misc]
    """kagglesdk's client with timeouts and a limit of `LARGEST` bytes."""

    def __init__(self, timeouts: tuple[float, float], **settings: Any) -> None:
        super().__init__(verbose=False, user_agent="bit-publisher", **settings)
        self._timeouts = timeouts

    def secrets(self) -> list[str]:
        """Return the credentials in use, which no message may repeat.

        Raises `DestinationError` if a file of credentials cannot be read.
        """
        try:
            self._init_session()
        except (OSError, ValueError) as error:
            raise DestinationError(
                f"~/.kaggle: the credentials cannot be read ({type(error).__name__}); check the"
                " files and their permissions"
            ) from error
        auth = self._session.auth
        return [str(auth[1])] if isinstance(auth, tuple) else [auth.token] if auth else []

    def _init_session(self) -> None:
        if self._session is not None:
            return
        super()._init_session()
        session: Any = self._session
        # Otherwise requests reads a whole response, whatever its size.
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
            raise TypeError("not a JSON object")
        code = answer.get("code", 200)
        if isinstance(code, int) and code >= 400:
            raise HttpError(code, str(answer.get("message", "")))
        # The calls that create and update report errors with status 200.
        if answer.get("error"):
            code = answer.get("errorCode")
            if not isinstance(code, int) or not 400 <= code < 600:
                code = 400
            raise HttpError(code, str(answer["error"]))
        return response_type.from_dict(answer)


class Connection:
    """Kaggle's API with one user's credentials. Errors begin with `name`.

    Raises `DestinationError` for an unknown KAGGLE_API_ENVIRONMENT.
    """

    def __init__(self, name: str, environment: Mapping[str, str], retry: KaggleRetry) -> None:
        self.name = name
        self.retry = retry
        kind = environment.get("KAGGLE_API_ENVIRONMENT") or "PROD"
        if kind not in ENVIRONMENTS:
            raise DestinationError(f"{name}: KAGGLE_API_ENVIRONMENT has an unknown value; unset it")
        self.encrypted = ENVIRONMENTS[kind] is KaggleEnv.PROD
        key, token = environment.get("KAGGLE_KEY"), _token(environment.get("KAGGLE_API_TOKEN"))
        self._secrets = [secret for secret in (key, token) if secret]
        # kagglesdk's API classes take this client.
        self.client = _Client(
            retry.timeouts,
            env=ENVIRONMENTS[kind],
            username=environment.get("KAGGLE_USERNAME"),
            password=key,
            api_token=token,
        )

    @property
    def has_credentials(self) -> bool:
        """Whether there are credentials, valid or not."""
        return bool(self.client.secrets())

    def ask(
        self, what: str, call: Callable[[Any], Any], request: Any, *, again: bool = True
    ) -> Any:
        """Return the response to a call. `again` says whether the call is safe to repeat.

        Raises `ServiceError`, or `ConflictError` for a 409; both name `what`.
        """

        def step() -> Any:
            try:
                return call(request)
            except HttpError as error:
                found = error
            except requests.RequestException as error:
                found = TransientError(0, f"no answer ({failure(error)})")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                # kagglesdk could not parse a value.
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
        """Run a step; start it again after a `TransientError`."""
        try:
            return self.retry.run(step)
        except HttpError as error:
            raise self.error(what, error) from None

    def error(self, what: str, error: HttpError) -> DestinationError:
        """Return the error for a failed request: what failed, why, and what to do."""
        where = f"{self.name}: {what}"
        if error.status == 409:
            return ConflictError(
                f"{where}: {error.said('Kaggle')}; another publisher wrote there: run again"
            )
        made = ServiceError(failure_message(where, error, "Kaggle", REMEDIES))
        made.status = error.status
        return made


def _safe_target(
    target_of: Callable[[requests.Response], str | None],
) -> Callable[[requests.Response], str | None]:
    """Wrap a session's `get_redirect_target` so that it refuses unsafe redirects."""

    def target(response: requests.Response) -> str | None:
        location = target_of(response)
        if location is not None:
            redirected(response.url, location)
            # Otherwise requests reads the whole body, whatever its size.
            response.close()
        return location

    return target


def _token(value: str | None) -> str | None:
    """Return a token given literally or as the path of a file, as Kaggle's clients accept it."""
    try:
        if value and Path(value).is_file():
            with Path(value).open(encoding="utf-8") as file:
                return file.read(1 << 16).strip() or None
    except (OSError, ValueError):
        pass
    return value or None

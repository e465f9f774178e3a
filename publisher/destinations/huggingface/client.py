"""huggingface_hub with timeouts, size limits, bounded retries and safe errors.

huggingface_hub implements the Hub's API, but has no timeouts, retries some calls only, logs
signed addresses, and repeats the service's messages in its errors. While one of its functions
runs, this module replaces its HTTP client with our own.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    get_session,
    get_token,
    hf_raise_for_status,
    set_client_factory,
)
from huggingface_hub.errors import DeviceCodeError, HfHubHTTPError, OIDCError
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.tqdm import disable_progress_bars

from publisher import __version__
from publisher.destinations.base import (
    ConflictError,
    DestinationError,
    failure_message,
    service_address,
    token_of,
)
from publisher.destinations.huggingface.http import Client, no_answer, reason_of
from publisher.util.http import HttpError, Retry, one_line, origin_of
from publisher.util.http.request import REDIRECTS

ENDPOINT = "https://huggingface.co"
LOGIN = (
    "set HF_TOKEN to a token with write access (https://huggingface.co/settings/tokens), or run"
    " `hf auth login`"
)
REMEDIES = {
    401: f"the token is not accepted: {LOGIN}",
    403: "let this token write to the models of that owner (role `write`, or `repo.write`)",
    404: "check that it exists and that this token may see it",
    **dict.fromkeys(REDIRECTS, "it was renamed: correct `to` or `names` in models.yaml"),
}

# A commit's parent is not the newest: 412 from the Hub, 409 from git.
STALE = (412, 409)
# These loggers write signed addresses.
_LOGGERS = ("huggingface_hub", "httpx2", "httpcore2")
_SETTINGS = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")
_YES = ("1", "ON", "YES", "TRUE")

T = TypeVar("T")


class StaleError(ConflictError):
    """Another publisher has committed since the repository was last inspected."""


class Hub:
    """The Hub with one user's token. Errors begin with `name`."""

    def __init__(self, name: str, environment: Mapping[str, str], retry: Retry) -> None:
        """Read token and address from the environment.

        Raises `DestinationError` for invalid settings.
        """
        self.name = name
        self.endpoint = service_address(
            name,
            "HF_ENDPOINT",
            environment.get("HF_ENDPOINT") or ENDPOINT,
            f"unset it (default: {ENDPOINT}), or set it to https://HOST",
        )
        # The order of huggingface_hub.
        given = environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN") or ""
        self._environment_token = token_of(name, "HF_TOKEN", given, LOGIN)
        self._offline = (environment.get("HF_HUB_OFFLINE") or "").upper() in _YES
        self._retry = retry
        self._client: Client | None = None
        self._stored_token: str | None = None

    @property
    def has_token(self) -> bool:
        """Whether there is a token, valid or not."""
        return bool(self._token)

    def error(self, problem: str) -> DestinationError:
        """Return an error of this destination."""
        return DestinationError(f"{self.name}: {problem}")

    def ask(
        self, what: str, call: Callable[[HfApi], T], remedies: Mapping[int, str] | None = None
    ) -> T:
        """Call the library and return its result.

        Errors name `what`; `remedies` maps a status to advice. Raises `StaleError` if another
        publisher was faster, and `DestinationError` for every other failure.
        """
        token = self._token
        if self._offline:
            raise self.error(f"{what}: HF_HUB_OFFLINE is set; unset it")
        try:
            with self._patched_library() as client:
                client.requests = 0
                return call(
                    HfApi(
                        endpoint=self.endpoint,
                        token=token or False,
                        library_name="bit-publisher",
                        library_version=__version__,
                    )
                )
        # The library's errors may contain signed addresses, so ours does not keep them.
        except (HfHubHTTPError, httpx2.HTTPError, HttpError, RuntimeError) as error:
            found = _http_error(error)
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            found = _http_error(error)
        found.reason = one_line(found.reason, (token,))
        message = failure_message(
            f"{self.name}: {what}", found, "Hugging Face", REMEDIES | dict(remedies or {})
        )
        if found.status in STALE:
            said = f"{self.name}: {what}: {found.said('Hugging Face')}"
            raise StaleError(f"{said}; another publisher wrote there: run again")
        raise DestinationError(message)

    def validate_card(self, what: str, text: str) -> None:
        """Raise `DestinationError` if the Hub would refuse a card."""

        def call(api: HfApi) -> None:
            response = get_session().post(
                f"{self.endpoint}/api/validate-yaml",
                json={"content": text, "repoType": "model"},
                headers=self._headers(),
            )
            hf_raise_for_status(response)

        self.ask(what, call, {400: "correct its entry in models.yaml, or the template"})

    def content(self, what: str, repository: str, commit: str, path: str) -> bytes:
        """Return a file at a commit."""

        def call(api: HfApi) -> bytes:
            address = f"{self.endpoint}/{repository}/resolve/{commit}/{path}"
            response = get_session().get(address, headers=self._headers(), follow_redirects=True)
            hf_raise_for_status(response)
            return response.content

        return self.ask(what, call)

    @property
    def _token(self) -> str:
        """The token in the environment, or else in huggingface_hub's store."""
        if self._environment_token:
            return self._environment_token
        if self._stored_token is None:
            try:
                with self._patched_library():
                    found = get_token() or ""
            except (OIDCError, DeviceCodeError, HttpError, httpx2.HTTPError):
                found = ""
            except (OSError, ValueError):
                found = ""
            self._stored_token = token_of(self.name, "the store of huggingface_hub", found, LOGIN)
        return self._stored_token

    def _headers(self) -> dict[str, str]:
        token = self._token
        return {"authorization": f"Bearer {token}"} if token else {}

    @contextmanager
    def _patched_library(self) -> Iterator[Client]:
        """Make the library use our client and settings within this block.

        Both are global in the library. It reads the settings once at import, so environment
        variables would come too late, and child processes would inherit them.
        """
        self._client = self._client or Client(origin_of(self.endpoint), self._retry)
        client = self._client
        settings = {name: getattr(constants, name) for name in _SETTINGS}
        levels = {name: logging.getLogger(name).level for name in _LOGGERS}
        with warnings.catch_warnings(action="ignore"), disable_progress_bars():
            try:
                for name in settings:
                    setattr(constants, name, True)
                for name in levels:
                    logging.getLogger(name).setLevel(logging.CRITICAL + 1)
                set_client_factory(lambda: client)
                yield client
            finally:
                set_client_factory(default_client_factory)
                for name, level in levels.items():
                    logging.getLogger(name).setLevel(level)
                for name, value in settings.items():
                    setattr(constants, name, value)


def _http_error(error: BaseException) -> HttpError:
    """Return the `HttpError` for an exception of the library."""
    # The library wraps errors of single files.
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, HttpError):
        return error
    if isinstance(error, HfHubHTTPError):
        response = error.response
        # Files go to a storage whose error messages repeat signatures.
        sent = response.request.method == "PUT"
        return HttpError(response.status_code, "" if sent else reason_of(response))
    if isinstance(error, httpx2.HTTPError):
        return no_answer(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return HttpError(0, f"{place}{error.strerror or 'no access'}", "check that file")
    if isinstance(error, ValueError) and str(error).startswith("LFS batch API"):
        return HttpError(400, str(error).partition("\n")[2])
    return HttpError(
        0,
        f"an answer that is not understood ({type(error).__name__})",
        "check HF_ENDPOINT and the proxies on the way, or run again later",
    )

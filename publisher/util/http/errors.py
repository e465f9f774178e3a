"""HTTP errors, their messages, and what a person can do about each."""

import re
from collections.abc import Iterable, Mapping
from typing import Self

LONGEST_REASON = 300  # characters
# Not implemented, version not supported, insufficient storage.
NOT_TRANSIENT = (501, 505, 507)

_NO_SPACE = re.compile("quota|billing|storage ?(full|limit)", re.IGNORECASE)
# Substrings of the repr of an error of requests, urllib3, httpx2 or botocore.
_SIGNS = (
    ("NameResolution", "its name cannot be resolved"),
    ("Name or service", "its name cannot be resolved"),
    ("refused", "connection refused"),
    ("ProxyError", "the proxy cannot be reached"),
    ("unreachable", "no route to it"),
    ("SSL", "its certificate or encryption is not accepted"),
    ("IncompleteRead", "too few bytes came"),
    ("complete message body", "too few bytes came"),
    ("RemoteDisconnected", "it closed the connection without an answer"),
    ("without sending", "it closed the connection without an answer"),
    ("reset by peer", "it reset the connection"),
)


class HttpError(Exception):
    """A request that failed.

    `status` is that of the answer; 0 if no answer came, or if its content is wrong.
    `reason` says why and holds no secrets. `remedy` says what to do, if that is known here.
    `pause` is the wait that the server asked for, in seconds.
    """

    def __init__(self, status: int, reason: str, remedy: str = "", *, pause: float = 0.0) -> None:
        super().__init__(status, reason)
        self.status, self.reason, self.remedy, self.pause = status, reason, remedy, pause

    def __str__(self) -> str:
        return self.said()

    def said(self, who: str = "the server") -> str:
        """Return the reason, after the status that `who` answered with, if any."""
        if not self.status:
            return self.reason
        return f"{who} answered {self.status}" + (f" ({self.reason})" if self.reason else "")

    def after(self, attempts: int) -> Self:
        """Return this error with the number of attempts in its reason."""
        reason = ", ".join(filter(None, (self.reason, f"{attempts} attempts")))
        return type(self)(self.status, reason, self.remedy, pause=self.pause)


class TransientError(HttpError):
    """A failure that a retry may cure."""


class NoAnswerError(TransientError):
    """No answer came at all."""


class GoneError(HttpError):
    """The server no longer knows the upload session."""


def is_transient(status: int) -> bool:
    """Whether a retry may get another status."""
    return status in (408, 429) or (status >= 500 and status not in NOT_TRANSIENT)


def failure(error: BaseException) -> str:
    """Return why a request got no answer, in fixed words that hold nothing of its address."""
    text = repr(error)
    for sign, words in _SIGNS:
        if sign in text:
            return words
    timed_out = "Timeout" in type(error).__name__ or "timed out" in text
    return "timed out" if timed_out else "connection failed"


def one_line(text: str, secrets: Iterable[str | None] = ()) -> str:
    """Return a service's message: short, on one line, without secrets and addresses."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    # An address may hold a signature.
    text = " ".join(re.sub(r"https?://\S+", "(address)", text).split())
    return "".join(c for c in text if c.isprintable())[:LONGEST_REASON]


def advice(error: HttpError, remedies: Mapping[int, str]) -> str:
    """Return what to do about an error; `remedies` are the service's own, by status."""
    if error.remedy:
        return error.remedy
    if error.status in (402, 413, 507) or _NO_SPACE.search(error.reason):
        return "free space there, or check quota and billing, and run again"
    if error.status in remedies:
        return remedies[error.status]
    if error.status == 0:
        return "check the network and run again"
    if error.status >= 500 or is_transient(error.status) or isinstance(error, TransientError):
        return "wait a while and run again"
    return "fix that and run again"

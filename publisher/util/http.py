"""How patient every transfer over HTTP is, and what it says when it fails."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from requests import RequestException
    from tenacity import RetryCallState


LOOPBACK = ("127.0.0.1", "localhost", "::1")
# No user name, query or fragment.
PLAIN_ADDRESS = re.compile(r"[^?#@\x00-\x20\x7f-\U0010ffff]+")


@dataclass(frozen=True)
class Retry:
    """How patient a transfer is; pauses and timeouts in seconds.

    Pauses double from `first_pause` to `longest_pause`, with some chance in them so
    that many clients do not come back together.
    """

    attempts: int = 5
    first_pause: float = 1.0
    longest_pause: float = 60.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def pause(self, state: "RetryCallState") -> float:
        """Return how long to wait after an attempt: what was asked for (`error.pause`), or more."""
        import tenacity

        growing = tenacity.wait_exponential_jitter(
            initial=self.first_pause, max=self.longest_pause, jitter=self.first_pause
        )
        error = state.outcome.exception() if state.outcome else None
        return max(growing(state), getattr(error, "pause", 0.0))


DEFAULT_RETRY = Retry()


def is_service_address(text: str) -> bool:
    """Whether a secret may go there: https with a host, or http on this machine."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    good = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
    return bool(good and host and PLAIN_ADDRESS.fullmatch(text))


def failure(error: "RequestException") -> str:
    """Say why a request got no answer, in words that cannot hold any of its address."""
    import requests  # a run with nothing to fetch never pays for it

    text = repr(error)
    for sign, words in (
        ("NameResolution", "its name cannot be resolved"),
        ("refused", "connection refused"),
        ("ProxyError", "the proxy cannot be reached"),
        ("unreachable", "no route to it"),
        ("SSL", "its certificate or encryption is not accepted"),
        ("IncompleteRead", "too few bytes came"),
        ("RemoteDisconnected", "it closed the connection without an answer"),
        ("reset by peer", "it reset the connection"),
    ):
        if sign in text:
            return words
    timed_out = isinstance(error, requests.Timeout) or "timed out" in text
    return "timed out" if timed_out else "connection failed"

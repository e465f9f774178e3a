"""What every transfer over HTTP says when it fails."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requests import RequestException


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

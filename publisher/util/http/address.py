"""Addresses: showing them without secrets, sending secrets to them, following redirects."""

import re
from urllib.parse import urljoin, urlsplit, urlunsplit

from publisher.util.http.errors import HttpError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# No user name, query or fragment.
PLAIN_ADDRESS = re.compile(r"[^?#@\x00-\x20\x7f-\U0010ffff]+")

_REMEDY = "give the address where the file really is"


def without_secrets(address: str) -> str:
    """Return an address without user, password, query and fragment, for messages."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "the address (which cannot be parsed)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_service_address(text: str) -> bool:
    """Whether secrets may be sent to an address: https with a host, or http on this machine."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    good = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
    return bool(good and host and PLAIN_ADDRESS.fullmatch(text))


def origin_of(address: str) -> str:
    """Return an address's scheme, host and port, normalized. Raises `ValueError`."""
    parts = urlsplit(address)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme.lower())
    return f"{parts.scheme.lower()}://{(parts.hostname or '').lower()}:{port}"


def redirected(address: str, location: str) -> str:
    """Return the address that a redirect from `address` leads to.

    Raises `HttpError` if it is not HTTP, or goes from https to http.
    """
    try:
        following = urljoin(address, location)
        before, after = urlsplit(address).scheme.lower(), urlsplit(following).scheme.lower()
    except ValueError:
        raise HttpError(0, "it redirects to something that is not an address", _REMEDY) from None
    if after not in ("http", "https") or (before == "https" and after == "http"):
        raise HttpError(
            0, f"it redirects to {without_secrets(following)}, which is not secure", _REMEDY
        )
    return following

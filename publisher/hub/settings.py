"""The hub's public addresses."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from publisher.hub.errors import HubError

HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_STORAGE = re.compile(r"gs://[a-z0-9][a-z0-9._-]+(/[A-Za-z0-9_.+-]+)*/?")
_PATH = re.compile(r"(/[A-Za-z0-9_.~-]+)*/?")


@dataclass(frozen=True)
class Settings:
    """Addresses that the release does not state. Raises `HubError` for an invalid one.

    `public` is the hub's address, if it differs from the Host of requests (behind a proxy).
    `uncompressed` is the `gs://` address of the unpacked models, each below its handle.
    """

    public: str | None = None
    uncompressed: str | None = None

    def __post_init__(self) -> None:
        if self.public is not None and not is_address(self.public):
            raise HubError(f"{self.public}: not an address; give one like https://hub.example")
        if self.uncompressed is not None and not _STORAGE.fullmatch(self.uncompressed):
            raise HubError(
                f"{self.uncompressed}: not a storage path; give one like gs://bucket/unpacked"
            )


def is_address(text: str) -> bool:
    """Return whether a text is an HTTP address to which paths can be appended."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(HOST.fullmatch(parts.netloc))
        and bool(_PATH.fullmatch(parts.path))
        and not (parts.query or parts.fragment or text[-1] in "?#")
    )

"""The interface of a source."""

from dataclasses import dataclass
from typing import BinaryIO, Protocol

from publisher.release.errors import ReleaseError
from publisher.util.http import HttpError, Retry, advice, without_secrets

LARGEST = 1 << 24  # bytes of a small file: index, manifest, page
READING = Retry(attempts=3, first_pause=0.5)  # short, because a person waits
_REMEDIES = dict.fromkeys(
    (400, 401, 403, 404, 410), "see that the address is right and that everybody may read it"
)


@dataclass(frozen=True)
class RemoteFile:
    """A file that clients download from another address."""

    address: str


class Source(Protocol):
    """A readable release. Paths are relative to it and come from checked handles.

    Every method raises `ReleaseError` for a file that cannot be read.
    """

    @property
    def name(self) -> str:
        """The path or address that a person gave."""

    def stamp(self) -> object:
        """Return a value that changes when the release changes."""

    def read(self, path: str) -> bytes:
        """Return a small file."""

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""

    def open(self, path: str, size: int) -> BinaryIO | RemoteFile:
        """Open a file of that size for reading, or return the address where clients get it."""


def unreadable(address: str, error: HttpError) -> ReleaseError:
    """Return the error of an address that cannot be read."""
    return ReleaseError(
        f"{without_secrets(address)}: cannot be read: {error}; {advice(error, _REMEDIES)}"
    )

"""What a source of a release offers."""

from dataclasses import dataclass
from typing import BinaryIO, Protocol

from publisher.release.errors import ReleaseError
from publisher.util.http import HttpError, Retry, advice, without_secrets

LARGEST = 1 << 24  # bytes of a small file: index, manifest, page
# A person waits for it.
READING = Retry(attempts=3, first_pause=0.5)
_REMEDIES = dict.fromkeys(
    (400, 401, 403, 404, 410), "see that the address is right and that everybody may read it"
)


@dataclass(frozen=True)
class RemoteFile:
    """A file that clients get from another address."""

    address: str


class Source(Protocol):
    """A release that can be read. Paths are relative to it and come from checked handles.

    Every method raises `ReleaseError` for what cannot be read.
    """

    @property
    def name(self) -> str:
        """What a person calls it: its path or address."""

    def stamp(self) -> object:
        """Return a value that is another one when the release has changed."""

    def read(self, path: str) -> bytes:
        """Return a small file."""

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""

    def open(self, path: str, size: int) -> BinaryIO | RemoteFile:
        """Return a file of that size, open for reading, or where clients can get it."""


def unreadable(address: str, error: HttpError) -> ReleaseError:
    """Return the error that says why nothing can be had from an address."""
    return ReleaseError(
        f"{without_secrets(address)}: cannot be read: {error}; {advice(error, _REMEDIES)}"
    )

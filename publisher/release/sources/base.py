"""What a source of a release offers."""

from dataclasses import dataclass
from typing import BinaryIO, Protocol

LARGEST = 1 << 24  # bytes of a small file: index, manifest, page


@dataclass(frozen=True)
class Elsewhere:
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

    def open(self, path: str, size: int) -> BinaryIO | Elsewhere:
        """Return a file of that size, open for reading, or where clients can get it."""

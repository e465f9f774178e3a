"""Where a release can be. One file each, behind one small interface."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from publisher.errors import PublisherError


class DestinationError(PublisherError):
    """A destination cannot be used, or holds something that must not be overwritten."""


class Destination(Protocol):
    """What a destination holds, and a way to put things there. Nothing else.

    Paths are relative to the release. Every method raises `DestinationError` if the
    destination cannot be used or holds something damaged.
    """

    @property
    def name(self) -> str:
        """What a person calls it: its path or address."""

    @property
    def local(self) -> bool:
        """Whether only users of this machine see it; synthetic weights may go there."""

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Return the manifest of every version it holds, by handle."""

    def read(self, path: str) -> bytes | None:
        """Return the file at `path`; none if there is none."""

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Make a new version appear, whole: its files by name, each a path or its content.

        Raises `DestinationError` if it is there.
        """

    def write(self, path: str, content: bytes) -> None:
        """Replace one small file (page, index), whole."""

"""Where a release can be. One file each, behind one small interface."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from publisher.errors import PublisherError

Style = Literal["tfhub", "kaggle", "huggingface", "github"]


class DestinationError(PublisherError):
    """A destination cannot be used, or holds something that must not be overwritten."""


class ConflictError(DestinationError):
    """Somebody else wrote there meanwhile; what they wrote is left as it is."""


class Destination(Protocol):
    """What a destination holds, and a way to put things there. Nothing else.

    Paths are those of a release: `models/<handle>/model.tar.gz`, `manifest.json` and
    `README.md` beside it (the version's page), and documents. How a destination stores
    them is its own affair, as long as it gives back the same bytes.

    Every method raises `DestinationError` if the destination cannot be used or holds
    something damaged, and `ConflictError` if somebody else was faster.
    """

    @property
    def name(self) -> str:
        """What a person calls it: its name in models.yaml, its path or address."""

    @property
    def local(self) -> bool:
        """Whether only users of this machine see it; synthetic weights may go there."""

    @property
    def style(self) -> Style:
        """Whose pages it shows: the folder of `templates/` that they are made from."""

    @property
    def holds_versions(self) -> bool:
        """Whether archives go there, and not pages alone."""

    @property
    def holds_index(self) -> bool:
        """Whether it is a whole release, with documents in `tfhub.dev/`, index and sums."""

    @property
    def shares_page(self) -> bool:
        """Whether all versions of a model have one page, that of the newest."""

    @property
    def seals_versions(self) -> bool:
        """Whether nothing of a version can change once it is there, except its page."""

    def check(self) -> None:
        """See that credentials are there and suffice to write. Leaves nothing behind."""

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Return the manifest of every version it holds, by handle.

        Asked anew at each call. A version counts only when it is whole: its archive is
        there with the size that the manifest states, and the digest where that is known.
        What an interrupted upload left is no version.
        """

    def read(self, path: str) -> bytes | None:
        """Return the small file at `path`; none if there is none."""

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Make a new version appear, whole: its files by name, each a path or its content.

        What an interrupted call left is used or replaced. The service is asked afterwards
        whether it holds what was sent. Raises `ConflictError` if the version is there.
        """

    def write(self, path: str, content: bytes) -> None:
        """Replace one small file (page, manifest, document, index), whole.

        Raises `ConflictError` if it is no longer what `read` returned last.
        """

"""The documentation tree of tfhub.dev, as a checkout on this machine.

It holds pages only, at tfhub.dev's paths: `assets/docs/...`. Its owner commits them and opens
the pull request.
"""

from collections.abc import Mapping
from pathlib import Path

from publisher.destinations.base import DestinationError, NamedDestination
from publisher.destinations.local.directory import NamedDirectory
from publisher.documents.manifest import Manifest
from publisher.pages.document import ROOT
from publisher.registry.models import Target


class TfhubCheckout(NamedDestination):
    """A checkout of tensorflow/tfhub.dev, written like a release directory.

    Every method raises `DestinationError` if the folder is not such a checkout.
    """

    local = True
    holds_versions = False

    def __init__(
        self, name: str, target: Target, environment: Mapping[str, str], folder: Path
    ) -> None:
        """Use the checkout at `target.to`, relative to the current folder."""
        super().__init__(name, target)
        self._tree = NamedDirectory(name, target, environment, folder)
        self._root = Path(target.to).absolute()

    def check(self) -> None:
        """Verify that the folder is a writable checkout."""
        self._require_tree()
        self._tree.check()

    def manifests(self) -> dict[str, Manifest]:
        """Return nothing: a checkout holds no versions."""
        return {}

    def read(self, path: str) -> bytes | None:
        """Return the page at `path`, or `None` if it does not exist."""
        self._require_tree()
        return self._tree.read(path) if path.startswith(ROOT) else None

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Raise `DestinationError`: a checkout holds no archives."""
        raise DestinationError(
            f"{self.name}: {handle}: a checkout of tfhub.dev holds pages and no archives; publish"
            " those elsewhere"
        )

    def write(self, path: str, content: bytes) -> None:
        """Replace the page at `path` atomically unless it has this content."""
        self._require_tree()
        if not path.startswith(ROOT):
            raise DestinationError(
                f"{self.name}: {path}: a checkout of tfhub.dev has its pages in {ROOT}; leave it"
                " out"
            )
        self._tree.write(path, content)

    def _require_tree(self) -> None:
        try:
            if (self._root / ROOT).is_dir():
                return
            why = f"has no folder {ROOT}"
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
        raise DestinationError(
            f"{self._root}: {why}, so it is not a checkout of tfhub.dev; clone"
            f" https://github.com/tensorflow/tfhub.dev, or correct `to` of {self.name} in"
            " models.yaml"
        )

"""The documentation tree of tfhub.dev, as a checkout on this machine.

Pages only, at the paths that tfhub.dev has them: `assets/docs/...`. Committing them and
asking for a merge is left to the person whose checkout it is.
"""

from collections.abc import Mapping
from pathlib import Path

from publisher.destinations.base import DestinationError, NamedDestination
from publisher.destinations.local.directory import NamedDirectory
from publisher.documents.manifest import Manifest
from publisher.pages.document import ROOT
from publisher.registry.models import Target


class TfhubCheckout(NamedDestination):
    """A checkout of tensorflow/tfhub.dev, written as a release directory is.

    Every method raises `DestinationError` if the folder is no such checkout.
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
        """See that it is a checkout, and that it can be written."""
        self._require_tree()
        self._tree.check()

    def manifests(self) -> dict[str, Manifest]:
        """Return nothing: pages name no version that is here."""
        return {}

    def read(self, path: str) -> bytes | None:
        """Return the page at `path`; none if there is none."""
        self._require_tree()
        return self._tree.read(path) if path.startswith(ROOT) else None

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Refuse: an archive is no page."""
        raise DestinationError(
            f"{self.name}: {handle}: a checkout of tfhub.dev holds pages and no archives; publish"
            " those elsewhere"
        )

    def write(self, path: str, content: bytes) -> None:
        """Replace the page at `path`, in one step; the same content is left as it is."""
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
            f"{self._root}: {why}, so it is no checkout of tfhub.dev; clone"
            f" https://github.com/tensorflow/tfhub.dev, or correct `to` of {self.name} in"
            " models.yaml"
        )

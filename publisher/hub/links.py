"""Where a page is shown: that decides its links, and the addresses in its snippets."""

from dataclasses import dataclass

from publisher.documents.manifest import ARCHIVE


@dataclass(frozen=True)
class Links:
    """One page's way to everything else.

    `root` leads to the catalogue's folder, and `suffix` follows the handle of a page.
    `base` is the hub's address where it answers `hub.load` itself; a page on a plain web
    host has none. `archives` is the address that archives lie below.
    """

    root: str
    suffix: str
    base: str | None
    archives: str

    @property
    def home(self) -> str:
        """Return the link to the catalogue."""
        return f"{self.root}{self.suffix.lstrip('/')}" or "./"

    def page(self, handle: str) -> str:
        """Return the link to a model's page."""
        return f"{self.root}{handle}{self.suffix}"

    def file(self, path: str) -> str:
        """Return the link to a small file."""
        return f"{self.root}{path}"

    def archive(self, handle: str) -> str:
        """Return the address of a model's archive."""
        return f"{self.archives}/models/{handle}/{ARCHIVE}"

    def load_address(self, handle: str) -> str:
        """Return the address to give to `hub.load`."""
        return f"{self.base}/{handle}" if self.base else self.archive(handle)

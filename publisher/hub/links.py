"""The links on a page, and the addresses in its snippets."""

from dataclasses import dataclass

from publisher.documents.manifest import ARCHIVE


@dataclass(frozen=True)
class Links:
    """Computes the links of one page.

    `root` is the link to the catalogue's folder; `suffix` follows a handle in the link to its
    page. `base` is the hub's address, or `None` on a static host, which cannot answer
    `hub.load`. Archives are below `archives`.
    """

    root: str
    suffix: str
    base: str | None
    archives: str

    @property
    def home(self) -> str:
        """The link to the catalogue."""
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
        """Return the address for `hub.load`."""
        return f"{self.base}/{handle}" if self.base else self.archive(handle)

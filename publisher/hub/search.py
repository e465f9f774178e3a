"""Filters the models of the catalogue. `hub.js` does the same in the browser."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from publisher.release.catalogue import HEADS, Model

LONGEST = 100  # characters of one value


@dataclass(frozen=True)
class Filters:
    """The fields of the catalogue's form. An empty field matches every model."""

    q: str = ""
    architecture: str = ""
    resolution: str = ""
    head: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filters":
        """Return the filters in a query string. Ignores other parameters."""
        return cls(**{name: query.get(name, "").strip()[:LONGEST] for name in asdict(cls())})

    @property
    def empty(self) -> bool:
        """Whether every model matches."""
        return self == Filters()

    def match(self, model: Model) -> bool:
        """Return whether a model matches the fields, and its text contains every word."""
        entry, text = model.entry, searched_text(model)
        return (
            all(word in text for word in self.q.lower().split())
            and self.architecture in ("", entry.architecture)
            and self.resolution in ("", str(entry.resolution))
            and self.head in ("", entry.head)
        )


def searched_text(model: Model) -> str:
    """Return the text of a model that a search looks at, in lower case."""
    entry = model.entry
    words = (
        entry.handle,
        *entry.aliases,
        entry.checkpoint,
        entry.architecture,
        entry.head.replace("_", " "),
        f"{entry.resolution}x{entry.resolution}",
        *model.manifest.checkpoint.datasets,
        "synthetic" if entry.synthetic else "",
        "withdrawn" if entry.withdrawn else "",
    )
    return " ".join(words).lower()


def choices(models: Iterable[Model]) -> dict[str, list[str]]:
    """Return the values that the form offers for each filter."""
    entries = [model.entry for model in models]
    return {
        "architecture": sorted({entry.architecture for entry in entries}),
        "resolution": [str(side) for side in sorted({entry.resolution for entry in entries})],
        "head": [head for head in HEADS if any(entry.head == head for entry in entries)],
    }

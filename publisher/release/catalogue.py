"""A release as a hub serves it: models found by path, and small files by name."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import get_args

from publisher.documents.errors import DocumentError
from publisher.documents.fields import Head
from publisher.documents.index import (
    INDEX,
    Checkpoint,
    Entry,
    Index,
    read_index,
    read_listed,
)
from publisher.documents.manifest import ARCHIVE, MANIFEST, PAGE, Manifest
from publisher.registry import Registry
from publisher.release.contents import INDEX_SIGNATURE, SIGNED, SUMS
from publisher.release.errors import ReleaseError
from publisher.release.sources.base import LARGEST, Source
from publisher.util.wording import nearest

HEADS = get_args(Head)
LARGEST_PAGE = 1 << 16  # bytes; crafted Markdown can take long to parse
# Lines of SHA256SUMS: as many as fit a small file, each a digest, two spaces, a path and a newline.
MOST_LISTED = LARGEST // 68


@dataclass(frozen=True)
class Model:
    """One version with everything that a hub shows; `page` is its README.md."""

    entry: Entry
    manifest: Manifest
    checkpoint: Checkpoint | None
    page: str

    @property
    def archive(self) -> str:
        """The path of its archive in the release."""
        return f"{self.entry.path}/{ARCHIVE}"


@dataclass(frozen=True)
class Redirect:
    """The path where a hub has what a client asked for; `permanent` if that never changes."""

    path: str
    permanent: bool


@dataclass(frozen=True)
class Catalogue:
    """The content of a release.

    `files` are its small files by path. `newest` maps `publisher/name` to a handle, and `aliases`
    maps an old spelling to `publisher/name`.
    """

    index: Index
    models: Mapping[str, Model]
    files: Mapping[str, bytes]
    newest: Mapping[str, str]
    aliases: Mapping[str, str]

    def find(self, path: str) -> Model | Redirect | None:
        """Return the model at a path (without the first `/`), or a redirect to it."""
        if path in self.models:
            return self.models[path]
        if path in self.newest:
            return Redirect(self.newest[path], permanent=False)
        name, _, version = path.rpartition("/")
        if path in self.aliases:
            return Redirect(self.aliases[path], permanent=True)
        if name in self.aliases and f"{self.aliases[name]}/{version}" in self.models:
            return Redirect(f"{self.aliases[name]}/{version}", permanent=True)
        if path in (self.index.collection, self.index.publisher):
            return Redirect("", permanent=False)
        if path.endswith("/") and not path.endswith("//") and self.find(path[:-1]):
            return Redirect(path[:-1], permanent=True)
        return None

    def versions(self, name: str) -> list[str]:
        """Return the handles of one `publisher/name`, the newest first and withdrawn ones last."""
        entries = [model.entry for model in self.models.values() if model.entry.name == name]
        return [entry.handle for entry in sorted(entries, key=_rank, reverse=True)]

    def near(self, path: str) -> list[str]:
        """Return the handles that are most similar to a path, the nearest first."""
        name, _, version = path.rpartition("/")
        found = self.versions(self.aliases.get(name, name)) if version.isdecimal() else []
        spellings = {**{name: name for name in self.newest}, **self.aliases}
        wanted = name if version.isdecimal() else path
        for spelling in nearest(wanted, list(spellings), count=5):
            found.append(self.newest[spellings[spelling]])
        return list(dict.fromkeys(found))[:5]

    def sibling(self, model: Model, head: str) -> Model | None:
        """Return the newest model of the same checkpoint with another head, if there is one.

        Of several, it prefers one that is folded if `model` is, and one that is not otherwise.
        """
        others = [
            other
            for handle in self.newest.values()
            if (other := self.models[handle]).entry.checkpoint == model.entry.checkpoint
            and other.entry.head == head
        ]
        others.sort(key=lambda other: other.manifest.folded != model.manifest.folded)
        return others[0] if others else None


def load(source: Source) -> Catalogue:
    """Read a release: its index, manifests and pages, and the sizes of its archives.

    Raises `ReleaseError` if something is missing or does not agree with the index.
    """
    try:
        return _load(source)
    except (DocumentError, ReleaseError) as error:
        raise ReleaseError(f"{source.name}: {error}") from error


def next_to_rebuild(registry: Registry, source: Source, number: int) -> str:
    """Return a handle that both the registry and the release hold; consecutive `number`s cycle.

    Raises `ReleaseError` if there is none.
    """
    models = load(source).models
    handles = [
        variant.handle
        for variant in registry.variants
        if variant.withdrawn is None and variant.handle in models
    ]
    if not handles:
        raise ReleaseError(
            f"{source.name}: holds nothing that models.yaml lists; publish first, or give another"
            " release"
        )
    return handles[number % len(handles)]


def _load(source: Source) -> Catalogue:
    content = source.read(INDEX)
    index = read_index(content)
    files = {INDEX: content, SUMS: source.read(SUMS)}
    count = files[SUMS].count(b"\n")
    if count > MOST_LISTED:
        raise ReleaseError(
            f"{source.name}: {SUMS} has {count:,} lines, more than {MOST_LISTED:,}; restore it"
            " from a copy"
        )
    listed = {line.partition("  ")[2] for line in files[SUMS].decode(errors="replace").split("\n")}
    models = {}
    for entry in index.models:
        manifest, page = f"{entry.path}/{MANIFEST}", f"{entry.path}/{PAGE}"
        files[manifest], files[page] = source.read(manifest), source.read(page)
        signed = [path for name in SIGNED if (path := f"{entry.path}/{name}") in listed]
        files |= {path: source.read(path) for path in signed}
        if len(files[page]) > LARGEST_PAGE:
            raise ReleaseError(f"{page}: is larger than {LARGEST_PAGE >> 10} KiB; publish it again")
        model = Model(
            entry,
            read_listed(files[manifest], entry),
            index.checkpoints.get(entry.checkpoint),
            files[page].decode(errors="replace"),
        )
        size = source.size(model.archive)
        if size != entry.archive.size:
            raise ReleaseError(
                f"{model.archive}: has {size:,} bytes where the index states"
                f" {entry.archive.size:,}; restore it from a copy"
            )
        models[entry.handle] = model
    # It is optional, and nothing lists it.
    with suppress(ReleaseError):
        files[INDEX_SIGNATURE] = source.read(INDEX_SIGNATURE)
    entries = [model.entry for model in models.values()]
    # A withdrawn version counts as the newest only if every version is withdrawn.
    newest = {entry.name: entry.handle for entry in sorted(entries, key=_rank)}
    return Catalogue(index, models, files, newest, _aliases(entries, newest))


def _rank(entry: Entry) -> tuple[bool, int]:
    return entry.withdrawn is None, entry.version


def _aliases(entries: list[Entry], newest: Mapping[str, str]) -> dict[str, str]:
    """Return the model of each old spelling that is unambiguous and no model's own name."""
    meant: dict[str, set[str]] = {}
    for entry in entries:
        for alias in entry.aliases:
            meant.setdefault(alias, set()).add(entry.name)
    return {
        alias: names.pop()
        for alias, names in meant.items()
        if len(names) == 1 and alias not in newest
    }

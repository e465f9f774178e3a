"""The index of a release: `index.json`, which lists its versions."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from publisher.documents.document import Document, Part
from publisher.documents.errors import DocumentError
from publisher.documents.fields import (
    AssetBase,
    CollectionHandle,
    Count,
    Handle,
    Head,
    Name,
    PublisherName,
    Text,
    WebAddress,
    Word,
)
from publisher.documents.manifest import MANIFEST, Archive, Manifest, read_manifest

INDEX = "index.json"


class Entry(Part):
    """One version. `withdrawn` is the reason for its withdrawal; absent if it is not withdrawn."""

    handle: Handle
    aliases: Annotated[tuple[Name, ...], Field(max_length=100)]
    synthetic: bool
    checkpoint: Word
    architecture: Word
    head: Head
    resolution: Count
    parameters: Count
    path: str
    archive: Archive
    withdrawn: Text | None = None

    @property
    def name(self) -> str:
        """The handle without its version, `publisher/name`."""
        return self.handle.rpartition("/")[0]

    @property
    def version(self) -> int:
        """The last part of the handle."""
        return int(self.handle.rpartition("/")[2])


class Reported(Part):
    """A figure that somebody reported for the upstream weights."""

    metric: Word
    value: Annotated[float, Field(ge=-1e9, le=1e9)]
    source: Word
    url: WebAddress


class Checkpoint(Part):
    """What the registry says of a checkpoint."""

    license: Word
    reported: tuple[Reported, ...]


class Publisher(Part):
    """Who publishes."""

    name: PublisherName
    full_name: Word
    url: WebAddress
    description: Text


class Collection(Part):
    """The page that lists all models."""

    handle: CollectionHandle
    title: Word
    description: Text


class About(Part):
    """What the registry says of the release as a whole."""

    publisher: Publisher
    collection: Collection
    asset_base: AssetBase


class Index(Document):
    """The content of a release. Indexes of old releases lack `about` and `checkpoints`."""

    schema_version: Literal[1]
    synthetic: bool
    publisher: PublisherName
    collection: Annotated[str, StringConstraints(max_length=300)]
    about: About | None = None
    checkpoints: dict[str, Checkpoint] = Field(default_factory=dict)
    models: Annotated[tuple[Entry, ...], Field(max_length=10_000)]


class _Withdrawable(Part):
    handle: Handle
    withdrawn: str | None = None


class _Withdrawals(Document):
    models: tuple[_Withdrawable, ...]


def read_index(content: bytes) -> Index:
    """Parse and check `index.json`. Raises `DocumentError` with the first problem."""
    try:
        index = Index.read(content, INDEX)
    except DocumentError as error:
        raise _faulty(str(error)) from error
    seen = set()
    for entry in index.models:
        if entry.path != f"models/{entry.handle}":
            raise _faulty(f"{INDEX}: the path of {entry.handle} is another one")
        if entry.handle in seen:
            raise _faulty(f"{INDEX}: {entry.handle} is there twice")
        seen.add(entry.handle)
    return index


def read_listed(content: bytes, entry: Entry) -> Manifest:
    """Parse the manifest of the version that the index lists as `entry`.

    Raises `DocumentError` if it is invalid or does not agree with the index.
    """
    where = f"{entry.path}/{MANIFEST}"
    try:
        manifest = read_manifest(content, where)
    except DocumentError as error:
        raise _faulty(str(error)) from error
    for what, there, listed in (
        ("handle", manifest.handle, entry.handle),
        ("archive", manifest.archive, entry.archive),
        ("synthetic", manifest.synthetic, entry.synthetic),
        ("checkpoint", manifest.checkpoint.name, entry.checkpoint),
    ):
        if there != listed:
            raise _faulty(f"{where}: its {what} is not the one in {INDEX}")
    return manifest


def withdrawn_in(content: bytes) -> dict[str, str]:
    """Return the reasons for withdrawals in an index, by handle.

    Reads nothing else, so it also takes an index that another version of this program wrote and
    `read_index` refuses. Raises `DocumentError`.
    """
    listed = _Withdrawals.read(content, INDEX).models
    return {entry.handle: entry.withdrawn for entry in listed if entry.withdrawn}


def _faulty(problem: str) -> DocumentError:
    return DocumentError(f"{problem}; publish the release again, or restore the file from a copy")

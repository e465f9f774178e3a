"""`index.json` and `manifest.json` as typed values; both are somebody else's until checked.

Only what is served or shown is read. Texts may hold anything, because pages escape them;
what becomes a path, an address or a number is checked here.
"""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from publisher.documents.errors import DocumentError
from publisher.documents.fields import (
    COMPUTED,
    AssetBase,
    Handle,
    Head,
    PublisherName,
    WebAddress,
    WeightStandardization,
)
from publisher.documents.manifest import MANIFEST
from publisher.errors import first_problem

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=10_000)]
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9-]{1,100}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")
]


def _check_shape(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    # Only batch, height and width may be open; pages name them.
    if None in shape[3:]:
        raise ValueError("a dimension after the third is open")
    return shape


Shape = Annotated[tuple[Count | None, ...], Field(max_length=8), AfterValidator(_check_shape)]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Archive(_Read):
    """The archive of one version."""

    file: Literal["model.tar.gz"]
    size: Count
    sha256: Digest
    unpacked_size: Count


class Entry(_Read):
    """One version, as the index lists it."""

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


class Reported(_Read):
    """A figure that somebody reported for the upstream weights."""

    metric: Word
    value: Annotated[float, Field(ge=-1e9, le=1e9)]
    source: Word
    url: WebAddress


class Checkpoint(_Read):
    """What the registry says of a checkpoint."""

    license: Word
    reported: tuple[Reported, ...]


class Publisher(_Read):
    """Who publishes."""

    full_name: Word
    url: WebAddress
    description: Text


class Collection(_Read):
    """What the models are together."""

    title: Word
    description: Text


class About(_Read):
    """What the registry says of the release as a whole."""

    publisher: Publisher
    collection: Collection
    asset_base: AssetBase


class Index(_Read):
    """What a release holds. `about` and `checkpoints` are missing in old ones."""

    schema_version: Literal[1]
    synthetic: bool
    publisher: PublisherName
    collection: Annotated[str, StringConstraints(max_length=300)]
    models: Annotated[tuple[Entry, ...], Field(max_length=10_000)]
    about: About | None = None
    checkpoints: dict[str, Checkpoint] = {}


class Tensor(_Read):
    """An input or an output."""

    name: Word
    dtype: Word
    shape: Shape


class Signature(_Read):
    """What goes in and comes out."""

    name: Word
    input: Tensor
    output: Tensor


class Check(_Read):
    """One check of validation."""

    name: Word
    status: Literal["passed", "failed", "skipped"]
    summary: Text


class Tolerance(_Read):
    """A result may be off by absolute + relative * largest |expected|."""

    absolute: Annotated[float, Field(ge=0)]
    relative: Annotated[float, Field(ge=0)]


class Validation(_Read):
    """What validation found."""

    passed: bool
    tolerance: Tolerance
    checks: tuple[Check, ...]


class Source(_Read):
    """The weights that a version was made from."""

    name: Word
    sha256: Digest
    datasets: tuple[Word, ...]


class Manifest(_Read):
    """What is known of one version."""

    schema_version: Literal[1]
    handle: Handle
    synthetic: bool
    checkpoint: Source
    architecture: Word
    head: Head
    weight_standardization: WeightStandardization = COMPUTED
    input_range: tuple[float, float]
    smallest_image: Count
    classes: Count
    variables: Count
    signature: Signature
    assets: tuple[Word, ...]
    archive: Archive
    validation: Validation
    toolchain: dict[Word, Word]


def read_index(content: bytes) -> Index:
    """Return the index in `index.json`.

    Raises `DocumentError` with the first thing that is not as `publish` writes it.
    """
    try:
        index = Index.model_validate_json(content)
    except ValidationError as error:
        raise DocumentError(_faulty(first_problem(error, "index.json"))) from error
    seen = set()
    for entry in index.models:
        if entry.path != f"models/{entry.handle}":
            raise DocumentError(_faulty(f"index.json: the path of {entry.handle} is another one"))
        if entry.handle in seen:
            raise DocumentError(_faulty(f"index.json: {entry.handle} is there twice"))
        seen.add(entry.handle)
    return index


def read_manifest(content: bytes, entry: Entry) -> Manifest:
    """Return the manifest of the version that the index lists as `entry`.

    Raises `DocumentError` if it is none, or another version's.
    """
    where = f"{entry.path}/{MANIFEST}"
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise DocumentError(_faulty(first_problem(error, where))) from error
    for what, there, listed in (
        ("handle", manifest.handle, entry.handle),
        ("archive", manifest.archive, entry.archive),
        ("synthetic", manifest.synthetic, entry.synthetic),
        ("checkpoint", manifest.checkpoint.name, entry.checkpoint),
    ):
        if there != listed:
            raise DocumentError(_faulty(f"{where}: its {what} is not the one in index.json"))
    return manifest


def _faulty(problem: str) -> str:
    return f"{problem}; publish the release again, or restore the file from a copy"

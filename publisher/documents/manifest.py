"""The manifest: the facts about one built variant, as JSON.

They follow from the registry, the weights and the artifact alone, not from the place or time of
the build, so that two builds give the same bytes.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from publisher.documents.document import Document, Part
from publisher.documents.fields import (
    COMPUTED,
    FOLDED,
    Count,
    Handle,
    Head,
    Name,
    RelativePath,
    Sha256,
    Shape,
    Text,
    WeightStandardization,
    Word,
)
from publisher.documents.report import Report

# The files of a version at every destination.
ARCHIVE: Final = "model.tar.gz"
MANIFEST, PAGE = "manifest.json", "README.md"
SYNTHETIC_NOTICE = (
    "SYNTHETIC WEIGHTS: random numbers of the true names and shapes, made to test the"
    " release system. Predictions mean nothing."
)


class Source(Part):
    """The weights that a version was made from, and what the registry says about them.

    The collection's page needs these facts even after the checkpoint has left the registry.
    """

    name: Word
    path: RelativePath
    size: Count
    sha256: Sha256
    datasets: tuple[Word, ...]
    network_architectures: tuple[Word, ...]


class Tensor(Part):
    """An input or an output; null in its shape is a dimension of any size."""

    name: Word
    dtype: Word
    shape: Shape


class Signature(Part):
    """A signature of the SavedModel: its name, input and output."""

    name: Word
    input: Tensor
    output: Tensor


class Archive(Part):
    """The archive of one version; sizes in bytes."""

    file: Literal["model.tar.gz"]
    size: Count
    sha256: Sha256
    unpacked_size: Count


class Manifest(Document):
    """The facts about one version.

    Only manifests of synthetic weights have a `notice`. Old manifests lack
    `weight_standardization`, which was always computed then.
    """

    notice: Text | None = None
    schema_version: Literal[1]
    handle: Handle
    aliases: Annotated[tuple[Name, ...], Field(max_length=100)]
    synthetic: bool
    checkpoint: Source
    architecture: Word
    head: Head
    weight_standardization: WeightStandardization = COMPUTED
    resolution: Count
    input_range: tuple[float, float]
    smallest_image: Count
    classes: Count
    parameters: Count
    variables: Count
    signature: Signature
    assets: tuple[Word, ...]
    archive: Archive
    validation: Report
    toolchain: dict[Word, Word]

    @property
    def folded(self) -> bool:
        """Whether weight standardization is folded into the kernels: for prediction only."""
        return self.weight_standardization == FOLDED


def read_manifest(content: bytes, name: str = MANIFEST) -> Manifest:
    """Parse and check a manifest from a file called `name`.

    Raises `DocumentError` with the first problem.
    """
    return Manifest.read(content, name)

"""What `models.yaml` holds, as frozen models; `models.schema.json` is made from them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from publisher.documents.fields import (
    COMPUTED,
    FOLDED,
    Alias,
    ArchitectureName,
    AssetBase,
    CheckpointName,
    CollectionHandle,
    Dataset,
    DestinationKind,
    DestinationName,
    Distinct,
    Handle,
    Head,
    License,
    Line,
    NameThere,
    NetworkArchitecture,
    Paragraph,
    Prose,
    PublisherName,
    Range,
    RelativePath,
    Upstream,
    WebAddress,
    WeightStandardization,
)
from publisher.registry.errors import RegistryError

Pixels = Annotated[int, Field(ge=1, le=4096)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Publisher(_Model):
    """Who publishes."""

    name: PublisherName = Field(description="First part of every handle.")
    full_name: Line = Field(description="The name as people write it.")
    url: WebAddress = Field(description="Where to find the publisher, http:// or https://.")
    description: Paragraph = Field(description="One paragraph for the publisher's page.")


class Collection(_Model):
    """The page that lists all models."""

    handle: CollectionHandle = Field(description="publisher/collections/name/1.")
    title: Line = Field(description="Heading of the page.")
    description: Paragraph = Field(description="One paragraph for the collection's page.")


class Tolerance(_Model):
    """A result passes when |measured - expected| <= absolute + relative * largest |expected|."""

    absolute: float = Field(ge=0, description="Bound on the error, whatever the values are.")
    relative: float = Field(ge=0, description="Bound as a share of the largest expected value.")


class Validation(_Model):
    """How strictly models are checked."""

    tolerance: Tolerance = Field(description="For all checkpoints that have none of their own.")


class Reported(_Model):
    """A figure that somebody reported for the upstream weights; it is not measured here."""

    metric: Line = Field(description="What was measured, for example ImageNet-1k top-1.")
    value: float = Field(description="The figure as its source has it.")
    source: Line = Field(description="Who reported it.")
    url: WebAddress = Field(description="Where it was reported.")


class Checkpoint(_Model):
    """One upstream weight file, and what is known of it."""

    path: RelativePath = Field(description="Where the .npz file lies below the source of weights.")
    architecture: ArchitectureName = Field(description="The network these weights belong to.")
    classes: int = Field(ge=1, le=1_000_000, description="Number of logits.")
    class_names: RelativePath | None = Field(
        default=None,
        description="UTF-8 file with the name of one class a line, relative to models.yaml.",
    )
    resolution: Pixels = Field(description="Side of the images it was trained for, in pixels.")
    input_range: Range = Field(description="[low, high] of the values of an image.")
    parity_resolutions: Annotated[tuple[Pixels, ...], Distinct] = Field(
        min_length=1,
        max_length=16,
        json_schema_extra={"uniqueItems": True},
        description="Sides, in pixels, at which outputs are compared with the reference.",
    )
    training: Prose = Field(description="How the weights were trained, for the pages.")
    datasets: Annotated[tuple[Dataset, ...], Distinct] = Field(
        min_length=1,
        json_schema_extra={"uniqueItems": True},
        description="What it was trained on, in tfhub.dev's words.",
    )
    network_architectures: Annotated[tuple[NetworkArchitecture, ...], Distinct] = Field(
        min_length=1,
        json_schema_extra={"uniqueItems": True},
        description="What kind of network it is, in tfhub.dev's words.",
    )
    license: License = Field(default="apache-2.0", description="License of the weights.")
    reported: tuple[Reported, ...] = Field(
        default=(), description="Figures from elsewhere, each with its source."
    )
    tolerance: Tolerance | None = Field(
        default=None, description="Replaces the tolerance under `validation`."
    )


class Variant(_Model):
    """One model to publish: a checkpoint with a head, under a handle."""

    handle: Handle = Field(
        description="publisher/name/version. A published version never changes: raise the number."
    )
    checkpoint: CheckpointName = Field(description="A name under `checkpoints`.")
    head: Head = Field(description="The whole network with its logits, or the pooled features.")
    weight_standardization: WeightStandardization = Field(
        default=COMPUTED,
        description="computed: at every call. folded: once, into the kernels, at export; that"
        " saves work at every call, and such a model cannot be fine-tuned.",
    )
    aliases: tuple[Alias, ...] = Field(
        default=(), description="Old spellings, publisher/name, that lead to the handle."
    )
    withdrawn: Paragraph | None = Field(
        default=None,
        description="Why nobody should use this version any longer. It stays where it is, and its"
        " page and the index say so.",
    )

    @property
    def folded(self) -> bool:
        """Whether weight standardization is folded into the kernels: for prediction only."""
        return self.weight_standardization == FOLDED

    @property
    def publisher(self) -> str:
        """First part of the handle."""
        return self.handle.split("/")[0]

    @property
    def name(self) -> str:
        """Second part of the handle."""
        return self.handle.split("/")[1]

    @property
    def version(self) -> int:
        """Last part of the handle, from 1."""
        return int(self.handle.split("/")[2])

    @property
    def unversioned(self) -> str:
        """The handle without its version, `publisher/name`."""
        return f"{self.publisher}/{self.name}"


class Target(_Model):
    """A destination besides the release directory, and what goes there under which names."""

    kind: DestinationKind = Field(description="What sort of place it is.")
    to: Line = Field(
        description="Where: a path (directory, tfhub: of the checkout), gs://bucket/prefix"
        " (google-cloud-storage), s3://bucket/prefix (s3), owner/model (kaggle), owner"
        " (huggingface), owner/repository (github)."
    )
    only: tuple[Line, ...] = Field(
        default=(), description="Globs over handles; none means that all variants go there."
    )
    names: dict[Alias, NameThere] = Field(
        default={},
        description="kaggle, huggingface, github: what a model, publisher/name, is called there."
        " Default: its name, with - for _ on kaggle.",
        json_schema_extra={"additionalProperties": False},
    )
    visibility: Literal["public", "private"] = Field(
        default="private", description="kaggle, huggingface: who sees a model made there."
    )
    license_name: Line | None = Field(
        default=None,
        description="kaggle: the license in its words, for example Apache 2.0. Default: by the"
        " checkpoint's license.",
    )


class Registry(_Model):
    """What is published: the parsed, checked content of `models.yaml`."""

    upstream: Upstream = Field(
        description="Where the weight files come from, http://, https:// or gs://."
    )
    asset_base: AssetBase = Field(
        description="Where archives will be served from, https://, not on github.com."
    )
    publisher: Publisher
    collection: Collection
    validation: Validation
    checkpoints: dict[CheckpointName, Checkpoint] = Field(
        min_length=1,
        description="The weight files, each under a name of your choice.",
        json_schema_extra={"additionalProperties": False},
    )
    variants: tuple[Variant, ...] = Field(min_length=1, description="The models to publish.")
    destinations: dict[DestinationName, Target] = Field(
        default={},
        description="Where a release can go with TO=, each under a name of your choice.",
        json_schema_extra={"additionalProperties": False},
    )

    # Not a field: dumps go into digests, which must not depend on the machine.
    _directory: Path = PrivateAttr(default=Path())

    @property
    def directory(self) -> Path:
        """The folder of `models.yaml`, which `class_names` is relative to."""
        return self._directory

    def checkpoint_of(self, variant: Variant) -> Checkpoint:
        """Return the checkpoint that a variant is made from."""
        return self.checkpoints[variant.checkpoint]

    def sibling(self, variant: Variant, head: Head) -> Variant | None:
        """Return another variant of the same checkpoint with that head, if there is one.

        Of several, those with the variant's own weight standardization come first, then the
        one with its version, then the newest.
        """
        others = [
            other
            for other in self.variants
            if (other.checkpoint, other.head) == (variant.checkpoint, head)
            and other.handle != variant.handle
        ]
        return max(
            others,
            key=lambda other: (
                other.folded == variant.folded,
                other.version == variant.version,
                other.version,
            ),
            default=None,
        )

    def other_head(self, variant: Variant) -> Variant | None:
        """Return the sibling with the head that the variant has not, if there is one."""
        return self.sibling(
            variant, "feature_extractor" if variant.head == "classifier" else "classifier"
        )

    def fine_tunable(self, variant: Variant) -> Variant | None:
        """Return what can be fine-tuned in place of a folded variant, if there is something.

        It is of the same checkpoint and head, and not folded; of several, the newest.
        """
        if not variant.folded:
            return None
        others = [
            other
            for other in self.variants
            if (other.checkpoint, other.head) == (variant.checkpoint, variant.head)
            and not other.folded
        ]
        return max(others, key=lambda other: other.version, default=None)

    def tolerance_of(self, variant: Variant) -> Tolerance:
        """Return the tolerance of the variant's checkpoint, or else the registry's."""
        return self.checkpoint_of(variant).tolerance or self.validation.tolerance

    def class_names(self, checkpoint: Checkpoint) -> tuple[str, ...] | None:
        """Return the names of the checkpoint's classes in order, if it has a file of them.

        Raises `RegistryError` if the file can no longer be read.
        """
        if checkpoint.class_names is None:
            return None
        path = self.directory / checkpoint.class_names
        try:
            return read_class_names(path)
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryError(
                f"{path}: the class names cannot be read ({error}); bring the file back"
            ) from error


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the lines of a UTF-8 file. Raises `OSError` or `UnicodeDecodeError`."""
    return tuple(path.read_text(encoding="utf-8").splitlines())

"""The content of `models.yaml` as frozen models, from which `models.schema.json` is made."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from publisher.documents import fields
from publisher.registry.errors import RegistryError
from publisher.util.resources import DATA, distributed
from publisher.util.wording import shown

LARGEST_LIST = 64 << 20  # bytes of a file of class names

Pixels = Annotated[int, Field(ge=1, le=4096)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Publisher(_Model):
    """Who publishes."""

    name: fields.PublisherName = Field(description="First part of every handle.")
    full_name: fields.Line = Field(description="The name as people write it.")
    url: fields.WebAddress = Field(description="Where to find the publisher, http:// or https://.")
    description: fields.Paragraph = Field(description="One paragraph for the publisher's page.")


class Collection(_Model):
    """The page that lists all models."""

    handle: fields.CollectionHandle = Field(description="publisher/collections/name/1.")
    title: fields.Line = Field(description="Heading of the page.")
    description: fields.Paragraph = Field(description="One paragraph for the collection's page.")


class Tolerance(_Model):
    """A result passes when |measured - expected| <= absolute + relative * largest |expected|."""

    absolute: float = Field(ge=0, description="Bound on the error, whatever the values are.")
    relative: float = Field(ge=0, description="Bound as a share of the largest expected value.")


class Validation(_Model):
    """How strictly models are checked."""

    tolerance: Tolerance = Field(description="For all checkpoints that have none of their own.")


class Reported(_Model):
    """A figure that somebody reported for the upstream weights; it is not measured here."""

    metric: fields.Line = Field(description="What was measured, for example ImageNet-1k top-1.")
    value: float = Field(description="The figure as its source has it.")
    source: fields.Line = Field(description="Who reported it.")
    url: fields.WebAddress = Field(description="Where it was reported.")


class Checkpoint(_Model):
    """One upstream weight file, and what is known of it."""

    path: fields.RelativePath = Field(
        description="Where the .npz file lies below the source of weights."
    )
    architecture: fields.ArchitectureName = Field(
        description="The network these weights belong to."
    )
    classes: int = Field(ge=1, le=1_000_000, description="Number of logits.")
    class_names: fields.RelativePath | None = Field(
        default=None,
        description="UTF-8 file with the name of one class a line, relative to models.yaml. What"
        " is not there is looked for in the distribution: data/ilsvrc2012_wordnet_lemmas.txt.",
    )
    resolution: Pixels = Field(description="Side of the images it was trained for, in pixels.")
    input_range: fields.Range = Field(description="[low, high] of the values of an image.")
    parity_resolutions: fields.Distinct[Pixels] = Field(
        max_length=16,
        description="Sides, in pixels, at which outputs are compared with the reference.",
    )
    training: fields.Prose = Field(description="How the weights were trained, for the pages.")
    datasets: fields.Distinct[fields.Dataset] = Field(
        description="What it was trained on, in tfhub.dev's words.",
    )
    network_architectures: fields.Distinct[fields.NetworkArchitecture] = Field(
        description="What kind of network it is, in tfhub.dev's words.",
    )
    license: fields.License = Field(default="apache-2.0", description="License of the weights.")
    reported: tuple[Reported, ...] = Field(
        default=(), description="Figures from elsewhere, each with its source."
    )
    tolerance: Tolerance | None = Field(
        default=None, description="Replaces the tolerance under `validation`."
    )


class Variant(_Model):
    """One model to publish: a checkpoint with a head, under a handle."""

    handle: fields.Handle = Field(
        description="publisher/name/version. A published version never changes: raise the number."
    )
    checkpoint: fields.CheckpointName = Field(description="A name under `checkpoints`.")
    head: fields.Head = Field(
        description="The whole network with its logits, or the pooled features."
    )
    weight_standardization: fields.WeightStandardization = Field(
        default=fields.COMPUTED,
        description="computed: at every call. folded: once, into the kernels, at export; that"
        " saves work at every call, and such a model cannot be fine-tuned.",
    )
    aliases: tuple[fields.Alias, ...] = Field(
        default=(), description="Old spellings, publisher/name, that lead to the handle."
    )
    withdrawn: fields.Paragraph | None = Field(
        default=None,
        description="Why nobody should use this version any longer. It stays where it is, and its"
        " page and the index say so.",
    )

    @property
    def folded(self) -> bool:
        """Whether weight standardization is folded into the kernels: for prediction only."""
        return self.weight_standardization == fields.FOLDED

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

    kind: fields.DestinationKind = Field(description="What sort of place it is.")
    to: fields.Line = Field(
        description="Where: a path (directory, tfhub: of the checkout), gs://bucket/prefix"
        " (google-cloud-storage), s3://bucket/prefix (s3), owner/model (kaggle), owner"
        " (huggingface), owner/repository (github)."
    )
    only: tuple[fields.Line, ...] = Field(
        default=(), description="Globs over handles; none means that all variants go there."
    )
    names: dict[fields.Alias, fields.NameThere] = Field(
        default={},
        description="kaggle, huggingface, github: what a model, publisher/name, is called there."
        " Default: its name, with - for _ on kaggle.",
        json_schema_extra={"additionalProperties": False},
    )
    visibility: Literal["public", "private"] = Field(
        default="private", description="kaggle, huggingface: who sees a model made there."
    )
    license_name: fields.Line | None = Field(
        default=None,
        description="kaggle: the license in its words, for example Apache 2.0. Default: by the"
        " checkpoint's license.",
    )


class Registry(_Model):
    """What is published: the parsed, checked content of `models.yaml`."""

    upstream: fields.Upstream = Field(
        description="Where the weight files come from, http://, https:// or gs://."
    )
    asset_base: fields.AssetBase = Field(
        description="Where archives will be served from, https://, not on github.com."
    )
    publisher: Publisher
    collection: Collection
    validation: Validation
    checkpoints: dict[fields.CheckpointName, Checkpoint] = Field(
        min_length=1,
        description="The weight files, each under a name of your choice.",
        json_schema_extra={"additionalProperties": False},
    )
    variants: tuple[Variant, ...] = Field(min_length=1, description="The models to publish.")
    destinations: dict[fields.DestinationName, Target] = Field(
        default={},
        description="Where a release can go with TO=, each under a name of your choice.",
        json_schema_extra={"additionalProperties": False},
    )

    # Not a field, because dumps are hashed and must not depend on the machine.
    _directory: Path = PrivateAttr(default=Path())

    @property
    def directory(self) -> Path:
        """The folder of `models.yaml`."""
        return self._directory

    def checkpoint_of(self, variant: Variant) -> Checkpoint:
        """Return the checkpoint that a variant is made from."""
        return self.checkpoints[variant.checkpoint]

    def sibling(self, variant: Variant, head: fields.Head) -> Variant | None:
        """Return another variant of the same checkpoint with that head, if there is one.

        A withdrawn variant is none. Of several, it prefers the variant's own weight
        standardization, then its version, then the newest.
        """
        return max(
            (one for one in self._same_network(variant, head) if one.handle != variant.handle),
            key=lambda other: (
                other.folded == variant.folded,
                other.version == variant.version,
                other.version,
            ),
            default=None,
        )

    def other_head(self, variant: Variant) -> Variant | None:
        """Return the sibling with the other head, if there is one."""
        return self.sibling(
            variant, "feature_extractor" if variant.head == "classifier" else "classifier"
        )

    def fine_tunable(self, variant: Variant) -> Variant | None:
        """Return the newest unfolded variant with a folded one's checkpoint and head, if any."""
        same = self._same_network(variant, variant.head) if variant.folded else []
        trainable = (other for other in same if not other.folded)
        return max(trainable, key=lambda other: other.version, default=None)

    def _same_network(self, variant: Variant, head: fields.Head) -> list[Variant]:
        """Return the variants that nobody withdrew; nothing may lead to the others."""
        network = (variant.checkpoint, head)
        return [
            other
            for other in self.variants
            if (other.checkpoint, other.head) == network and other.withdrawn is None
        ]

    def tolerance_of(self, variant: Variant) -> Tolerance:
        """Return the tolerance of the variant's checkpoint, or else the registry's."""
        return self.checkpoint_of(variant).tolerance or self.validation.tolerance

    def class_names_file(self, checkpoint: Checkpoint) -> Path | None:
        """Return the file with the names of the checkpoint's classes, if it has one."""
        relative = checkpoint.class_names
        return None if relative is None else find_class_names(self.directory, relative)

    def class_names(self, checkpoint: Checkpoint) -> tuple[str, ...] | None:
        """Return the names of the checkpoint's classes in order, if it has any.

        Raises `RegistryError` if the file can no longer be read.
        """
        names = checkpoint.class_names
        return None if names is None else read_class_names(self.directory, names)


def find_class_names(folder: Path, relative: str) -> Path:
    """Return the path of a file of class names.

    A file in the folder of `models.yaml` takes precedence over one of the distribution.
    """
    own, common = folder / relative, distributed(relative)
    is_common = relative.startswith(f"{DATA}/") and not os.path.lexists(own) and common.is_file()
    return common if is_common else own


def read_class_names(folder: Path, relative: str) -> tuple[str, ...]:
    """Return the lines of a UTF-8 file in the folder of `models.yaml`, or of the distribution.

    Raises `RegistryError` for a missing or unreadable file, one outside the folder, one that is
    too large, and an empty line.
    """
    path, name = find_class_names(folder, relative), shown(relative)
    try:
        # A link may lead anywhere, and only files of these folders may enter a release.
        home = folder if path == folder / relative else distributed(DATA)
        if not path.resolve().is_relative_to(home.resolve()):
            raise RegistryError(f"{name} leads out of the folder; allowed: a file inside it")
        if not path.is_file():
            raise RegistryError(
                f"there is no file {name} beside models.yaml; allowed: a path relative to that"
            )
        if path.stat().st_size > LARGEST_LIST:
            raise RegistryError(f"{name} is too large; allowed: {LARGEST_LIST >> 20} MiB")
        names = tuple(path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError:
        raise RegistryError(f"{name} is not UTF-8; save it with that encoding") from None
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a loop of links"
        raise RegistryError(
            f"{name} cannot be read ({reason}); allowed: a file of class names"
        ) from None
    for number, line in enumerate(names, start=1):
        if not line.strip():
            raise RegistryError(f"{name} is empty on line {number}; allowed: one name a line")
    return names

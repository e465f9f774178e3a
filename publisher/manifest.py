"""The manifest: everything there is to know about one built variant, as JSON.

It holds only what follows from the registry, the weights and the artifact, never where
or when it was built, so that two builds give the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from publisher.architectures import ARCHITECTURES
from publisher.errors import PublisherError, first_problem
from publisher.package import Archive
from publisher.registry import Registry, Variant
from publisher.registry.fields import COMPUTED, FOLDED, Handle, WeightStandardization
from publisher.registry.models import Head

SCHEMA_VERSION = 1
# What a version consists of, wherever it lies.
ARCHIVE, MANIFEST, PAGE = ("model.tar.gz", "manifest.json", "README.md")
SYNTHETIC_NOTICE = (
    "SYNTHETIC WEIGHTS: random numbers of the true names and shapes, made to test the"
    " release system. Predictions mean nothing."
)


class ManifestError(PublisherError):
    """What should be a manifest is none."""


@dataclass(frozen=True)
class Weights:
    """The weight file a variant was made from: size in bytes, and whether it is synthetic."""

    size: int
    sha256: str
    synthetic: bool


def output_of(registry: Registry, variant: Variant) -> tuple[str, int]:
    """Return the name and the length of a variant's output vector."""
    checkpoint = registry.checkpoint_of(variant)
    if variant.head == "classifier":
        return "logits", checkpoint.classes
    return "features", ARCHITECTURES[checkpoint.architecture].features


def kept_arrays(registry: Registry, variant: Variant) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the arrays that a variant holds."""
    checkpoint = registry.checkpoint_of(variant)
    architecture = ARCHITECTURES[checkpoint.architecture]
    shapes = architecture.arrays(checkpoint.classes)
    if variant.head == "classifier":
        return shapes
    return {name: shapes[name] for name in architecture.backbone(shapes)}


def build_manifest(
    registry: Registry,
    variant: Variant,
    *,
    weights: Weights,
    archive: Archive,
    report: Mapping[str, Any],
    toolchain: Mapping[str, str],
) -> dict[str, Any]:
    """Return the manifest of one variant; synthetic weights are its first line."""
    checkpoint = registry.checkpoint_of(variant)
    output, length = output_of(registry, variant)
    arrays = kept_arrays(registry, variant)
    names_file = class_names_file(registry, variant)
    notice = {"notice": SYNTHETIC_NOTICE} if weights.synthetic else {}
    return {
        **notice,
        "schema_version": SCHEMA_VERSION,
        "handle": variant.handle,
        "aliases": list(variant.aliases),
        "synthetic": weights.synthetic,
        "checkpoint": {
            "name": variant.checkpoint,
            "path": checkpoint.path,
            "size": weights.size,
            "sha256": weights.sha256,
            # The collection's page has to say of a model what its own page says, also when
            # its checkpoint is no longer in the registry.
            "datasets": list(checkpoint.datasets),
            "network_architectures": list(checkpoint.network_architectures),
        },
        "architecture": checkpoint.architecture,
        "head": variant.head,
        "weight_standardization": variant.weight_standardization,
        "resolution": checkpoint.resolution,
        "input_range": [float(bound) for bound in checkpoint.input_range],
        "smallest_image": ARCHITECTURES[checkpoint.architecture].smallest_image,
        "classes": checkpoint.classes,
        "parameters": sum(prod(shape) for shape in arrays.values()),
        "variables": len(arrays),
        "signature": {
            "name": "serving_default",
            "input": {"name": "images", "dtype": "float32", "shape": [None, None, None, 3]},
            "output": {"name": output, "dtype": "float32", "shape": [None, length]},
        },
        "assets": [names_file] if names_file else [],
        "archive": {
            "file": ARCHIVE,
            "size": archive.size,
            "sha256": archive.sha256,
            "unpacked_size": archive.unpacked_size,
        },
        "validation": dict(report),
        "toolchain": dict(toolchain),
    }


def is_folded(manifest: Mapping[str, Any]) -> bool:
    """Return whether weight standardization is folded into the kernels: for prediction only.

    Manifests say so since there is a choice; before, it was always computed.
    """
    return bool(manifest.get("weight_standardization", COMPUTED) == FOLDED)


_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    """Of a manifest that was read, what a release's index and pages are made from."""

    model_config = ConfigDict(strict=True)


class _Checkpoint(_Part):
    name: str
    sha256: _Digest
    datasets: list[str]
    network_architectures: list[str]


class _Archive(_Part):
    file: Literal["model.tar.gz"]
    size: _Count
    sha256: _Digest
    unpacked_size: _Count


class _Manifest(_Part):
    schema_version: Literal[1]
    handle: Handle
    aliases: list[str]
    synthetic: bool
    checkpoint: _Checkpoint
    architecture: str
    head: Head
    weight_standardization: WeightStandardization = COMPUTED
    resolution: _Count
    parameters: _Count
    archive: _Archive
    toolchain: dict[str, str]


def read_manifest(content: bytes) -> dict[str, Any]:
    """Return a manifest that was written as JSON.

    Raises `ManifestError` with the first thing that is not as `build_manifest` makes it.
    """
    try:
        _Manifest.model_validate_json(content)
        manifest: dict[str, Any] = json.loads(content)
    except ValidationError as error:
        raise ManifestError(first_problem(error, MANIFEST)) from error
    except ValueError as error:
        raise ManifestError(f"{MANIFEST}: {error}") from error
    return manifest


def class_names_file(registry: Registry, variant: Variant) -> str | None:
    """Return the name of the class names' file in `assets/`, for a classifier that has one."""
    checkpoint = registry.checkpoint_of(variant)
    if variant.head != "classifier" or checkpoint.class_names is None:
        return None
    return checkpoint.class_names.rpartition("/")[2]

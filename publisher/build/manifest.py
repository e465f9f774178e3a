"""Making the manifest of a variant from the registry, its weights and its archive."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from publisher.documents.manifest import (
    ARCHIVE,
    SYNTHETIC_NOTICE,
    Manifest,
    Signature,
    Source,
    Tensor,
)
from publisher.documents.manifest import Archive as PackedArchive
from publisher.documents.report import Report
from publisher.families import ARCHITECTURES
from publisher.formats.archive import Archive
from publisher.registry import Registry, Variant


@dataclass(frozen=True)
class Weights:
    """The weight file that a variant was made from; its size is in bytes."""

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
    """Return the names and shapes of a variant's arrays."""
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
    report: Report,
    toolchain: Mapping[str, str],
) -> Manifest:
    """Return the manifest of one variant; it begins with a notice if the weights are synthetic."""
    checkpoint = registry.checkpoint_of(variant)
    output, length = output_of(registry, variant)
    arrays = kept_arrays(registry, variant)
    names_file = class_names_file(registry, variant)
    notice = {"notice": SYNTHETIC_NOTICE} if weights.synthetic else {}
    return Manifest(
        **notice,
        schema_version=1,
        handle=variant.handle,
        aliases=variant.aliases,
        synthetic=weights.synthetic,
        checkpoint=Source(
            name=variant.checkpoint,
            path=checkpoint.path,
            size=weights.size,
            sha256=weights.sha256,
            datasets=checkpoint.datasets,
            network_architectures=checkpoint.network_architectures,
        ),
        architecture=checkpoint.architecture,
        head=variant.head,
        weight_standardization=variant.weight_standardization,
        resolution=checkpoint.resolution,
        input_range=checkpoint.input_range,
        smallest_image=ARCHITECTURES[checkpoint.architecture].smallest_image,
        classes=checkpoint.classes,
        parameters=sum(prod(shape) for shape in arrays.values()),
        variables=len(arrays),
        signature=Signature(
            name="serving_default",
            input=Tensor(name="images", dtype="float32", shape=(None, None, None, 3)),
            output=Tensor(name=output, dtype="float32", shape=(None, length)),
        ),
        assets=(names_file,) if names_file else (),
        archive=PackedArchive(
            file=ARCHIVE,
            size=archive.size,
            sha256=archive.sha256,
            unpacked_size=archive.unpacked_size,
        ),
        validation=report,
        toolchain=dict(toolchain),
    )


def class_names_file(registry: Registry, variant: Variant) -> str | None:
    """Return the name of the file of class names in `assets/`, if the variant has one."""
    checkpoint = registry.checkpoint_of(variant)
    if variant.head != "classifier" or checkpoint.class_names is None:
        return None
    return checkpoint.class_names.rpartition("/")[2]

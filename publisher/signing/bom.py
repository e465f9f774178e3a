"""Writes and reads a version's bill of materials (CycloneDX 1.6, with a model card).

Source of the format: CycloneDX specification 1.6, JSON. The bill of materials and its serial
number depend only on the manifest and the registry, so equal facts give equal bytes.
"""

from typing import Annotated, Any, Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from publisher.documents.manifest import SYNTHETIC_NOTICE, Manifest, Tensor
from publisher.errors import first_problem
from publisher.pages.values import CLASSIFIER_TASKS, FEATURE_TASKS
from publisher.registry.models import Checkpoint
from publisher.signing.errors import SigningError
from publisher.signing.provenance import packages, purl
from publisher.util.files import json_bytes, sha256

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
WEIGHTS = "weights"  # the `bom-ref` of the weights' component
# SPDX identifiers; the registry has them in lower case.
_LICENSES = (
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC-BY-NC-4.0",
    "CDDL-1.0",
    "EPL-2.0",
    "GPL-2.0",
    "GPL-3.0",
    "LGPL-2.0",
    "LGPL-2.1",
    "LGPL-3.0",
    "MIT",
    "MPL-2.0",
)


def bom(manifest: Manifest, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Return the bill of materials of one version.

    `checkpoint` is the registry's entry, which has the license and a description of the training;
    `None` if the registry no longer has it.
    """
    libraries = [_library(*one) for one in packages(manifest.toolchain).items()]
    datasets = [_dataset(name) for name in manifest.checkpoint.datasets]
    weights = _weights(manifest, checkpoint)
    needed = [WEIGHTS, *(library["bom-ref"] for library in libraries)]
    trained_on = [dataset["bom-ref"] for dataset in datasets]
    made_with = manifest.toolchain.get("publisher")
    tool = {"type": "application", "name": "publisher", "version": made_with}
    content = {
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            **({"tools": {"components": [tool]}} if made_with else {}),
            "component": _model(manifest, checkpoint, trained_on),
        },
        "components": [weights, *datasets, *libraries],
        "dependencies": [
            {"ref": manifest.handle, "dependsOn": needed},
            {"ref": WEIGHTS, "dependsOn": trained_on},
            *({"ref": one["bom-ref"]} for one in (*datasets, *libraries)),
        ],
    }
    return {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid5(NAMESPACE_URL, sha256(json_bytes(content))).urn,
        "version": 1,
        **content,
    }


def _model(
    manifest: Manifest, checkpoint: Checkpoint | None, datasets: list[str]
) -> dict[str, Any]:
    publisher, name, version = manifest.handle.split("/")
    notice = {"description": SYNTHETIC_NOTICE} if manifest.synthetic else {}
    return {
        "type": "machine-learning-model",
        "bom-ref": manifest.handle,
        "group": publisher,
        "name": name,
        "version": version,
        **notice,
        "hashes": _hashes(manifest.archive.sha256),
        **_licenses(checkpoint),
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": _task(manifest),
                "architectureFamily": ", ".join(manifest.checkpoint.network_architectures),
                "modelArchitecture": manifest.architecture,
                "datasets": [{"ref": reference} for reference in datasets],
                "inputs": [{"format": _input(manifest)}],
                "outputs": [{"format": _tensor(manifest.signature.output)}],
            },
            "considerations": {
                "useCases": [_task(manifest)],
                "technicalLimitations": _limitations(manifest),
            },
        },
    }


def _task(manifest: Manifest) -> str:
    return (CLASSIFIER_TASKS if manifest.head == "classifier" else FEATURE_TASKS)[0]


def _input(manifest: Manifest) -> str:
    low, high = manifest.input_range
    return f"{_tensor(manifest.signature.input)}, values from {low:g} to {high:g}"


def _tensor(tensor: Tensor) -> str:
    """Return a tensor in words: `images: float32 [any, any, any, 3]`."""
    shape = ", ".join("any" if size is None else str(size) for size in tensor.shape)
    return f"{tensor.name}: {tensor.dtype} [{shape}]"


def _limitations(manifest: Manifest) -> list[str]:
    smallest, resolution = manifest.smallest_image, manifest.resolution
    return [
        *([SYNTHETIC_NOTICE] if manifest.synthetic else []),
        f"Trained for images of {resolution} x {resolution} pixels; a side has {smallest} at least",
        *(["For prediction only: it cannot be fine-tuned"] if manifest.folded else []),
    ]


def _weights(manifest: Manifest, checkpoint: Checkpoint | None) -> dict[str, Any]:
    described = SYNTHETIC_NOTICE if manifest.synthetic else checkpoint and checkpoint.training
    return {
        "type": "machine-learning-model",
        "bom-ref": WEIGHTS,
        "name": manifest.checkpoint.path,
        **({"description": " ".join(described.split())} if described else {}),
        "hashes": _hashes(manifest.checkpoint.sha256),
        **_licenses(checkpoint),
    }


def _dataset(name: str) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": f"dataset:{name}",
        "name": name,
        "data": [{"type": "dataset", "name": name}],
    }


def _library(name: str, version: str) -> dict[str, Any]:
    reference = purl(name, version)
    return {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "purl": reference,
    }


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _licenses(checkpoint: Checkpoint | None) -> dict[str, Any]:
    if checkpoint is None:
        return {}
    known = {name.lower(): name for name in _LICENSES}
    name = checkpoint.license
    return {"licenses": [{"license": {"id": known[name]} if name in known else {"name": name}}]}


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Hash(_Read):
    alg: str
    content: str


class _Component(_Read):
    hashes: Annotated[tuple[_Hash, ...], Field(max_length=100)]


class _Metadata(_Read):
    component: _Component


class _Bom(_Read):
    form: Annotated[Literal["CycloneDX"], Field(alias="bomFormat")]
    metadata: _Metadata
    components: Annotated[tuple[Any, ...], Field(max_length=100_000)] = ()


def read_bom(content: bytes) -> tuple[str, int]:
    """Return the SHA-256 of the archive in a bill of materials, and its number of components.

    Raises `SigningError` if `content` is not a bill of materials.
    """
    try:
        found = _Bom.model_validate_json(content)
    except ValidationError as error:
        raise SigningError(f"is not a bill of materials ({first_problem(error)})") from None
    digests = [one.content for one in found.metadata.component.hashes if one.alg == "SHA-256"]
    return (digests[0] if len(digests) == 1 else ""), len(found.components)

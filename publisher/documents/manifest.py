"""The manifest: everything there is to know about one built variant, as JSON.

It holds only what follows from the registry, the weights and the artifact, never where
or when it was built, so that two builds give the same bytes.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from publisher.documents.errors import DocumentError
from publisher.documents.fields import COMPUTED, FOLDED, Handle, Head, WeightStandardization
from publisher.errors import first_problem

SCHEMA_VERSION = 1
# What a version consists of, wherever it lies.
ARCHIVE, MANIFEST, PAGE = ("model.tar.gz", "manifest.json", "README.md")
SYNTHETIC_NOTICE = (
    "SYNTHETIC WEIGHTS: random numbers of the true names and shapes, made to test the"
    " release system. Predictions mean nothing."
)


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

    Raises `DocumentError` with the first thing that is not as `build_manifest` makes it.
    """
    try:
        _Manifest.model_validate_json(content)
        manifest: dict[str, Any] = json.loads(content)
    except ValidationError as error:
        raise DocumentError(first_problem(error, MANIFEST)) from error
    except ValueError as error:
        raise DocumentError(f"{MANIFEST}: {error}") from error
    return manifest

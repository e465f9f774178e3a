"""What to validate, as it travels to a worker process. Imports no TensorFlow."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from publisher.documents.report import Tolerance
from publisher.families import Architecture
from publisher.validation.report import Check


@dataclass(frozen=True)
class Facts:
    """What the registry states of a variant, and its pages promise.

    `folded` says that weight standardization is folded into the kernels: such a model is for
    prediction only.
    """

    architecture: Architecture
    head: Literal["classifier", "feature_extractor"]
    folded: bool
    output: str
    output_size: int
    input_range: tuple[float, float]
    resolution: int
    parity_resolutions: tuple[int, ...]
    tolerance: Tolerance
    synthetic: bool
    class_names_file: str | None
    class_names: tuple[str, ...] | None


def shared(source: Facts, kind: type[Facts]) -> dict[str, Any]:
    """Return the fields of `kind` as `source` has them, to make one that holds more of it."""
    return {field.name: getattr(source, field.name) for field in fields(kind)}


@dataclass(frozen=True)
class Request(Facts):
    """One packed archive and what is expected of it.

    `expected` holds the float64 features of the checkpoint (see `expected`). `features` is
    where a feature extractor's own are written, and where a classifier finds those that its
    head is held to; none for a classifier whose checkpoint has no feature extractor.
    `weights_check` was made when the weights were fetched. `failures` is where the tensors
    of failing checks are kept; `scratch` is where the client unpacks. `proved` is where what was
    found of a graph is kept, for other archives with the same graph; of one code and toolchain.
    """

    handle: str
    archive: Path
    expected: Path
    features: Path | None
    weights_check: Check
    failures: Path
    scratch: Path
    proved: Path | None = None

"""The request to validate one archive, sent to a worker process. Imports no TensorFlow."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from publisher.documents.report import Tolerance
from publisher.families import Architecture
from publisher.validation.report import Check


@dataclass(frozen=True)
class Facts:
    """What the registry states about a variant and its pages promise.

    If `folded`, weight standardization is folded into the kernels, and the model is for
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


def common_fields(source: Facts, kind: type[Facts]) -> dict[str, Any]:
    """Return `source`'s values of the fields of `kind`, to construct a subclass of `kind`."""
    return {field.name: getattr(source, field.name) for field in fields(kind)}


@dataclass(frozen=True)
class Request(Facts):
    """One archive and what it must satisfy.

    `weights_check` is the outcome of the check made when the weights were fetched.

    These are paths. `expected` holds the checkpoint's float64 features (see the module
    `expected`). A feature extractor writes its own features to `features`, and the classifier
    of the same checkpoint is compared with them; `None` for a classifier without such an
    extractor. `failures` receives the tensors of failing checks, and the client unpacks into
    `scratch`. `graph_cache` is the folder of the graph checks' cache (see `graph_cache`), and
    belongs to one version of the code and the toolchain.
    """

    handle: str
    archive: Path
    expected: Path
    features: Path | None
    weights_check: Check
    failures: Path
    scratch: Path
    graph_cache: Path | None = None

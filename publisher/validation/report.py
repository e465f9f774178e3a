"""What validation leaves behind: every check with its measured figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from publisher.documents import report as documents
from publisher.documents.fields import LONGEST_TEXT
from publisher.documents.report import Figure, Tolerance
from publisher.errors import PublisherError

if TYPE_CHECKING:  # whoever only wants to know how it went need not wait for NumPy
    import numpy.typing as npt


class ValidationError(PublisherError):
    """A check failed: the variant is blocked."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    `summary` is one line for people, `figures` are the numbers it rests on, and
    `tensors` are kept on disk when the check fails.
    """

    name: str
    status: Literal["passed", "failed", "skipped"]
    summary: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tensors: "Mapping[str, npt.NDArray[Any]]" = field(default_factory=dict)

    def document(self) -> documents.Check:
        """Return the check without its tensors, in what strict JSON can hold."""
        return documents.Check(
            name=self.name,
            status=self.status,
            summary=self.summary[:LONGEST_TEXT],
            figures={name: _json_figure(figure) for name, figure in self.figures.items()},
        )


def _json_figure(figure: Figure) -> Figure:
    # JSON has no inf and no nan; as text they can still be read, by people and by float().
    return str(figure) if isinstance(figure, float) and not math.isfinite(figure) else figure


@dataclass(frozen=True)
class Report:
    """All checks of one variant."""

    tolerance: Tolerance
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed. A skipped check says why in its summary."""
        return all(check.status != "failed" for check in self.checks)

    def document(self) -> documents.Report:
        """Return the report as it stands in the manifest."""
        return documents.Report(
            passed=self.passed,
            tolerance=self.tolerance,
            checks=tuple(check.document() for check in self.checks),
        )

    def complaint(self) -> str:
        """Return one line on what failed, the first check in full; empty if nothing did."""
        failed = [check for check in self.checks if check.status == "failed"]
        if not failed:
            return ""
        line = f"{failed[0].name}: {failed[0].summary}"
        if len(failed) > 1:
            line += f" (failed as well: {', '.join(check.name for check in failed[1:])})"
        return " ".join(line.split())


@dataclass(frozen=True)
class Comparison:
    """How far `measured` is from `expected`.

    `largest_error` is infinite if an element of either is not finite; `worst_index` is
    where it was found.
    """

    largest_error: float
    bound: float
    mismatches_per_million: float
    worst_index: tuple[int, ...]
    worst_measured: float
    worst_expected: float

    @property
    def within(self) -> bool:
        """Whether every element is finite and within the bound."""
        return self.mismatches_per_million == 0

    def figures(self, prefix: str = "") -> dict[str, Figure]:
        """Return the figures, their names led by `prefix`."""
        return {
            f"{prefix}largest_error": self.largest_error,
            f"{prefix}bound": self.bound,
            f"{prefix}mismatches_per_million": self.mismatches_per_million,
            f"{prefix}worst_index": list(self.worst_index),
            f"{prefix}worst_measured": self.worst_measured,
            f"{prefix}worst_expected": self.worst_expected,
        }

    def describe(self) -> str:
        """Return one phrase: the error, the bound, and the worst element if it is out."""
        line = f"largest error {self.largest_error:.1e}, bound {self.bound:.1e}"
        if not self.within:
            line += (
                f"; worst element {list(self.worst_index)} is {self.worst_measured:.6g}"
                f" where {self.worst_expected:.6g} is expected;"
                f" {self.mismatches_per_million:.4g} in a million are out"
            )
        return line


def compare(
    measured: "npt.NDArray[Any]", expected: "npt.NDArray[Any]", tolerance: Tolerance
) -> Comparison:
    """Compare two arrays of one shape, in float64.

    The relative part of the bound goes with the largest expected magnitude: rounding in a
    deep network is spread over the whole vector, whatever the size of one element. An
    element that is not finite in either array is always out. Raises `ValidationError` if
    the shapes differ or there is nothing to compare.
    """
    import numpy as np

    if measured.shape != expected.shape:
        raise ValidationError(
            f"shape {list(measured.shape)} where {list(expected.shape)} is expected"
        )
    if not expected.size:
        raise ValidationError(f"shape {list(expected.shape)}: no element to compare")
    wide = measured.astype(np.float64)
    truth = expected.astype(np.float64)
    finite = np.isfinite(wide) & np.isfinite(truth)
    error = np.full(truth.shape, np.inf)
    np.subtract(wide, truth, out=error, where=finite)
    np.abs(error, out=error)
    magnitudes = np.abs(truth, where=np.isfinite(truth), out=np.zeros_like(truth))
    bound = tolerance.absolute + tolerance.relative * float(magnitudes.max())
    worst = np.unravel_index(int(np.argmax(error)), error.shape)
    return Comparison(
        largest_error=float(error[worst]),
        bound=bound,
        mismatches_per_million=float((error > bound).mean() * 1e6),
        worst_index=tuple(int(index) for index in worst),
        worst_measured=float(wide[worst]),
        worst_expected=float(truth[worst]),
    )

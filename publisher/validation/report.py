"""The report of a validation: every check with its measured figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from publisher.documents import report as documents
from publisher.documents.fields import LONGEST_TEXT
from publisher.documents.report import Figure, Tolerance
from publisher.errors import PublisherError

if TYPE_CHECKING:  # readers of a report should not wait for NumPy's import
    import numpy.typing as npt


class ValidationError(PublisherError):
    """A check failed, so the variant is blocked."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    `summary` is one line for people, and `figures` are the numbers behind it. If the check
    fails, `tensors` are kept on disk.
    """

    name: str
    status: Literal["passed", "failed", "skipped"]
    summary: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tensors: "Mapping[str, npt.NDArray[Any]]" = field(default_factory=dict)

    def document(self) -> documents.Check:
        """Return the check without its tensors, as strict JSON can hold it."""
        return documents.Check(
            name=self.name,
            status=self.status,
            summary=self.summary[:LONGEST_TEXT],
            figures={name: _json_figure(figure) for name, figure in self.figures.items()},
        )


def _json_figure(figure: Figure) -> Figure:
    if not isinstance(figure, float):
        return figure
    # JSON has neither inf nor nan. People and float() can still read them as text.
    if not math.isfinite(figure):
        return str(figure)
    # The last digits depend on how many threads NumPy's matrix products may use.
    return float(f"{figure:.5g}")


@dataclass(frozen=True)
class Report:
    """All checks of one variant."""

    tolerance: Tolerance
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed. A skipped check gives the reason in its summary."""
        return all(check.status != "failed" for check in self.checks)

    def document(self) -> documents.Report:
        """Return the report as it stands in the manifest."""
        return documents.Report(
            passed=self.passed,
            tolerance=self.tolerance,
            checks=tuple(check.document() for check in self.checks),
        )

    def failure_summary(self) -> str:
        """Return one line with the first failure in full and the names of the others.

        Empty if no check failed.
        """
        failed = [check for check in self.checks if check.status == "failed"]
        if not failed:
            return ""
        line = f"{failed[0].name}: {failed[0].summary}"
        if len(failed) > 1:
            line += f" (failed as well: {', '.join(check.name for check in failed[1:])})"
        return " ".join(line.split())


@dataclass(frozen=True)
class Comparison:
    """The distance of one array from another (see `compare`).

    `largest_error` is infinite if an element of either array is not finite. `worst_index` is
    the position of the largest error.
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
        """Return the figures by name, each name with `prefix`."""
        return {
            f"{prefix}largest_error": self.largest_error,
            f"{prefix}bound": self.bound,
            f"{prefix}mismatches_per_million": self.mismatches_per_million,
            f"{prefix}worst_index": list(self.worst_index),
            f"{prefix}worst_measured": self.worst_measured,
            f"{prefix}worst_expected": self.worst_expected,
        }

    def describe(self) -> str:
        """Return the error and the bound in words, and the worst element if out of bounds."""
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
    """Compare two arrays of the same shape, in float64.

    The relative tolerance scales with the largest expected magnitude, because a deep network
    spreads its rounding errors over the whole vector, regardless of the size of one element.
    An element that is not finite in either array is always out of bounds. Raises
    `ValidationError` if the shapes differ or the arrays are empty.
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

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from publisher.documents.report import Tolerance
from publisher.validation.report import Check, Comparison, Report, ValidationError, compare

Array = npt.NDArray[Any]


def apart(error: float, magnitude: float, tolerance: Tolerance) -> Comparison:
    """Compare a vector of `magnitude` with one that is `error` off in one small element."""
    expected = np.array([[0.0, magnitude, 0.0]])
    return compare(expected + np.array([[0.0, 0.0, error]]), expected, tolerance)


@pytest.mark.parametrize(
    ("tolerance", "error", "within"),
    [
        (Tolerance(absolute=0.5, relative=0.0), 0.5, True),
        (Tolerance(absolute=0.5, relative=0.0), 0.51, False),
        (
            Tolerance(absolute=0.0, relative=0.01),
            0.99,
            True,
        ),  # a hundredth of the largest, which is 100
        (Tolerance(absolute=0.0, relative=0.01), 1.01, False),
        (Tolerance(absolute=0.5, relative=0.01), 1.49, True),  # both parts add up
        (Tolerance(absolute=0.5, relative=0.01), 1.51, False),
        (Tolerance(absolute=0.0, relative=0.0), 0.0, True),
    ],
)
def test_a_tolerance_has_an_absolute_and_a_relative_part(
    tolerance: Tolerance, error: float, within: bool
) -> None:
    assert apart(error, 100.0, tolerance).within is within
    assert apart(-error, -100.0, tolerance).within is within


def test_equal_arrays_differ_by_nothing() -> None:
    comparison = compare(np.ones((2, 3)), np.ones((2, 3)), Tolerance(absolute=1e-4, relative=1e-4))
    assert comparison.largest_error == 0.0
    assert comparison.bound == pytest.approx(2e-4)
    assert comparison.mismatches_per_million == 0.0
    assert comparison.describe() == "largest error 0.0e+00, bound 2.0e-04"


def test_mismatches_are_counted_in_parts_per_million() -> None:
    expected = np.zeros((4, 250))
    measured = expected.copy()
    measured[1, [3, 5, 7]] = 1.0
    assert (
        compare(measured, expected, Tolerance(absolute=0.1, relative=0.0)).mismatches_per_million
        == 3000.0
    )


def test_the_worst_element_and_its_index_are_named() -> None:
    expected = np.zeros((2, 3, 4))
    measured = expected.copy()
    measured[0, 1, 1] = 2.0
    measured[1, 2, 3] = -5.0
    comparison = compare(measured, expected, Tolerance(absolute=0.1, relative=0.0))
    assert comparison.worst_index == (1, 2, 3)
    assert comparison.largest_error == 5.0
    assert "worst element [1, 2, 3] is -5 where 0 is expected" in comparison.describe()
    assert comparison.figures("at_") == {
        "at_largest_error": 5.0,
        "at_bound": 0.1,
        "at_mismatches_per_million": pytest.approx(2e6 / 24),
        "at_worst_index": [1, 2, 3],
        "at_worst_measured": -5.0,
        "at_worst_expected": 0.0,
    }


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (math.nan, 1.0),
        (math.inf, 1.0),
        (-math.inf, 1.0),
        (1.0, math.nan),
        (1.0, math.inf),
        (math.nan, math.nan),
        (math.inf, math.inf),  # alike, and yet no result
    ],
)
def test_an_element_that_is_not_finite_is_out(measured: float, expected: float) -> None:
    comparison = compare(
        np.array([1.0, 1.0, measured]),
        np.array([1.0, 1.0, expected]),
        Tolerance(absolute=1e3, relative=1e3),
    )
    assert not comparison.within
    assert comparison.worst_index == (2,)
    assert comparison.largest_error == math.inf
    assert math.isfinite(comparison.bound)
    assert comparison.mismatches_per_million == pytest.approx(1e6 / 3)


def test_float32_is_compared_in_float64() -> None:
    expected = np.array([1.0 + 2.0**-40])
    comparison = compare(
        np.array([1.0], np.float32), expected, Tolerance(absolute=0.0, relative=0.0)
    )
    assert comparison.largest_error == 2.0**-40


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ValidationError, match=r"shape \[1, 3\] where \[3, 1\] is expected"):
        compare(np.zeros((1, 3)), np.zeros((3, 1)), Tolerance(absolute=1.0, relative=1.0))


def test_arrays_without_elements_prove_nothing() -> None:
    with pytest.raises(ValidationError, match="no element to compare"):
        compare(np.zeros((0, 3)), np.zeros((0, 3)), Tolerance(absolute=1.0, relative=1.0))


def report(*checks: Check) -> Report:
    return Report(Tolerance(absolute=1e-4, relative=1e-5), checks)


def test_a_report_passes_unless_a_check_failed() -> None:
    passed, skipped = Check("a", "passed", ""), Check("b", "skipped", "not for this one")
    assert report(passed, skipped).passed
    assert report(passed, skipped).failure_summary() == ""
    assert not report(passed, skipped, Check("c", "failed", "")).passed


def test_a_complaint_is_one_line_with_the_first_failure_in_full() -> None:
    line = report(
        Check("fine", "passed", "nothing"),
        Check("parity", "failed", "largest error 3.0e-01,\nbound 1.0e-04"),
        Check("gradients", "failed", "2 without"),
        Check("labels", "failed", "a cat is a dog"),
    ).failure_summary()
    assert line == (
        "parity: largest error 3.0e-01, bound 1.0e-04 (failed as well: gradients, labels)"
    )


def test_a_report_as_json_holds_everything_but_tensors() -> None:
    check = Check("a", "failed", "off", {"error": 0.5, "index": [0, 3]}, {"images": np.ones(2)})
    assert report(check).document().as_json() == {
        "passed": False,
        "tolerance": {"absolute": 1e-4, "relative": 1e-5},
        "checks": [
            {
                "name": "a",
                "status": "failed",
                "summary": "off",
                "figures": {"error": 0.5, "index": [0, 3]},
            }
        ],
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_figures_that_are_not_finite_can_be_written_and_read_back(value: float) -> None:
    measured: Array = np.array([1.0, value])
    comparison = compare(measured, np.ones(2), Tolerance(absolute=1e-4, relative=1e-4))
    written = report(Check("a", "failed", "off", comparison.figures())).document().as_bytes()
    figures = json.loads(written)["checks"][0]["figures"]
    assert float(figures["largest_error"]) == math.inf
    np.testing.assert_equal(float(figures["worst_measured"]), value)
    assert figures["worst_index"] == [1]


def test_figures_keep_the_digits_that_every_machine_measures() -> None:
    # NumPy's matrix products on one thread, and on two.
    alone, together = (
        Check("parity", "passed", "", {"largest_error": error, "parameters": 236_335_208})
        for error in (6.802871870159599e-06, 6.802871870770222e-06)
    )
    assert alone.document() == together.document()
    assert alone.document().figures == {"largest_error": 6.8029e-06, "parameters": 236_335_208}

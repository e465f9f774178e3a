"""Checks that a checkpoint fits its architecture."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from publisher.weights.errors import WeightsError

LINES = 20  # problems of one kind that a message lists
CHUNK = 1 << 18  # elements at a time: a megabyte of float32, which fits the processor's cache
DTYPE = np.dtype("<f4")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class WeightsFigures:
    """Figures of a checkpoint: its numbers of arrays and parameters, and the extreme values."""

    arrays: int
    parameters: int
    smallest: float
    largest: float


def check_weights(
    arrays: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], label: str
) -> WeightsFigures:
    """Check `arrays` against the `expected` shapes. All must be float32, little-endian.

    `label` names the checkpoint in messages. Reads in chunks, so it copies no whole array.
    Raises one `WeightsError` that lists every array that is missing, unexpected, of the wrong
    shape or dtype, not finite, or constant.
    """
    missing = [name for name in expected if name not in arrays]
    extra = [name for name in arrays if name not in expected]
    present = {name: array for name, array in arrays.items() if name in expected}
    misshapen = [name for name, array in present.items() if array.shape != expected[name]]
    mistyped = [name for name, array in present.items() if array.dtype != DTYPE]
    ranges = {
        name: _range(array)
        for name, array in present.items()
        if array.dtype == DTYPE and array.size
    }
    # Minima and maxima propagate NaN, so two finite ends mean that all elements are finite.
    not_finite = [name for name, ends in ranges.items() if not np.isfinite(ends).all()]
    constant = [
        name for name, (low, high) in ranges.items() if low == high and arrays[name].size > 1
    ]

    def extra_line(name: str) -> str:
        nearest = difflib.get_close_matches(name, expected, n=1)
        return f"{name} (nearest expected name: {nearest[0]})" if nearest else name

    problems = [
        *_listed("missing", missing, str),
        *_listed("not expected", extra, extra_line),
        *_listed(
            "wrong shape",
            misshapen,
            lambda name: f"{name}: {arrays[name].shape}, expected {expected[name]}",
        ),
        *_listed(
            "wrong dtype",
            mistyped,
            lambda name: f"{name}: {arrays[name].dtype.str}, expected {DTYPE.str}",
        ),
        *_listed("not finite", not_finite, lambda name: f"{name}: {_not_finite(arrays[name])}"),
        *_listed("constant", constant, lambda name: f"{name}: all {ranges[name][0]}"),
    ]
    if problems:
        raise WeightsError(
            "\n".join(
                [
                    f"{label}: the weights do not fit their architecture.",
                    *problems,
                    "Use the file that models.yaml names for this checkpoint, or correct the "
                    "checkpoint's architecture and classes there.",
                ]
            )
        )
    return WeightsFigures(
        arrays=len(present),
        parameters=sum(array.size for array in present.values()),
        smallest=min((low for low, _ in ranges.values()), default=0.0),
        largest=max((high for _, high in ranges.values()), default=0.0),
    )


def _listed(kind: str, names: list[str], line: Callable[[str], str]) -> Iterator[str]:
    for name in names[:LINES]:
        yield f"  {kind}: {line(name)}"
    if len(names) > LINES:
        yield f"  {kind}: and {len(names) - LINES} more"


def _chunks(array: Array) -> Iterator[Array]:
    """Yield the elements in C order, as flat arrays of at most `CHUNK`."""
    # A mapping, because NumPy's stubs type these options differently in each version.
    options: dict[str, Any] = {
        "flags": ["external_loop", "buffered", "zerosize_ok"],
        "op_flags": ["readonly"],
        "order": "C",
        "buffersize": CHUNK,
    }
    iterator = np.nditer(array, **options)
    with iterator:
        yield from iterator


def _range(array: Array) -> tuple[float, float]:
    lows, highs = [], []
    with np.errstate(invalid="ignore"):
        for chunk in _chunks(array):
            lows.append(chunk.min())
            highs.append(chunk.max())
        return float(np.min(lows)), float(np.max(highs))


def _not_finite(array: Array) -> str:
    """Return in words how many elements are not finite, and the position of the first."""
    count, seen, first = 0, 0, 0
    for chunk in _chunks(array):
        bad = ~np.isfinite(chunk)
        here = int(bad.sum())
        if here and not count:
            first = seen + int(np.argmax(bad))
        count += here
        seen += chunk.size
    index = tuple(int(i) for i in np.unravel_index(first, array.shape))
    return f"{count} of {array.size} elements, the first at {index}"

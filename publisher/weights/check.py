"""Whether a checkpoint holds what its architecture needs, and nothing that spoils it."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from publisher.weights.errors import WeightsError

LINES = 20  # how many problems of one kind are listed
CHUNK = 1 << 18  # elements looked at together: a megabyte of float32, which caches hold
DTYPE = np.dtype("<f4")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class WeightsFigures:
    """What was measured: counts of arrays and parameters, and the extreme values."""

    arrays: int
    parameters: int
    smallest: float
    largest: float


def check_weights(
    arrays: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], label: str
) -> WeightsFigures:
    """Compare `arrays` with the `expected` shapes, all float32 little-endian.

    `label` names the checkpoint in messages. Works in chunks, without copies of
    whole arrays. Raises one `WeightsError` that lists by name everything missing,
    extra, misshapen, of another dtype, not finite, or constant.
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
    # NaN goes through minima and maxima, so the two ends speak for all elements.
    spoiled = [name for name, ends in ranges.items() if not np.isfinite(ends).all()]
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
        *_listed("not finite", spoiled, lambda name: f"{name}: {_spoiled(arrays[name])}"),
        *_listed("constant", constant, lambda name: f"{name}: all {ranges[name][0]}"),
    ]
    if problems:
        raise WeightsError(
            "\n".join(
                [
                    f"{label}: the weights do not fit their architecture.",
                    *problems,
                    "Use the file that the checkpoint in models.yaml means, or correct its "
                    "architecture and classes there.",
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
    # As a mapping, because NumPy's stubs describe these options differently in each version.
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


def _spoiled(array: Array) -> str:
    """Say how many elements are not finite, and where the first of them is."""
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

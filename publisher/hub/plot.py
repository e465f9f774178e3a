"""Lays out a plot of reported accuracy against size, for a template that draws it as SVG.

Coordinates are in SVG units, which are pixels at the SVG's natural width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SHAPES = ("circle", "square", "diamond", "triangle")  # distinguishable without colours
LINE = 15  # height of a label
LETTER = 6.6  # approximate width of a letter
_SMALLEST = 1e-6  # values closer than this count as equal


@dataclass(frozen=True)
class Point:
    """One reported figure: `x` is the model's size in bytes, `y` the figure."""

    label: str
    source: str
    x: float
    y: float


@dataclass(frozen=True)
class Mark:
    """A point as drawn; `series` is the index of its source."""

    x: float
    y: float
    series: int
    shape: str
    title: str


@dataclass(frozen=True)
class Label:
    """A text that starts at its position, or ends there if `anchor` is `end`."""

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True)
class Plot:
    """Everything to draw, and the plot's frame."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    marks: tuple[Mark, ...]
    labels: tuple[Label, ...]
    x_ticks: tuple[Label, ...]
    y_ticks: tuple[Label, ...]
    sources: tuple[tuple[str, str], ...]


def plot(points: Sequence[Point], width: int, height: int) -> Plot | None:
    """Return the layout of a plot of that size; `None` if there are no points."""
    if not points:
        return None
    left, right, top, bottom = 44.0, width - 12.0, 28.0, height - 40.0
    x_ticks = ticks(0, max(point.x for point in points) / 1e6, 5 if width > 500 else 3)
    y_ticks = ticks(min(point.y for point in points), max(point.y for point in points), 5)
    x_end = x_ticks[-1]
    y_start, y_range = y_ticks[0], y_ticks[-1] - y_ticks[0]

    def x_of(megabytes: float) -> float:
        return round(left + (right - left) * megabytes / x_end, 1)

    def y_of(value: float) -> float:
        return round(bottom - (bottom - top) * (value - y_start) / y_range, 1)

    sources = list(dict.fromkeys(point.source for point in points))
    marks = tuple(
        Mark(
            x_of(point.x / 1e6),
            y_of(point.y),
            (series := sources.index(point.source) % len(SHAPES)),
            SHAPES[series],
            f"{point.label}: {point.y:g} ({point.source})",
        )
        for point in points
    )
    named = {point.label: mark for point, mark in reversed(list(zip(points, marks, strict=True)))}
    return Plot(
        width,
        height,
        left,
        right,
        top,
        bottom,
        marks,
        _labels(named, left, right, bottom),
        tuple(Label(x_of(tick), bottom + 18, f"{tick:g}", "middle") for tick in x_ticks),
        tuple(Label(left - 8, y_of(tick), f"{tick:g}", "end") for tick in y_ticks),
        tuple((source, SHAPES[number % len(SHAPES)]) for number, source in enumerate(sources)),
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` evenly spaced round numbers that span `low` to `high`."""
    spans = (high - low, abs(high) * 0.1, 1.0)
    span = next(span for span in spans if span >= _SMALLEST)
    rough = span / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _labels(named: dict[str, Mark], left: float, right: float, bottom: float) -> tuple[Label, ...]:
    """Place each label beside its first mark, and move it down until it overlaps no other."""
    placed: list[tuple[float, float, float]] = []
    labels = []
    for text, mark in sorted(named.items(), key=lambda item: item[1].y):
        length = LETTER * len(text)
        before = mark.x + 10 + length > right
        start = max(mark.x - 10 - length, left) if before else mark.x + 10
        y = mark.y + 4
        while y < bottom and any(
            abs(y - other) < LINE and start < end and begin < start + length
            for begin, end, other in placed
        ):
            y += 1
        placed.append((start, start + length, y))
        labels.append(
            Label(round(start + length, 1), round(y, 1), text, "end")
            if before
            else Label(round(start, 1), round(y, 1), text)
        )
    return tuple(labels)

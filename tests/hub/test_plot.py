"""The plot's geometry."""

import itertools

import pytest

from publisher.hub.plot import LETTER, LINE, Label, Plot, Point, plot, ticks


def drawn(points: list[Point], width: int = 720) -> Plot:
    made = plot(points, width, 380)
    assert made is not None
    return made


def extent(label: Label) -> tuple[float, float]:
    length = LETTER * len(label.text)
    return (label.x - length, label.x) if label.anchor == "end" else (label.x, label.x + length)


def test_nothing_is_drawn_of_nothing() -> None:
    assert plot([], 720, 380) is None


def test_more_is_further_right_and_better_is_higher() -> None:
    made = drawn([Point("a", "s", 94e6, 80.5), Point("b", "s", 868e6, 84.3)])
    small, large = made.marks
    assert made.left < small.x < large.x < made.right
    assert made.top < large.y < small.y < made.bottom
    # Sizes are read from zero, so twice as far is twice as much.
    assert (large.x - made.left) / (small.x - made.left) == pytest.approx(868 / 94, rel=0.01)


def test_every_mark_lies_within_the_frame_and_between_its_ticks() -> None:
    points = [Point(f"{x} {y}", "s", x, y) for x in (1, 5e7, 9.99e8) for y in (0.1, 79.9, 100)]
    for width in (330, 720):
        made = drawn(points, width)
        for mark in made.marks:
            assert made.left <= mark.x <= made.right
            assert made.top <= mark.y <= made.bottom
        assert made.x_ticks[0].x == made.left
        assert made.x_ticks[-1].x == made.right


@pytest.mark.parametrize("value", [0.0, -3.0, 84.3, 1e9, 1e-300])
def test_one_point_alone_is_drawn(value: float) -> None:
    made = drawn([Point("a", "s", 0, value)])
    assert made.top <= made.marks[0].y <= made.bottom


def test_sources_are_told_apart_without_colours() -> None:
    points = [Point("a", f"source {number}", 1e6, 80 + number) for number in range(4)]
    made = drawn(points)
    assert len({mark.shape for mark in made.marks}) == 4
    assert [name for name, _ in made.sources] == [point.source for point in points]
    assert [shape for _, shape in made.sources] == [mark.shape for mark in made.marks]


def test_a_model_has_one_label_at_its_first_figure() -> None:
    made = drawn([Point("a", "s", 1e6, 84.0), Point("a", "t", 1e6, 80.0)])
    [label] = made.labels
    assert abs(label.y - made.marks[0].y) < LINE / 2


def test_labels_stay_within_the_plot_and_do_not_cover_each_other() -> None:
    points = [
        Point(f"R{number}x1, 224 px", "s", size, 83 + number / 100)
        for number, size in enumerate([9e6, 9e6, 9e6, 868e6, 868e6, 868e6])
    ]
    # One that is far off brings the others close to each other.
    points.append(Point("R9", "s", 400e6, 70))
    for width in (330, 720):
        labels = drawn(points, width).labels
        assert len(labels) == 7
        for label in labels:
            start, end = extent(label)
            assert start >= 0
            assert end <= width
        for one, other in itertools.combinations(labels, 2):
            apart = abs(one.y - other.y) >= LINE
            assert apart or extent(one)[1] <= extent(other)[0] or extent(other)[1] <= extent(one)[0]


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (80.5, 84.3, 5, [80, 81, 82, 83, 84, 85]),
        (0, 868.2, 5, [0, 200, 400, 600, 800, 1000]),
        (0, 0.0001, 5, [0, 0.00002, 0.00004, 0.00006, 0.00008, 0.0001]),
        (3, 3, 5, [3, 3.1]),
        (0, 0, 5, [0, 0.2]),
    ],
)
def test_ticks_are_round_and_hold_everything(
    low: float, high: float, count: int, expected: list[float]
) -> None:
    assert ticks(low, high, count) == pytest.approx(expected)

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.figures import FIGURES, Figure, Samples, reached


@pytest.fixture
def results() -> dict[str, Any]:
    figures = {
        "convert-R50x1": {"baseline": [35.0, 36.1, 37.2], "ours": [5.0, 5.0, 6.2]},
        "convert-R152x2": {"baseline": [106.0], "ours": [14.8]},
        "memory-one": {"baseline": [3.9e9], "ours": [2.2e9]},
        "latency-R50x1": {"baseline": [0.2, 0.16], "ours": [0.12, 0.12]},
        "throughput-8": {"baseline": [5.0, 4.0], "ours": [8.0, 8.0]},
        "error-R50x1": {"baseline": [6.6e-5], "ours": [2.4e-5]},
        "memory-predict": {"baseline": [2e9], "ours": [8e8]},
        "onnx-folded": {"folded": [0.05], "ours": [0.054]},
        "nothing": {"ours": [0.4]},
    }
    machine = {"cpu": "A CPU", "cores": 2, "memory": 24 * 2**30, "system": "Linux x86_64"}
    versions = {"python": "3.11.7", "tensorflow": "2.21.0"}
    results = {
        "measured": "2030-01-02",
        "machine": machine,
        "versions": versions,
        "figures": figures,
        "limits": {"deflate": 2.0, "sha256": 1.0, "convolutions-R50x1": 0.06},
        "probes": [],
    }
    return dict(json.loads(json.dumps(results)))


def row(text: str, key: str) -> list[str]:
    """Return the cells of a figure's line in the table."""
    (title,) = (figure.title for figure in FIGURES if figure.key == key)
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.mark.parametrize(
    ("key", "cells"),
    [
        (
            "convert-R50x1",
            [
                "36.1 s (35.0 to 37.2)",
                "5.00 s (5.00 to 6.20)",
                "7.0x (6.0 to 7.2)",
                "at least 6x",
                "yes",
            ],
        ),
        ("convert-R152x2", ["106 s", "14.8 s", "7.2x", "at least 9x", "**no**"]),
        ("memory-one", ["3.90 GB", "2.20 GB", "0.56", "at most 2.3 GB", "yes"]),
        (
            "latency-R50x1",
            [
                "180 ms (160 to 200)",
                "120 ms (120 to 120)",
                "0.68 (0.60 to 0.75)",
                "at most 0.75",
                "yes",
            ],
        ),
        (
            "throughput-8",
            [
                "4.5 /s (4.0 to 5.0)",
                "8.0 /s (8.0 to 8.0)",
                "1.8x (1.6 to 2.0)",
                "at least 1.5x",
                "yes",
            ],
        ),
        ("error-R50x1", ["6.6e-05", "2.4e-05", "0.36", "at most 0.5", "yes"]),
        ("memory-predict", ["2.00 GB", "800 MB", "0.40", "", ""]),
        ("onnx-folded", ["folded: 50 ms", "54 ms", "1.08", "at most 1.1", "yes"]),
        ("nothing", ["", "400 ms", "", "at most 1 s", "yes"]),
    ],
)
def test_table_has_a_line_a_figure(results: dict[str, Any], key: str, cells: list[str]) -> None:
    assert row(report.table(results), key) == cells


def test_table_says_what_was_not_measured(results: dict[str, Any]) -> None:
    (line,) = (line for line in report.table(results).splitlines() if line.startswith("Not"))
    assert "all eight variants, finished" in line
    assert "nothing to do" not in line


def test_table_says_whether_the_machine_was_at_rest(results: dict[str, Any]) -> None:
    results["probes"] = [{"process": {"others": 0.1}}] * 3
    assert "disturbed" not in report.table(results)
    results["probes"].append({"process": {"others": 0.9}})
    assert "Other programs disturbed 1 of 4 measurements." in report.table(results)


@pytest.mark.parametrize(
    ("kind", "target", "baseline", "ours", "expected"),
    [
        ("faster", 6, [6.0], [1.0], True),
        ("faster", 6, [5.9], [1.0], False),
        # The median of the pairs' ratios, not the ratio of the medians.
        ("faster", 6, [60.0, 6.0, 1.0], [1.0, 1.0, 1.0], True),
        ("more", 1.5, [2.0], [3.0], True),
        ("more", 1.5, [2.0], [2.9], False),
        ("share", 0.5, [2.0], [1.0], True),
        ("share", 0.5, [2.0], [1.1], False),
        ("most", 1, [], [1.0], True),
        ("most", 1, [], [1.1], False),
        ("share", None, [2.0], [1.0], None),
        ("faster", 6, [], [1.0], None),
        ("most", 1, [], [], None),
    ],
)
def test_reached(
    kind: Any, target: float | None, baseline: list[float], ours: list[float], expected: bool | None
) -> None:
    figure = Figure("key", "title", "s", kind, target)
    assert reached(figure, Samples(baseline, ours)) is expected


def test_plot_shows_each_figure_that_stands_beside_the_baseline(
    results: dict[str, Any], tmp_path: Path
) -> None:
    report.write(results, tmp_path)
    image = ElementTree.parse(tmp_path / "results.svg").getroot()  # noqa: S314  our own
    words = {element.text for element in image.iter() if element.text}
    titles = {figure.key: figure.title for figure in FIGURES}
    shown = {key for key, title in titles.items() if title in words}
    assert shown == results["figures"].keys() - {"nothing", "onnx-folded"}
    assert {"7.0x", "7.2x", "1.8x", "1.5x", "2.8x", "2.5x"} <= words


def test_writes_the_same_bytes_again(results: dict[str, Any], tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        report.write(results, tmp_path / name)
    for file in ("results.md", "results.svg"):
        first, second = (tmp_path / name / file for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_pages_get_their_tables_between_their_marks(
    results: dict[str, Any], tmp_path: Path
) -> None:
    readme, performance = tmp_path / "README.md", tmp_path / "performance.md"
    readme.write_text("before\n<!-- benchmarks -->\nstale\n<!-- /benchmarks -->\nafter\n")
    performance.write_text("before\n<!-- limits -->\nstale\n<!-- /limits -->\nafter\n")
    report.write_pages(results, readme, performance)
    once = readme.read_text(), performance.read_text()
    report.write_pages(results, readme, performance)
    assert (readme.read_text(), performance.read_text()) == once
    assert once[0].startswith(f"before\n<!-- benchmarks -->\n\n{report.table(results)}")
    assert "](benchmarks/results.svg)\n\n<!-- /benchmarks -->\nafter\n" in once[0]
    limits = report.limits_table(results)
    assert once[1] == f"before\n<!-- limits -->\n\n{limits}\n<!-- /limits -->\nafter\n"
    assert "stale" not in "".join(once)


@pytest.mark.parametrize("text", ["nothing here\n", "<!-- benchmarks -->\nno end\n"])
def test_a_page_without_both_marks_is_left_alone(
    text: str, results: dict[str, Any], tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    report.write_pages(results, readme, tmp_path / "not_there.md")
    assert readme.read_text() == text
    assert not (tmp_path / "not_there.md").exists()


def test_limits_stand_beside_what_was_measured(results: dict[str, Any]) -> None:
    results["figures"]["archive"] = {"baseline": [37.0], "ours": [3.0, 2.4]}
    lines = report.limits_table(results).splitlines()[2:]
    words = "deflating and writing, in the same two threads"
    assert lines[0] == f"| archive of R152x2@384 | 2.70 s | {words} | 2.00 s | 1.4 |"
    assert lines[1].endswith("| 120 ms | the convolutions alone | 60 ms | 2.0 |")
    assert lines[2:] == [  # nothing is said where one of the two was not measured
        "",
        "The weights of R152x2, once: read and hashed (SHA-256) 1.00 s,"
        " deflated and written, in two threads 2.00 s.",
    ]

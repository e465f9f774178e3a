"""Writes the samples as tables and a plot."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

from benchmarks.figures import (
    AT_LEAST,
    DISTURBED,
    FIGURES,
    LIMITS,
    Figure,
    Samples,
    Unit,
    reached,
    samples_of,
)
from publisher.util.files import write_whole

Results = Mapping[str, Any]

# Distinguishable and legible on white and on black pages.
REACHED, MISSED, NEUTRAL, INK = "#3b8ea5", "#d1762c", "#8a8f98", "#7a7f87"
PLOT_SETTINGS: Any = {
    # Without a fixed salt, every file gets other identifiers.
    "svg.hashsalt": "benchmarks",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
# The keys of `limits.of_bytes`, in words.
BYTES = (
    ("read", "read"),
    ("crc32c", "read and summed (CRC-32C)"),
    ("sha256", "read and hashed (SHA-256)"),
    ("write", "read and written"),
    ("deflate", "deflated and written, in two threads"),
    ("inflate", "inflated by zlib"),
)
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100)


def write(results: Results, folder: Path) -> None:
    """Write `results.md` and `results.svg` to `folder`. Equal results give equal bytes."""
    content = f"{table(results)}\n{limits_table(results)}"
    write_whole(folder / "results.md", content.encode())
    draw(results, folder / "results.svg")


def write_pages(results: Results, readme: Path, performance: Path) -> None:
    """Update the table and the plot in README, and the table of limits on the performance page.

    They stand between the markers `<!-- benchmarks -->` and `<!-- /benchmarks -->`, and
    `<!-- limits -->` and `<!-- /limits -->`, each on its own line.
    """
    plot = "![How many times better than the notebook's route](benchmarks/results.svg)"
    write_marked(readme, "benchmarks", f"{table(results)}\n{plot}\n")
    write_marked(performance, "limits", limits_table(results))


def write_marked(page: Path, mark: str, content: str) -> None:
    """Replace the content between two markers of a page. Ignores a page without them."""
    if not page.exists():
        return
    text = page.read_text()
    marked = re.compile(rf"(?<=<!-- {mark} -->\n).*?(?=<!-- /{mark} -->)", re.DOTALL)
    replaced = marked.sub(lambda _: f"\n{content}\n", text)
    if replaced != text:
        write_whole(page, replaced.encode())


def table(results: Results) -> str:
    """Return the Markdown table of all figures, preceded by the machine and the versions."""
    lines = [
        _measured_on(results),
        "",
        "| | notebook's route | this project | ratio | target | reached |",
        "|---|--:|--:|--:|--:|---|",
    ]
    missing = []
    for figure in FIGURES:
        samples = samples_of(results["figures"], figure.key)
        if not samples.ours:
            missing.append(figure.title)
            continue
        verdict = {True: "yes", False: "**no**", None: ""}[reached(figure, samples)]
        cells = [
            figure.title,
            _other(figure, samples),
            _spread(samples.ours, figure.unit),
            _ratio(figure, samples),
            _target(figure),
            verdict,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    loads = [probe["process"]["others"] for probe in results["probes"]]
    disturbed = sum(load > DISTURBED for load in loads)
    if disturbed:
        lines += ["", f"Other programs disturbed {disturbed} of {len(loads)} measurements."]
    if missing:
        lines += ["", f"Not measured: {'; '.join(missing)}."]
    return "\n".join(lines) + "\n"


def limits_table(results: Results) -> str:
    """Return the Markdown table that compares figures with the unavoidable work in them."""
    lines = [
        "| | takes | the minimum work | takes | times |",
        "|---|--:|---|--:|--:|",
    ]
    titles = {figure.key: figure.title for figure in FIGURES}
    measured = results["limits"]
    for limit in LIMITS:
        samples = samples_of(results["figures"], limit.figure)
        if not samples.ours or not all(key in measured for key in limit.work):
            continue
        takes = median(samples.ours)
        least = sum(measured[key] for key in limit.work)
        cells = [
            titles[limit.figure],
            _spread([takes], "s"),
            limit.words,
            _spread([least], "s"),
            f"{takes / least:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    once = [f"{words} {_spread([measured[key]], 's')}" for key, words in BYTES if key in measured]
    if once:
        lines += ["", f"The weights of R152x2, once: {', '.join(once)}."]
    return "\n".join(lines) + "\n"


def _measured_on(results: Results) -> str:
    machine, versions = results["machine"], results["versions"]
    return (
        "Synthetic weights of full size; medians, in brackets the smallest and the largest"
        f" sample; {results['measured']},"
        f" {machine_words(machine)}, Python {versions['python']},"
        f" TensorFlow {versions['tensorflow']}."
    )


def machine_words(machine: Mapping[str, Any]) -> str:
    """Return one line that describes a machine."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory'] / 2**30:.0f} GiB,"
        f" {machine['system']}"
    )


def _spread(values: Sequence[float], unit: Unit) -> str:
    """Return the median and the extremes, in the median's unit: `36.1 s (35.0 to 37.2)`."""
    if not values:
        return ""
    middle = median(values)
    scale, name, digits = _scale(middle, unit)
    shown = [
        f"{value / scale:.1e}" if unit == "1" else f"{value / scale:.{digits}f}"
        for value in (middle, min(values), max(values))
    ]
    text = f"{shown[0]} {name}".strip()
    return text if len(values) == 1 else f"{text} ({shown[1]} to {shown[2]})"


def _other(figure: Figure, samples: Samples) -> str:
    """Return the samples that ours are compared with. Names their side if not the baseline."""
    words = _spread(samples.baseline, figure.unit)
    return words if samples.beside == "baseline" else f"{samples.beside}: {words}"


def _scale(value: float, unit: Unit) -> tuple[float, str, int]:
    """Return the divisor, the name and the number of decimals of the unit to display."""
    if unit == "B":
        return (1e9, "GB", 2) if value >= 1e9 else (1e6, "MB", 0)
    if unit == "1":
        return 1.0, "", 0
    if unit == "1/s":
        return 1.0, "/s", 1 if value < 100 else 0
    if value < 1:
        return 1e-3, "ms", 0
    return 1.0, "s", 2 if value < 10 else 1 if value < 100 else 0


def _ratio(figure: Figure, samples: Samples) -> str:
    ratios = samples.ratios(figure.kind)
    if not ratios:
        return ""
    digits, sign = (1, "x") if figure.kind in AT_LEAST else (2, "")
    middle = f"{median(ratios):.{digits}f}{sign}"
    if len(ratios) == 1:
        return middle
    return f"{middle} ({min(ratios):.{digits}f} to {max(ratios):.{digits}f})"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    if figure.kind in AT_LEAST:
        return f"at least {figure.target:g}x"
    if figure.kind == "share":
        return f"at most {figure.target:g}"
    value = f"{figure.target / 1e9:g} GB" if figure.unit == "B" else f"{figure.target:g} s"
    return f"at most {value}"


def draw(results: Results, target: Path) -> None:
    """Plot how many times better than the baseline each figure is, and its target."""
    measured = [(figure, samples_of(results["figures"], figure.key)) for figure in FIGURES]
    rows = [
        (figure, samples)
        for figure, samples in measured
        if samples.beside == "baseline" and samples.times(figure.kind)
    ]
    with matplotlib.rc_context(PLOT_SETTINGS):
        canvas = Canvas(figsize=(9, 0.9 + 0.32 * max(len(rows), 1)), layout="constrained")
        axes = canvas.subplots()
        axes.set_xscale("log")
        largest = 1.0
        for row, (figure, samples) in enumerate(rows):
            times = samples.times(figure.kind)
            target_ratio = _target_ratio(figure, samples)
            colour = {True: REACHED, False: MISSED, None: NEUTRAL}[reached(figure, samples)]
            middle = median(times)
            axes.barh(row, middle - 1, left=1, height=0.5, color=colour)
            axes.plot([min(times), max(times)], [row, row], color=INK, linewidth=1)
            end = max(*times, middle, target_ratio or 1, 1)
            axes.annotate(
                f"{middle:.1f}x",
                (end, row),
                xytext=(6, 0),
                textcoords="offset points",
                verticalalignment="center",
            )
            if target_ratio:
                ends = [row - 0.42, row + 0.42]
                axes.plot([target_ratio, target_ratio], ends, color=INK, linewidth=2.5)
            largest = max(largest, end)
        axes.axvline(1, color=INK, linewidth=0.8)
        ticks = [tick for tick in TICKS if tick <= 1.6 * largest]
        axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(0.5, 1.6 * largest)
        axes.set_yticks(range(len(rows)), [figure.title for figure, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlabel("times better than the notebook's route; the upright marks are targets")
        canvas.savefig(target, transparent=True, metadata={"Date": None})


def _target_ratio(figure: Figure, samples: Samples) -> float | None:
    """Return the target as a ratio to the baseline, as `Samples.times` does."""
    if figure.target is None:
        return None
    if figure.kind in AT_LEAST:
        return figure.target
    return 1 / figure.target if figure.kind == "share" else median(samples.baseline) / figure.target

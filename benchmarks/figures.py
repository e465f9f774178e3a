"""The figures to measure, and their targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

# The meaning of a target t:
# faster: at most 1/t of the baseline's seconds;
# more:   at least t times the baseline's value;
# share:  at most t times the baseline's value;
# most:   at most t, whatever the baseline's value is.
Kind = Literal["faster", "more", "share", "most"]
Unit = Literal["s", "B", "1", "1/s"]

# The kinds whose ratio must be at least the target.
AT_LEAST: tuple[Kind, ...] = ("faster", "more")

# A measurement is disturbed if other programs kept more cores than this busy.
DISTURBED = 0.2


@dataclass(frozen=True)
class Figure:
    """One line of the table. A `target` of `None` means that there is no target.

    A figure with "beside folded" in its title is compared with this project's folded form instead
    of the baseline.
    """

    key: str
    title: str
    unit: Unit
    kind: Kind
    target: float | None


FIGURES = (
    Figure("convert-R50x1", "convert R50x1@224, whole process", "s", "faster", 6),
    Figure("convert-R152x2", "convert R152x2@384, whole process", "s", "faster", 9),
    Figure("all", "all eight variants, finished", "s", "faster", 10),
    Figure("memory-one", "all eight: peak memory of any one process", "B", "most", 2.3e9),
    Figure("memory-at-once", "all eight: peak memory in all", "B", "most", 4.5e9),
    Figure("archive", "archive of R152x2@384", "s", "faster", 15),
    Figure("archive-size", "archive of R152x2@384, size", "B", "share", 1),
    Figure("load-R50x1", "hub.load, R50x1", "s", "faster", 6),
    Figure("load-R152x2", "hub.load, R152x2", "s", "faster", 8),
    Figure("latency-R50x1", "latency at batch 1, R50x1@224", "s", "share", 0.75),
    Figure("latency-R152x2", "latency at batch 1, R152x2@384", "s", "share", 0.8),
    Figure("folded-R50x1", "latency, folded, R50x1@224", "s", "share", 0.62),
    Figure("folded-R152x2", "latency, folded, R152x2@384", "s", "share", 0.68),
    Figure("throughput-8", "images a second, R50x1, 8 at 224", "1/s", "more", 1.5),
    Figure("throughput-32", "images a second, R50x1, 32 at 224", "1/s", "more", 1.5),
    Figure("folded-throughput-8", "images a second, folded, R50x1, 8 at 224", "1/s", "more", 1.5),
    Figure("folded-throughput-32", "images a second, folded, R50x1, 32 at 224", "1/s", "more", 1.5),
    Figure("error-R50x1", "largest error against float64, R50x1@224", "1", "share", 0.5),
    Figure("error-R152x2", "largest error against float64, R152x2@384", "1", "share", 0.2),
    Figure("gradient-R50x1", "first gradient step, R50x1, 4 at 224", "s", "share", 0.6),
    Figure("gradient-R152x2", "first gradient step, R152x2, 1 at 128", "s", "share", 0.6),
    Figure("memory-predict", "peak memory to load and predict, R152x2@384", "B", "share", None),
    Figure("memory-gradient", "peak memory of that gradient step, R50x1", "B", "share", None),
    Figure("memory-loads", "memory after 20 loads (--quick: 5), R50x1", "B", "share", 1),
    Figure("onnx-latency", "latency in ONNX Runtime, R50x1@160", "s", "share", 1),
    Figure("tflite-latency", "latency in TFLite, R50x1@160", "s", "share", 1),
    Figure("openvino-latency", "latency in OpenVINO, R50x1@160", "s", "share", 1),
    Figure("tflite-quantized", "size for TFLite, quantized, R50x1", "B", "share", 1),
    Figure("onnx-folded", "latency in ONNX Runtime, R50x1@160, beside folded", "s", "share", 1.1),
    Figure("tflite-folded", "latency in TFLite, R50x1@160, beside folded", "s", "share", 1.1),
    Figure("openvino-folded", "latency in OpenVINO, R50x1@160, beside folded", "s", "share", 1.1),
    Figure("onnx-size-folded", "size for ONNX Runtime, R50x1, beside folded", "B", "share", 1.1),
    Figure("tflite-size-folded", "size for TFLite, R50x1, beside folded", "B", "share", 1.1),
    Figure("openvino-size-folded", "size for OpenVINO, R50x1, beside folded", "B", "share", 1.1),
    Figure("nothing", "nothing to do", "s", "most", 1),
)


@dataclass(frozen=True)
class Limit:
    """A figure, and the work in it that no implementation can avoid.

    `work` are keys of the measured limits, whose seconds add up.
    """

    figure: str
    words: str
    work: tuple[str, ...]


LIMITS = (
    Limit("convert-R152x2", "reading, summing and writing the weights", ("crc32c", "write")),
    Limit("archive", "deflating and writing, in the same two threads", ("deflate",)),
    Limit("load-R152x2", "reading and summing the weights", ("crc32c",)),
    Limit("latency-R50x1", "the convolutions alone", ("convolutions-R50x1",)),
    Limit("folded-R50x1", "the convolutions alone", ("convolutions-R50x1",)),
    Limit("latency-R152x2", "the convolutions alone", ("convolutions-R152x2",)),
    Limit("folded-R152x2", "the convolutions alone", ("convolutions-R152x2",)),
)


@dataclass(frozen=True)
class Samples:
    """The samples of one figure, in pairs; `baseline` may be empty.

    `beside` names the side that `baseline` holds: `baseline`, or `folded` for this project's
    folded form.
    """

    baseline: Sequence[float]
    ours: Sequence[float]
    beside: str = "baseline"

    def ratios(self, kind: Kind) -> list[float]:
        """Return each pair's ratio: how many times better ours is, or its share of theirs."""
        return self.times(kind) if kind in AT_LEAST else [o / b for b, o in self._pairs()]

    def times(self, kind: Kind) -> list[float]:
        """Return for each pair how many times better ours is than the baseline."""
        return [o / b if kind == "more" else b / o for b, o in self._pairs()]

    def _pairs(self) -> list[tuple[float, float]]:
        return list(zip(self.baseline, self.ours, strict=False))  # the run may have stopped early


def reached(figure: Figure, samples: Samples) -> bool | None:
    """Return whether the median reaches the target; `None` without a target or samples."""
    values = samples.ours if figure.kind == "most" else samples.ratios(figure.kind)
    if figure.target is None or not values:
        return None
    middle = median(values)
    return middle >= figure.target if figure.kind in AT_LEAST else middle <= figure.target


def samples_of(results: Mapping[str, Mapping[str, Sequence[float]]], key: str) -> Samples:
    """Return the samples of one figure from the `figures` of a results file."""
    sides = results.get(key, {})
    beside = "folded" if "folded" in sides else "baseline"
    return Samples(sides.get(beside, ()), sides.get("ours", ()), beside)

"""Other makers' converters and runtimes, as the benchmarks use them."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import probe, runtimes

CALLED = [name for name, runtime in runtimes.RUNTIMES.items() if runtime.load]


class Doubled:
    """Stands for a converted model: it answers twice the mean of an image, and a bit more."""

    def __init__(self, folder: Path) -> None:
        self._more = float((folder / "model").read_text())

    def __call__(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return 2 * images.mean((1, 2)) + self._more


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> str:
    """A runtime for which a SavedModel is only copied."""

    def convert(directory: Path, folder: Path) -> None:
        (folder / "model").write_bytes((directory / "model").read_bytes())

    monkeypatch.setitem(runtimes.RUNTIMES, "fake", runtimes.Runtime(convert, Doubled))
    return "fake"


def test_converted_models_are_called_in_turn_and_compared(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    folders = {}
    for name, more in (("one", "1000.0"), ("other", "1010.0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model").write_text(more)
        folders[name] = str(tmp_path / f"converted-{name}")
        answer = probe.convert_on(runtime, str(tmp_path / name), folders[name])
        assert answer == {"size": 6}
    found = probe.runtime_latency(runtime, folders, resolution=8, seed=0, calls=3)
    assert {name: len(seconds) for name, seconds in found["calls"].items()} == {
        "one": 3,
        "other": 3,
    }
    assert found["apart"] == pytest.approx(10 / 1010, rel=1e-3)
    assert pauses == [probe.PAUSE] * 2 * (1 + probe.WARM_UP + 3)  # before each call


def test_what_nothing_calls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tflite-quantized: converts models but cannot run"):
        probe.runtime_latency("tflite-quantized", {}, resolution=8, seed=0, calls=1)


def convert_and_call(runtime: str, classifier: Path, folder: Path) -> int:
    """Return the bytes of a model that was converted, and called if its runtime does so."""
    size = probe.convert_on(runtime, str(classifier), str(folder))["size"]
    if runtime in CALLED:
        answer = probe.runtime_latency(runtime, {"one": str(folder)}, 32, 0, 1)
        assert (list(answer["calls"]), answer["apart"]) == (["one"], 0.0)
    return size


def test_tflite_takes_a_model(classifier: Path, tmp_path: Path) -> None:
    """What TensorFlow brings is everywhere."""
    whole = convert_and_call("tflite", classifier, tmp_path / "whole")
    quantized = convert_and_call("tflite-quantized", classifier, tmp_path / "quantized")
    assert quantized < whole / 2


@pytest.mark.clients
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_other_makers_take_a_model(
    runtime: str, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    weights = sum(path.stat().st_size for path in (classifier / "variables").iterdir())
    size = convert_and_call(runtime, classifier, tmp_path / "converted")
    assert size == pytest.approx(weights, rel=0.2)

import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from benchmarks import probe, run
from benchmarks.figures import FIGURES, LIMITS
from benchmarks.measure import BenchmarkError, Measured


def a_bench(quick: bool = False) -> run.Bench:
    return run.Bench(run.load_registry(Path(__file__).parents[2] / run.REGISTRY), quick)


def test_every_figure_comes_of_a_step() -> None:
    measured = {key for step in run.STEPS for key in step.figures}
    assert measured == {figure.key for figure in FIGURES} | {"limits"}


def test_every_limit_is_of_a_figure() -> None:
    assert {limit.figure for limit in LIMITS} <= {figure.key for figure in FIGURES}


def test_turns_change_the_order_from_pair_to_pair() -> None:
    assert list(run.turns(3)) == [
        (0, "baseline"),
        (0, "ours"),
        (1, "ours"),
        (1, "baseline"),
        (2, "baseline"),
        (2, "ours"),
    ]


def test_a_folded_model_is_held_to_the_baseline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its latency stands in a figure of its own, and in no other."""
    monkeypatch.setattr(run, "WORK", tmp_path)
    converted: list[str] = []
    latencies = {"baseline": 4.0, "ours": 3.0, "folded": 2.0}

    def answer(bench: run.Bench, task: str, about: Any, **arguments: Any) -> dict[str, Any]:
        if task == "convert":
            converted.append(arguments["side"])
            return {}
        assert task == "latency"
        directories = arguments["directories"]
        assert {Path(path).parent.name for path in directories.values()} == set(directories)
        calls = {side: [9.0, latencies[side], 1.0] for side in directories}
        return {"calls": {**calls, "convolutions": [1.5]}}

    monkeypatch.setattr(run.Bench, "probe", answer)
    bench = a_bench()
    run.measure_latency(bench, run.SMALL)
    count = run.SMALL.predicts
    assert converted == ["baseline", "ours", "folded"]
    assert bench.figures["folded-R50x1"] == {"baseline": [4.0] * count, "ours": [2.0] * count}
    assert bench.figures["latency-R50x1"] == {"baseline": [4.0] * count, "ours": [3.0] * count}
    assert bench.limits == {"convolutions-R50x1": 1.5}


@pytest.mark.parametrize(("side", "folded"), [("ours", False), ("folded", True)])
def test_the_probe_converts_a_folded_model_as_one(
    side: str, folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        "publisher.build.workers.convert", lambda *_, **arguments: given.update(arguments)
    )
    probe.convert(side, "weights.npz", "R50x1", "classifier", "saved_model")
    assert given["folded"] is folded


def test_models_are_called_in_turn(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time the other way round, so that none always comes after the same other."""
    loaded = probe._loaded
    called: list[str] = []

    def watched(directory: str) -> tuple[Any, float]:
        model, seconds = loaded(str(classifier))

        def call(images: Any, training: bool) -> Any:
            called.append(directory)
            return model(images, training=training)

        return call, seconds

    monkeypatch.setattr(probe, "_loaded", watched)
    directories = {"one": "1", "other": "2"}
    found = probe.latency(directories, resolution=32, seed=0, calls=3, architecture="R20x0.5")[
        "calls"
    ]
    assert list(found) == ["one", "other", "convolutions"]
    assert [len(seconds) for seconds in found.values()] == [3, 3, 3]
    assert all(second > 0 for seconds in found.values() for second in seconds)
    assert "".join(called) == "211221122112"  # half of it before any is counted


def test_models_are_called_on_batches(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else is: the convolutions alone are of one image."""
    loaded = probe._loaded
    shapes: list[tuple[int, ...]] = []

    def watched(directory: str) -> tuple[Any, float]:
        model, seconds = loaded(directory)

        def call(images: Any, training: bool) -> Any:
            shapes.append(tuple(images.shape))
            return model(images, training=training)

        return call, seconds

    monkeypatch.setattr(probe, "_loaded", watched)
    answer = probe.latency({"one": str(classifier)}, resolution=32, seed=0, calls=1, batch=3)
    assert {name: len(seconds) for name, seconds in answer["calls"].items()} == {"one": 1}
    assert set(shapes) == {(3, 32, 32, 3)}


def test_throughput_is_images_a_second_call_by_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "model", lambda bench, side, case: Path(side))
    calls = {"baseline": [4.0, 8.0], "ours": [2.0, 4.0], "folded": [1.0, 2.0]}

    def answer(bench: run.Bench, task: str, about: Any, **arguments: Any) -> dict[str, Any]:
        assert (task, arguments["batch"]) == ("latency", 32)
        assert arguments["directories"] == {side: side for side in calls}
        return {"calls": calls}

    monkeypatch.setattr(run.Bench, "probe", answer)
    bench = a_bench()
    run.measure_throughput(bench, 32)
    assert bench.figures == {
        "throughput-32": {"baseline": [8.0, 4.0], "ours": [16.0, 8.0]},
        "folded-throughput-32": {"baseline": [8.0, 4.0], "ours": [32.0, 16.0]},
    }


@pytest.mark.parametrize(("quick", "count"), [(False, 20), (True, 5)])
def test_memory_after_loads_is_what_stays_after_the_last(
    quick: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "model", lambda bench, side, case: Path(side))
    resident = {"baseline": [1, 10, 17], "ours": [1, 5, 4]}

    def answer(bench: run.Bench, task: str, about: Any, **arguments: Any) -> dict[str, Any]:
        assert (task, arguments["count"]) == ("loads", count)
        return {"resident": resident[arguments["directory"]]}

    monkeypatch.setattr(run.Bench, "probe", answer)
    bench = a_bench(quick)
    run.measure_loads(bench)
    assert bench.figures == {"memory-loads": {"baseline": [17], "ours": [4]}}


def test_a_model_is_let_go_before_it_is_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        """Refers to itself, as loaded models do."""

        def __init__(self) -> None:
            self.itself = self

    alive: weakref.WeakSet[Model] = weakref.WeakSet()
    found = []

    def loaded(directory: str) -> tuple[Model, float]:
        found.append(len(alive))
        model = Model()
        alive.add(model)
        return model, 0.0

    monkeypatch.setattr(probe, "_loaded", loaded)
    resident = probe.loads("directory", 3)["resident"]
    assert found == [0, 0, 0]
    assert len(resident) == 3
    assert min(resident) > 0


RUNTIME_CALLS = {"baseline": [4.0], "ours": [2.1, 2.2, 2.3], "folded": [2.0]}


def converted_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, apart: float) -> list[Any]:
    """Let probes answer for a runtime, and return what they are asked."""
    monkeypatch.setattr(run, "WORK", tmp_path)
    monkeypatch.setattr(run, "model", lambda bench, side, case: Path(side))
    sizes = {"baseline": 90, "ours": 60, "folded": 50}
    asked: list[Any] = []

    def answer(
        bench: run.Bench, task: str, about: Any, *, client: bool, **arguments: Any
    ) -> dict[str, Any]:
        assert client
        asked.append((task, arguments))
        if task == "convert_on":
            Path(arguments["folder"]).mkdir()
            return {"size": sizes[arguments["directory"]]}
        assert [Path(folder).name for folder in arguments["folders"].values()] == list(sizes)
        assert all(Path(folder).is_dir() for folder in arguments["folders"].values())
        return {"calls": RUNTIME_CALLS, "apart": apart}

    monkeypatch.setattr(run.Bench, "probe", answer)
    return asked


def test_a_converted_model_is_held_to_the_baseline_and_to_the_folded_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = converted_models(monkeypatch, tmp_path, apart=1e-5)
    bench = a_bench()
    run.measure_runtime(bench, "onnx")
    count = run.CONVERTED_PROCESSES
    assert [task for task, _ in asked] == ["convert_on"] * 3 + ["runtime_latency"] * count
    assert [arguments["seed"] for _, arguments in asked[3:]] == list(range(count))
    assert bench.figures == {
        "onnx-latency": {"baseline": [4.0] * count, "ours": [2.2] * count},
        "onnx-folded": {"folded": [2.0] * count, "ours": [2.2] * count},
        "onnx-size-folded": {"folded": [50], "ours": [60]},
    }
    assert not list((tmp_path / "converted").iterdir())


def test_converted_models_have_to_agree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    converted_models(monkeypatch, tmp_path, apart=0.1)
    bench = a_bench()
    with pytest.raises(
        BenchmarkError, match=r"onnx: the outputs of the converted models differ by 1\.0e-01"
    ):
        run.measure_runtime(bench, "onnx")
    assert "onnx-latency" not in bench.figures


def test_a_quantized_model_is_held_to_the_baseline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = converted_models(monkeypatch, tmp_path, apart=0.0)
    bench = a_bench()
    run.measure_quantized(bench)
    assert {arguments["runtime"] for _, arguments in asked} == {"tflite-quantized"}
    assert bench.figures == {"tflite-quantized": {"baseline": [90], "ours": [60]}}


def test_probes_of_clients_run_in_their_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[tuple[str, str]] = []

    def measured(command: list[str], environment: Any) -> Measured:
        ran.append((command[0], environment.get("CI", "")))
        return Measured(1.0, 1, 1, 0.0, "{}")

    monkeypatch.setattr(run.measure, "run", measured)
    monkeypatch.setattr(run, "CLIENTS", tmp_path / "python")
    bench = a_bench()
    with pytest.raises(BenchmarkError, match="does not exist; run: make bench"):
        bench.probe("convert_on", {}, client=True)
    run.CLIENTS.touch()
    bench.probe("convert_on", {}, client=True)
    bench.probe("convert", {})
    assert ran == [(str(run.CLIENTS), "true"), (sys.executable, "")]


def test_a_module_is_compiled_once_whatever_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where whoever measures forbids it, as many containers do."""
    given: list[Any] = []

    def measured(command: list[str], environment: Any) -> Measured:
        given.append(environment["PYTHONDONTWRITEBYTECODE"])
        return Measured(1.0, 1, 1, 0.0, '{"events": []}')

    monkeypatch.setattr(run.measure, "run", measured)
    bench = a_bench(quick=True)
    bench.probe("convert", {})
    run.publish(bench, "nothing")
    assert given == ["", ""]


def test_globs_choose_steps() -> None:
    assert run.chosen([]) == list(run.STEPS)
    chosen = run.chosen(["convert-*", "nothing"])
    assert [step.figures[0] for step in chosen] == ["convert-R50x1", "convert-R152x2", "all"]


def test_glob_without_a_figure_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="convrt: matches no figure"):
        run.chosen(["convrt"])

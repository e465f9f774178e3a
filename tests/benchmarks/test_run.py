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
        "publisher.pipeline.workers.convert", lambda *_, **arguments: given.update(arguments)
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
    with pytest.raises(BenchmarkError, match="convrt: no figure's name"):
        run.chosen(["convrt"])

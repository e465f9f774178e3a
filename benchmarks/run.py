"""Takes all samples, alternating between the baseline and this project: `python -m benchmarks`."""

import datetime
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks import measure, report
from benchmarks.figures import DISTURBED
from benchmarks.measure import BenchmarkError, Measured
from publisher.errors import PublisherError
from publisher.families import ARCHITECTURES
from publisher.registry import Registry, load_registry
from publisher.util.files import json_bytes, write_whole
from publisher.weights import write_synthetic

REGISTRY = Path("models.yaml")
CLIENTS = Path(".venv-clients/bin/python")
WORK = Path("build/bench")
WEIGHTS = WORK / "weights"
RESULTS = Path("benchmarks")
README = Path("README.md")
PERFORMANCE = Path("docs/performance.md")
SIDES = ("baseline", "ours")
# The folded form is compared with the baseline too, which has no form for prediction only.
WITH_FOLDED = (*SIDES, "folded")
DISTRIBUTIONS = ("tensorflow", "tf-keras", "tensorflow-hub", "numpy", "isal")
# For all Python processes of both routes: no GPU, Keras 2, only errors on standard error, and
# Python's default of caching compiled modules.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONDONTWRITEBYTECODE": "",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_USE_LEGACY_KERAS": "1",
}
# OpenVINO's converter sends no telemetry in CI, and writes its identifier to HOME.
CLIENT_ENVIRONMENT = {**ENVIRONMENT, "CI": "true", "HOME": str(WORK)}


@dataclass(frozen=True)
class Case:
    """A representative checkpoint, and the numbers of its measurements.

    `converts`, `predicts` and `gradients` count processes, and `calls` the counted calls in one.
    `gradient` is the batch size and the resolution of the gradient step.
    """

    architecture: str
    checkpoint: str
    resolution: int
    converts: int
    predicts: int
    calls: int
    gradient: tuple[int, int]
    gradients: int


SMALL = Case("R50x1", "R50x1_224", 224, 5, 5, 20, (4, 224), 3)
LARGE = Case("R152x2", "R152x2_T_384", 384, 2, 3, 5, (1, 128), 1)
# The batch sizes for throughput, and the counted calls of each. A call with 32 images takes
# seconds.
BATCHES = {8: 5, 32: 3}
LOADS, QUICK_LOADS = 20, 5
# For converted models: the resolution, the processes, and the counted calls of each process.
CONVERTED_AT, CONVERTED_PROCESSES, CONVERTED_CALLS = 160, 2, 15
# If the outputs of converted models differ by more, relative to the largest output, the models are
# not the same network.
LARGEST_DIFFERENCE = 1e-3
ARCHIVES = 2
IDLE_RUNS = 3


@dataclass
class Bench:
    """One run: its measurements so far, and the models that it has converted."""

    registry: Registry
    quick: bool
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    probes: list[dict[str, Any]] = field(default_factory=list)
    models: set[Path] = field(default_factory=set)

    def repetitions(self, count: int) -> int:
        """Return the number of measurements: `count`, or 1 in a quick run."""
        return 1 if self.quick else count

    def sample(self, key: str, side: str, value: float) -> None:
        """Record one sample of a figure."""
        self.figures.setdefault(key, {}).setdefault(side, []).append(value)

    def probe(
        self, task: str, about: Mapping[str, Any], *, client: bool = False, **arguments: Any
    ) -> dict[str, Any]:
        """Run one probe; return its answer, with the time and memory of its process.

        `about` describes the measurement in the results file and on the screen. With `client`, the
        probe runs in the environment of the third-party runtimes.
        """
        if client and not CLIENTS.exists():
            raise BenchmarkError(f"{CLIENTS}: does not exist; run: make bench")
        python = str(CLIENTS) if client else sys.executable
        command = [python, "-m", "benchmarks.probe", task, json.dumps(arguments)]
        measured = measure.run(command, CLIENT_ENVIRONMENT if client else ENVIRONMENT)
        return self.keep(task, about, measured, json.loads(measured.output.splitlines()[-1]))

    def keep(
        self, task: str, about: Mapping[str, Any], measured: Measured, answer: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Record and print the measurements of a process; return them with its answer."""
        process = {
            "seconds": measured.seconds,
            "one_process": measured.one_process,
            "at_once": measured.at_once,
            "others": round(measured.others, 3),
        }
        self.probes.append({"task": task, **about, "process": process, **answer})
        words = " ".join(str(value) for value in about.values())
        note = f"{measured.seconds:.1f} s, {measured.one_process / 1e9:.2f} GB"
        if measured.others > DISTURBED:
            note += f", disturbed: other programs kept {measured.others:.1f} cores busy"
        click.echo(f"{task:<20} {words}: {note}", err=True)
        return {**answer, "process": process}


def turns(count: int, sides: Sequence[str] = SIDES) -> Iterator[tuple[int, str]]:
    """Yield (repetition, side), and reverse the order of the sides in each repetition."""
    for repetition in range(count):
        for side in sides if repetition % 2 == 0 else reversed(sides):
            yield repetition, side


def weights_of(bench: Bench, case: Case) -> Path:
    """Return the weight file of a case."""
    return WEIGHTS / bench.registry.checkpoints[case.checkpoint].path


def make_weights(registry: Registry) -> None:
    """Write a synthetic weight file of full size for every checkpoint."""
    for checkpoint in registry.checkpoints.values():
        path = WEIGHTS / checkpoint.path
        if not path.exists():
            click.echo(f"making {path}", err=True)
            write_synthetic(path, ARCHITECTURES[checkpoint.architecture].arrays(checkpoint.classes))


def empty(folder: Path) -> Path:
    """Remove `folder`, create its parent, and return `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def converted(bench: Bench, side: str, case: Case) -> tuple[Path, dict[str, Any]]:
    """Convert the classifier of a case; return the SavedModel and the probe's answer."""
    directory = empty(WORK / "models" / side / case.architecture)
    answer = bench.probe(
        "convert",
        {"side": side, "case": case.architecture},
        side=side,
        weights=str(weights_of(bench, case)),
        architecture=case.architecture,
        head="classifier",
        directory=str(directory),
    )
    bench.models.add(directory)
    return directory, answer


def model(bench: Bench, side: str, case: Case) -> Path:
    """Return the SavedModel of a case; convert it first if this run has not done so."""
    directory = WORK / "models" / side / case.architecture
    return directory if directory in bench.models else converted(bench, side, case)[0]


def measure_convert(bench: Bench, case: Case) -> None:
    """Convert weights to SavedModels. Measures whole processes, imports included."""
    for _, side in turns(bench.repetitions(case.converts)):
        _, answer = converted(bench, side, case)
        bench.sample(f"convert-{case.architecture}", side, answer["process"]["seconds"])


def measure_archive(bench: Bench) -> None:
    """Pack a SavedModel. Both sides pack the same folder, ours."""
    directory = model(bench, "ours", LARGE)
    target = WORK / "archive.tar.gz"
    for _, side in turns(bench.repetitions(ARCHIVES)):
        target.unlink(missing_ok=True)
        answer = bench.probe(
            "archive", {"side": side}, side=side, directory=str(directory), target=str(target)
        )
        bench.sample("archive", side, answer["seconds"])
        bench.sample("archive-size", side, answer["size"])
    target.unlink()


def measure_limits(bench: Bench) -> None:
    """Measure the work that no implementation can avoid (see `limits`)."""
    directory = model(bench, "ours", LARGE)
    answer = bench.probe("byte_limits", {}, directory=str(directory))
    bench.limits.update({key: answer[key] for key in answer if key != "process"})


def measure_predict(bench: Bench, case: Case) -> None:
    """Load a SavedModel and call it, on another image in each repetition."""
    name = case.architecture
    count = bench.repetitions(case.predicts)
    directories = {side: model(bench, side, case) for side in SIDES}
    expected = WORK / f"reference-{name}.npy"
    bench.probe(
        "reference",
        {"case": name},
        weights=str(weights_of(bench, case)),
        resolution=case.resolution,
        seeds=list(range(count)),
        target=str(expected),
    )
    for repetition, side in turns(count):
        answer = bench.probe(
            "predict",
            {"side": side, "case": name},
            directory=str(directories[side]),
            resolution=case.resolution,
            seed=repetition,
            expected=str(expected),
        )
        bench.sample(f"load-{name}", side, answer["load"])
        bench.sample(f"error-{name}", side, answer["error"])
        if case is LARGE:
            bench.sample("memory-predict", side, answer["process"]["one_process"])


def measure_latency(bench: Bench, case: Case) -> None:
    """Call loaded models in turn. Each repetition is a new process with another image."""
    name = case.architecture
    directories = {side: str(model(bench, side, case)) for side in WITH_FOLDED}
    convolutions = []
    for repetition in range(bench.repetitions(case.predicts)):
        answer = bench.probe(
            "latency",
            {"case": name},
            directories=directories,
            architecture=name,
            resolution=case.resolution,
            seed=repetition,
            calls=case.calls,
        )
        medians = {side: median(seconds) for side, seconds in answer["calls"].items()}
        bench.sample(f"latency-{name}", "baseline", medians["baseline"])
        bench.sample(f"latency-{name}", "ours", medians["ours"])
        bench.sample(f"folded-{name}", "baseline", medians["baseline"])
        bench.sample(f"folded-{name}", "ours", medians["folded"])
        convolutions.append(medians["convolutions"])
    bench.limits[f"convolutions-{name}"] = median(convolutions)


def measure_throughput(bench: Bench, batch: int) -> None:
    """Call loaded models in turn on a batch of images, in one process.

    Records one sample per call. More processes would take long and give the same result.
    """
    directories = {side: str(model(bench, side, SMALL)) for side in WITH_FOLDED}
    answer = bench.probe(
        "latency",
        {"case": SMALL.architecture, "batch": batch},
        directories=directories,
        resolution=SMALL.resolution,
        seed=0,
        calls=BATCHES[batch],
        batch=batch,
    )
    rates = {side: [batch / each for each in seconds] for side, seconds in answer["calls"].items()}
    for key, side in (("throughput", "ours"), ("folded-throughput", "folded")):
        for baseline, ours in zip(rates["baseline"], rates[side], strict=True):
            bench.sample(f"{key}-{batch}", "baseline", baseline)
            bench.sample(f"{key}-{batch}", "ours", ours)


def measure_loads(bench: Bench) -> None:
    """Load and release a model repeatedly in one process."""
    for side in SIDES:
        answer = bench.probe(
            "loads",
            {"side": side, "case": SMALL.architecture},
            directory=str(model(bench, side, SMALL)),
            count=QUICK_LOADS if bench.quick else LOADS,
        )
        bench.sample("memory-loads", side, answer["resident"][-1])


def converted_on(bench: Bench, runtime: str, side: str) -> tuple[Path, int]:
    """Convert a SavedModel for a runtime; return the folder of the result, and its size."""
    folder = empty(WORK / "converted" / runtime / side)
    answer = bench.probe(
        "convert_on",
        {"runtime": runtime, "side": side},
        client=True,
        runtime=runtime,
        directory=str(model(bench, side, SMALL)),
        folder=str(folder),
    )
    return folder, answer["size"]


def measure_runtime(bench: Bench, runtime: str) -> None:
    """Convert models for a runtime and call them there in turn.

    Compares the unfolded model with the baseline, and with the folded one: conversion should turn
    its kernels into constants, too. Each repetition is a new process with another image.
    """
    made = {side: converted_on(bench, runtime, side) for side in WITH_FOLDED}
    bench.sample(f"{runtime}-size-folded", "folded", made["folded"][1])
    bench.sample(f"{runtime}-size-folded", "ours", made["ours"][1])
    for repetition in range(bench.repetitions(CONVERTED_PROCESSES)):
        answer = bench.probe(
            "runtime_latency",
            {"runtime": runtime},
            client=True,
            runtime=runtime,
            folders={side: str(folder) for side, (folder, _) in made.items()},
            resolution=CONVERTED_AT,
            seed=repetition,
            calls=CONVERTED_CALLS,
        )
        if answer["apart"] > LARGEST_DIFFERENCE:
            raise BenchmarkError(
                f"{runtime}: the outputs of the converted models differ by {answer['apart']:.1e},"
                f" more than {LARGEST_DIFFERENCE:.0e}"
            )
        medians = {side: median(seconds) for side, seconds in answer["calls"].items()}
        for key, other in ((f"{runtime}-latency", "baseline"), (f"{runtime}-folded", "folded")):
            bench.sample(key, other, medians[other])
            bench.sample(key, "ours", medians["ours"])
    shutil.rmtree(WORK / "converted" / runtime)


def measure_quantized(bench: Bench) -> None:
    """Convert models to TFLite with its default quantization, which needs no images."""
    for side in SIDES:
        folder, size = converted_on(bench, "tflite-quantized", side)
        bench.sample("tflite-quantized", side, size)
        shutil.rmtree(folder)


def measure_gradient(bench: Bench, case: Case) -> None:
    """Take the first step of fine-tuning after `hub.load`."""
    name = case.architecture
    batch, resolution = case.gradient
    directories = {side: model(bench, side, case) for side in SIDES}
    for _, side in turns(bench.repetitions(case.gradients)):
        answer = bench.probe(
            "first_gradient_step",
            {"side": side, "case": name},
            directory=str(directories[side]),
            resolution=resolution,
            batch=batch,
        )
        bench.sample(f"gradient-{name}", side, answer["seconds"])
        if case is SMALL:
            bench.sample("memory-gradient", side, answer["process"]["one_process"])


def measure_all(bench: Bench) -> None:
    """Publish all variants of the registry, then publish again with nothing to do."""
    seconds = one_process = at_once = 0.0
    for measured in all_of_baseline(bench):
        seconds += measured["seconds"]
        one_process = max(one_process, measured["one_process"])
        at_once = max(at_once, measured["at_once"])
    bench.sample("all", "baseline", seconds)
    bench.sample("memory-one", "baseline", one_process)
    bench.sample("memory-at-once", "baseline", at_once)

    folder = empty(WORK / "publish")
    options = ("--registry", str(REGISTRY), "--build-dir", f"{folder}/build")
    ours = publish(bench, "all", *options, "--release", f"{folder}/dist")
    bench.sample("all", "ours", ours.seconds)
    bench.sample("memory-one", "ours", ours.one_process)
    bench.sample("memory-at-once", "ours", ours.at_once)
    for _ in range(bench.repetitions(IDLE_RUNS)):
        again = publish(bench, "nothing", *options, "--release", f"{folder}/dist")
        bench.sample("nothing", "ours", again.seconds)
    shutil.rmtree(folder)


def all_of_baseline(bench: Bench) -> Iterator[dict[str, Any]]:
    """Convert and pack one variant after another; yield the measurements of each process."""
    for variant in bench.registry.variants:
        checkpoint = bench.registry.checkpoint_of(variant)
        about = {"side": "baseline", "variant": variant.handle}
        directory = empty(WORK / "baseline" / "saved_model")
        target = directory.with_name("model.tar.gz")
        yield bench.probe(
            "convert",
            about,
            side="baseline",
            weights=str(WEIGHTS / checkpoint.path),
            architecture=checkpoint.architecture,
            head=variant.head,
            directory=str(directory),
        )["process"]
        command = ["tar", "czf", str(target), "-C", str(directory), "."]
        yield bench.keep("tar czf", about, measure.run(command, {}), {})["process"]
    shutil.rmtree(WORK / "baseline")


def publish(bench: Bench, task: str, *options: str) -> Measured:
    """Run `publisher publish` on the weights on disk."""
    command = [sys.executable, "-m", "publisher", "publish", "--json", "--quiet"]
    measured = measure.run([*command, "--weights", str(WEIGHTS), *options], ENVIRONMENT)
    events = json.loads(measured.output)["events"]
    # Other fields of an event may contain local paths.
    kept = ("event", "subject", "stage", "at", "seconds")
    trace = [{key: event[key] for key in kept if key in event} for event in events]
    bench.keep(task, {"side": "ours"}, measured, {"events": trace})
    return measured


@dataclass(frozen=True)
class Step:
    """One measurement, and the keys of the figures that it samples."""

    action: Callable[[Bench], None]
    figures: tuple[str, ...]


def _of_case(action: Callable[[Bench, Case], None], case: Case, *figures: str) -> Step:
    keys = tuple(figure.format(case.architecture) for figure in figures)
    return Step(lambda bench: action(bench, case), keys)


def _throughput(batch: int) -> tuple[str, ...]:
    return f"throughput-{batch}", f"folded-throughput-{batch}"


def _runtime(runtime: str) -> tuple[str, ...]:
    return f"{runtime}-latency", f"{runtime}-folded", f"{runtime}-size-folded"


STEPS = (
    _of_case(measure_convert, SMALL, "convert-{}"),
    _of_case(measure_convert, LARGE, "convert-{}"),
    Step(measure_archive, ("archive", "archive-size")),
    Step(measure_limits, ("limits",)),
    _of_case(measure_predict, SMALL, "load-{}", "error-{}"),
    _of_case(measure_predict, LARGE, "load-{}", "error-{}", "memory-predict"),
    _of_case(measure_latency, SMALL, "latency-{}", "folded-{}"),
    _of_case(measure_latency, LARGE, "latency-{}", "folded-{}"),
    Step(measure_loads, ("memory-loads",)),
    *(Step(partial(measure_throughput, batch=batch), _throughput(batch)) for batch in BATCHES),
    _of_case(measure_gradient, SMALL, "gradient-{}", "memory-gradient"),
    _of_case(measure_gradient, LARGE, "gradient-{}"),
    *(
        Step(partial(measure_runtime, runtime=runtime), _runtime(runtime))
        for runtime in ("onnx", "tflite", "openvino")
    ),
    Step(measure_quantized, ("tflite-quantized",)),
    Step(measure_all, ("all", "memory-one", "memory-at-once", "nothing")),
)


def chosen(only: Sequence[str]) -> list[Step]:
    """Return the steps that measure a figure matching one of the globs; all steps without globs.

    Raises `BenchmarkError` for a glob that matches no figure.
    """
    keys = [key for step in STEPS for key in step.figures]
    for glob in only:
        if not any(fnmatchcase(key, glob) for key in keys):
            raise BenchmarkError(f"{glob}: matches no figure; the figures are {', '.join(keys)}")
    return [
        step
        for step in STEPS
        if not only or any(fnmatchcase(key, glob) for key in step.figures for glob in only)
    ]


def machine() -> dict[str, Any]:
    """Return a description of this machine for the results file."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory,
        "system": f"{platform.system()} {platform.machine()}",
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Measure everything once, for a first impression.")
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    help="Measure only these figures (convert-R50x1, 'latency-*', all, ...); repeatable.",
)
def main(quick: bool, only: tuple[str, ...]) -> None:
    """Compare this project with the notebook's route.

    Run it in the project's root, on an otherwise idle machine. A complete run writes
    benchmarks/results.{json,md,svg} and updates README.md. With --quick or --only, or after a
    failure, it writes results.* to build/bench instead.
    """
    try:
        steps = chosen(only)
    except BenchmarkError as error:
        raise click.UsageError(str(error)) from None
    try:
        bench = Bench(load_registry(REGISTRY), quick)
    except PublisherError as error:
        raise click.ClickException(str(error)) from None
    make_weights(bench.registry)
    failures = []
    for step in steps:
        try:
            step.action(bench)
        except BenchmarkError as error:
            failures.append(f"{', '.join(step.figures)}: {error}")
            click.echo(f"error: {failures[-1]}", err=True)
        save(bench, WORK)  # so that an interrupted run keeps its results
    whole = not (quick or only or failures)
    if whole:
        save(bench, RESULTS)
        report.write_pages(json.loads((RESULTS / "results.json").read_text()), README, PERFORMANCE)
    click.echo((WORK / "results.md").read_text())
    sys.exit(1 if failures else 0)


def save(bench: Bench, folder: Path) -> None:
    """Write the results file, the table and the plot to `folder`."""
    results = {
        "measured": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in DISTRIBUTIONS},
        },
        "figures": bench.figures,
        "limits": bench.limits,
        "probes": bench.probes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results.json", json_bytes(results))
    report.write(results, folder)

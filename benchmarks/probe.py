"""Makes one measurement in its own process: `python -m benchmarks.probe TASK ARGUMENTS`.

ARGUMENTS is a JSON object, and so is the answer, the last line of standard output. `predict`,
`latency`, `loads`, `convert_on`, `runtime_latency` and `first_gradient_step` represent a user's
program, so they treat the baseline's SavedModels and ours alike.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Answer = dict[str, Any]
Work = Mapping[str, Callable[[], object]]
CLASSES = 1000
WARM_UP = 2  # uncounted calls after the first, which is not counted either
# Seconds between two calls. Threads of ONNX Runtime spin for a while after a call, which slows
# down the next session. `in_turn` reverses each round, so of three sessions only the first and
# the last sometimes follow themselves; without a pause, the one in between would seem slower.
PAUSE = 0.1


def seeded_images(resolution: int, seed: int, batch: int = 1) -> npt.NDArray[np.float32]:
    """Return (batch, resolution, resolution, 3) float32 noise in [-1, 1)."""
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (batch, resolution, resolution, 3)).astype(np.float32)


def convert(side: str, weights: str, architecture: str, head: str, directory: str) -> Answer:
    """Write a SavedModel by the route `side`: `baseline`, `ours` or `folded`."""
    from publisher.families.bit import ARCHITECTURES

    classifier = head == "classifier"
    if side == "baseline":
        from benchmarks import baseline

        baseline.convert(
            Path(weights),
            ARCHITECTURES[architecture],
            classes=CLASSES if classifier else None,
            directory=Path(directory),
        )
    else:
        from publisher.build import workers

        workers.convert(
            Path(weights),
            ARCHITECTURES[architecture],
            classes=CLASSES,
            head=head,
            output="logits" if classifier else "features",
            input_range=(-1.0, 1.0),
            assets=[],
            directory=Path(directory),
            folded=side == "folded",
        )
    return {}


def archive(side: str, directory: str, target: str) -> Answer:
    """Pack a SavedModel; return the seconds and the bytes of the archive."""
    from benchmarks import baseline
    from publisher.formats.archive import pack

    begin = time.perf_counter()
    (baseline.pack if side == "baseline" else pack)(Path(directory), Path(target))
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "size": Path(target).stat().st_size}


def reference(weights: str, resolution: int, seeds: list[int], target: str) -> Answer:
    """Save float64 logits to `target`, one row per seed, each of one seeded image."""
    from publisher.families.bit import reference as truth
    from publisher.weights import open_npz

    arrays = open_npz(Path(weights))
    rows = [truth.features(arrays, seeded_images(resolution, seed)) for seed in seeds]
    np.save(target, truth.logits(arrays, np.concatenate(rows)))
    return {}


def predict(directory: str, resolution: int, seed: int, expected: str) -> Answer:
    """Load a SavedModel and call it on one image.

    Returns the seconds of `hub.load` and of the first call, and the largest difference between
    the logits and row `seed` of the reference.
    """
    import tensorflow as tf

    model, load = _loaded(directory)
    images = tf.constant(seeded_images(resolution, seed))
    begin = time.perf_counter()
    result = model(images, training=False).numpy()
    first = time.perf_counter() - begin
    truth = np.load(expected)[seed]
    return {
        "load": load,
        "first_call": first,
        "error": float(np.abs(result[0] - truth).max()),
        "largest_expected": float(np.abs(truth).max()),
    }


def latency(
    directories: dict[str, str],
    resolution: int,
    seed: int,
    calls: int,
    batch: int = 1,
    architecture: str | None = None,
) -> Answer:
    """Call several SavedModels in turn on a batch of images (see `in_turn`).

    Returns the seconds of each counted call by the names in `directories`. With an architecture,
    also returns those of its convolutions alone, on one image.
    """
    import tensorflow as tf

    images = tf.constant(seeded_images(resolution, seed, batch))

    def calling(directory: str) -> Callable[[], object]:
        model, _ = _loaded(directory)
        return lambda: model(images, training=False).numpy()

    work: dict[str, Callable[[], object]] = {
        name: calling(directory) for name, directory in directories.items()
    }
    if architecture:
        from benchmarks import limits
        from publisher.families.bit import ARCHITECTURES

        work["convolutions"] = limits.convolutions(ARCHITECTURES[architecture], resolution)
    return {"calls": in_turn(work, calls)}


def in_turn(work: Work, calls: int, pause: float = 0) -> dict[str, list[float]]:
    """Call several functions in turn, reversing their order in each round.

    A machine that is slow for a while thus slows all of them down. Pauses `pause` seconds before
    each call, so that the threads of the last call come to rest. Returns the seconds of each
    counted call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for index in range(-1 - WARM_UP, calls):
        for name in work if index % 2 == 0 else reversed(work):
            time.sleep(pause)
            begin = time.perf_counter()
            work[name]()
            if index >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def loads(directory: str, count: int) -> Answer:
    """Load and release a SavedModel `count` times in one process.

    Returns the resident memory, in bytes, after each time.
    """
    from benchmarks import measure

    resident = []
    for _ in range(count):
        model, _ = _loaded(directory)
        del model
        gc.collect()
        resident.append(measure.resident(os.getpid()))
    return {"resident": resident}


def convert_on(runtime: str, directory: str, folder: str) -> Answer:
    """Convert a SavedModel for a runtime of `runtimes`; return the size of the result in bytes."""
    from benchmarks.runtimes import RUNTIMES

    Path(folder).mkdir()
    RUNTIMES[runtime].convert(Path(directory), Path(folder))
    return {"size": sum(path.stat().st_size for path in Path(folder).iterdir())}


def runtime_latency(
    runtime: str, folders: dict[str, str], resolution: int, seed: int, calls: int
) -> Answer:
    """Call several converted models in turn on one image in a runtime (see `in_turn`).

    Returns the seconds of each counted call by the names in `folders`, and the largest difference
    between the outputs of two models, relative to the largest output.
    """
    from benchmarks.runtimes import RUNTIMES

    load = RUNTIMES[runtime].load
    if load is None:
        raise ValueError(f"{runtime}: converts models but cannot run them")
    images = seeded_images(resolution, seed)
    work = {name: partial(load(Path(folder)), images) for name, folder in folders.items()}
    answers = np.array([call() for call in work.values()])
    apart = float(np.ptp(answers, axis=0).max() / np.abs(answers).max())
    return {"calls": in_turn(work, calls, PAUSE), "apart": apart}


def first_gradient_step(directory: str, resolution: int, batch: int) -> Answer:
    """Load a SavedModel and take one step of gradient descent on all its variables."""
    import tensorflow as tf

    model, load = _loaded(directory)
    images = tf.constant(seeded_images(resolution, 0, batch))
    labels = tf.constant(np.random.default_rng(1).integers(CLASSES, size=batch))
    begin = time.perf_counter()
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = tf.reduce_mean(losses)
    variables = model.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(1e-3 * gradient)
    float(tf.reduce_sum(variables[0]))  # wait for pending operations
    seconds = time.perf_counter() - begin
    return {"load": load, "seconds": seconds, "loss": float(loss), "variables": len(variables)}


def byte_limits(directory: str) -> Answer:
    """Return the least costs of handling the bytes of a SavedModel's variables (see `limits`)."""
    from benchmarks import limits
    from publisher.formats.saved_model.bundle import DATA

    return limits.of_bytes(Path(directory, "variables", DATA))


def _loaded(directory: str) -> tuple[Any, float]:
    """Return the model in `directory` and the seconds of `hub.load`, without imports."""
    import tensorflow_hub

    begin = time.perf_counter()
    model = tensorflow_hub.load(directory)
    return model, time.perf_counter() - begin


TASKS: dict[str, Callable[..., Answer]] = {
    task.__name__: task
    for task in (
        convert,
        archive,
        reference,
        predict,
        latency,
        loads,
        convert_on,
        runtime_latency,
        first_gradient_step,
        byte_limits,
    )
}


if __name__ == "__main__":
    answer = TASKS[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(answer))

"""Runs all checks on one archive."""

import gc
import shutil
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from tensorflow.python.framework import ops

from publisher.errors import PublisherError
from publisher.util import memory
from publisher.validation.archive import archive_is_a_plain_saved_model
from publisher.validation.checks import CHECKS, Array, Subject
from publisher.validation.client import hub_cache, served
from publisher.validation.expected import load_features, save_features
from publisher.validation.graph import shorten
from publisher.validation.graph_cache import GraphCheckCache
from publisher.validation.graph_checks import GRAPH_CHECKS, GraphSubject
from publisher.validation.report import Check, Report
from publisher.validation.request import Facts, Request, common_fields
from publisher.validation.training import TrainingStep, assign_shared_noise, take_training_step
from publisher.validation.training_checks import TRAINING_CHECKS, TrainingSubject
from publisher.weights import Arrays

Checked = TypeVar("Checked", bound=GraphSubject)


def validate(
    request: Request,
    arrays: Arrays,
    checks: Sequence[Callable[[Subject], Check]] = CHECKS,
    graph_checks: Sequence[Callable[[GraphSubject], Check]] = GRAPH_CHECKS,
    training_checks: Sequence[Callable[[TrainingSubject], Check]] = TRAINING_CHECKS,
) -> Report:
    """Run every check on the archive; return the report, failures included.

    Stops early if the archive is not a plain SavedModel or the client cannot load it. Checks the
    graph and its training step after releasing the loaded model, and skips them if
    `request.graph_cache` holds their results.

    A check that raises an exception fails with its message, and the others still run. Writes the
    tensors of a failing check to `request.failures`, in a file named after the check.
    """
    shutil.rmtree(request.failures, ignore_errors=True)
    expected = load_features(request.expected)
    results = [request.weights_check, archive_is_a_plain_saved_model(request.archive)]
    if results[-1].status == "failed":
        return Report(request.tolerance, tuple(results))
    with hub_cache(request.scratch), served({request.handle: request.archive}) as addresses:
        address = addresses[request.handle]
        try:
            graph_subject = _graph_subject(request, address)
            subject = _subject(request, arrays, expected, graph_subject, address)
        except Exception as error:  # any error of the client blocks the variant
            results.append(Check("loads_with_hub_load", "failed", _one_line(error)))
            return Report(request.tolerance, tuple(results))
        results.append(Check("loads_with_hub_load", "passed", "from the packed archive"))
        results += [_run(check, subject, request.failures) for check in checks]
        if request.features is not None and request.head == "feature_extractor":
            save_features(request.features, _answers(subject, expected))
        del subject
        gc.collect()  # a loaded model is full of reference cycles
        memory.trim_heap()
        results += _check_graph(request, graph_subject, graph_checks, training_checks)
    return Report(request.tolerance, tuple(results))


def _graph_subject(request: Request, address: str) -> GraphSubject:
    return GraphSubject(**common_fields(request, Facts), directory=Path(hub.resolve(address)))


def _check_graph(
    request: Request,
    subject: GraphSubject,
    graph_checks: Sequence[Callable[[GraphSubject], Check]],
    training_checks: Sequence[Callable[[TrainingSubject], Check]],
) -> list[Check]:
    """Run the checks of the graph, or return their cached results.

    The cache's lock keeps two processes from checking the same graph at once.
    """
    names = [check.__name__ for check in (*graph_checks, *training_checks)]
    cache = GraphCheckCache(request.graph_cache, subject)
    with cache.locked():
        cached = cache.load()
        if all(name in cached for name in names):
            return [cached[name] for name in names]
        results = [_run(check, subject, request.failures) for check in graph_checks]
        if training_checks:
            training = _training_subject(subject, request.scratch / "shortened")
            results += [_run(check, training, request.failures) for check in training_checks]
        cache.store(results)
    return results


def _subject(
    request: Request,
    arrays: Arrays,
    expected: Mapping[int, Array],
    graph_subject: GraphSubject,
    address: str,
) -> Subject:
    features: Mapping[int, Array] | None = None
    if request.head == "classifier" and request.features is not None:
        features = load_features(request.features) if request.features.exists() else {}
    model = hub.load(address)
    compiled = None
    if callable(model):  # otherwise `interface_is_reusable` fails
        spec = tf.TensorSpec((None, None, None, 3), tf.float32)
        compiled = tf.function(model, input_signature=[spec], autograph=False)
    return Subject(
        **common_fields(graph_subject, GraphSubject),
        arrays=arrays,
        expected=expected,
        extractor_features=features,
        model=model,
        compiled=compiled,
    )


def _training_subject(subject: GraphSubject, shortened: Path) -> TrainingSubject:
    """Load the shortened model, take a training step, and release the model.

    The step needs as much memory as the weights that it trains. The shortened model has few of
    them, and its variables share one buffer of noise, so the step stays small.

    Counts the objects that TensorFlow still holds after the release. Such a leak would fill the
    memory of a process that loads models repeatedly.
    """
    unused = shorten(subject.directory, shortened)
    registered = len(ops.gradient_registry._registry)
    model = hub.load(str(shortened))
    step: TrainingStep | Exception
    try:
        assign_shared_noise(model.variables)
        step = take_training_step(model, subject.small_image())
    except Exception as error:  # the checks of the step raise it again
        step = error.with_traceback(None)
    reference = weakref.ref(model)
    del model
    gc.collect()
    memory.trim_heap()
    leaked = (reference() is not None) + len(ops.gradient_registry._registry) - registered
    return TrainingSubject(
        **common_fields(subject, GraphSubject), step=step, unused=unused, leaked_objects=leaked
    )


def _answers(subject: Subject, resolutions: Iterable[int]) -> dict[int, Array]:
    """Return the model's answers by resolution, without those that raise an exception.

    A check has already reported that exception.
    """
    found = {}
    for resolution in resolutions:
        with suppress(Exception):
            found[resolution] = subject.answer(resolution)
    return found


def _run(check: Callable[[Checked], Check], subject: Checked, failures: Path) -> Check:
    try:
        result = check(subject)
    except Exception as error:
        result = Check(check.__name__, "failed", _one_line(error))
    if result.status == "failed" and result.tensors:
        failures.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Any] = dict(result.tensors)
        np.savez(failures / f"{result.name}.npz", **tensors)
    memory.trim_heap()  # otherwise free memory of one check adds to the peak of the next
    return result


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else "no message"
    return line if isinstance(error, PublisherError) else f"{type(error).__name__}: {line}"

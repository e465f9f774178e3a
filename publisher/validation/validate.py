"""Runs the checks on a packed archive."""

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
from publisher.validation.graph_checks import GRAPH_CHECKS, Unpacked
from publisher.validation.proved import Proved
from publisher.validation.report import Check, Report
from publisher.validation.request import Facts, Request, shared
from publisher.validation.training import TrainingStep, share_noise, take_training_step
from publisher.validation.training_checks import TRAINING_CHECKS, Trained
from publisher.weights import Arrays

Checked = TypeVar("Checked", bound=Unpacked)


def validate(
    request: Request,
    arrays: Arrays,
    checks: Sequence[Callable[[Subject], Check]] = CHECKS,
    graph_checks: Sequence[Callable[[Unpacked], Check]] = GRAPH_CHECKS,
    training_checks: Sequence[Callable[[Trained], Check]] = TRAINING_CHECKS,
) -> Report:
    """Run every check on the archive and return the report, failures included.

    The archive is looked at before it is unpacked: one that is not a plain SavedModel, or
    that the client cannot load, goes no further. The graph is checked, and its training step
    taken, when the model with its weights is no longer in memory; not if `request.proved` knows
    the graph. A check that raises has failed, and says with what; the others still run. The tensors
    of a failing check are kept in `request.failures`, in a file named after it.
    """
    shutil.rmtree(request.failures, ignore_errors=True)
    expected = load_features(request.expected)
    results = [request.weights_check, archive_is_a_plain_saved_model(request.archive)]
    if results[-1].status == "failed":
        return Report(request.tolerance, tuple(results))
    with hub_cache(request.scratch), served({request.handle: request.archive}) as addresses:
        address = addresses[request.handle]
        try:
            unpacked = _unpacked(request, address)
            subject = _subject(request, arrays, expected, unpacked, address)
        except Exception as error:  # whatever the client stumbled over blocks the variant
            results.append(Check("loads_with_hub_load", "failed", _one_line(error)))
            return Report(request.tolerance, tuple(results))
        results.append(Check("loads_with_hub_load", "passed", "from the packed archive"))
        results += [_run(check, subject, request.failures) for check in checks]
        if request.features is not None and request.head == "feature_extractor":
            save_features(request.features, _answers(subject, expected))
        del subject
        gc.collect()  # a loaded model is full of circles
        memory.give_back()
        results += _of_graph(request, unpacked, graph_checks, training_checks)
    return Report(request.tolerance, tuple(results))


def _unpacked(request: Request, address: str) -> Unpacked:
    return Unpacked(**shared(request, Facts), directory=Path(hub.resolve(address)))


def _of_graph(
    request: Request,
    unpacked: Unpacked,
    graph_checks: Sequence[Callable[[Unpacked], Check]],
    training_checks: Sequence[Callable[[Trained], Check]],
) -> list[Check]:
    """Run the checks of the graph, unless they are known. Two processes do not try the same one."""
    names = [check.__name__ for check in (*graph_checks, *training_checks)]
    proved = Proved(request.proved, unpacked)
    with proved.alone():
        known = proved.checks()
        if all(name in known for name in names):
            return [known[name] for name in names]
        found = [_run(check, unpacked, request.failures) for check in graph_checks]
        if training_checks:
            trained = _try_training(unpacked, request.scratch / "shortened")
            found += [_run(check, trained, request.failures) for check in training_checks]
        proved.keep(found)
    return found


def _subject(
    request: Request,
    arrays: Arrays,
    expected: Mapping[int, Array],
    unpacked: Unpacked,
    address: str,
) -> Subject:
    features: Mapping[int, Array] | None = None
    if request.head == "classifier" and request.features is not None:
        features = load_features(request.features) if request.features.exists() else {}
    model = hub.load(address)
    compiled = None
    if callable(model):  # else that is what `interface_is_reusable` says
        spec = tf.TensorSpec((None, None, None, 3), tf.float32)
        compiled = tf.function(model, input_signature=[spec], autograph=False)
    return Subject(
        **shared(unpacked, Unpacked),
        arrays=arrays,
        expected=expected,
        extractor_features=features,
        model=model,
        compiled=compiled,
    )


def _try_training(unpacked: Unpacked, shortened: Path) -> Trained:
    """Load the model without repetitions, take a training step, and let the model go.

    The step is taken with noise in all variables, which share its memory. A step keeps as much as
    the weights that it is about; so it keeps little, and the weights are not there as well. What
    stays is the number of objects that TensorFlow keeps of a model that nobody holds any more;
    loading again and again would fill the memory with them.
    """
    untrained = shorten(unpacked.directory, shortened)
    registered = len(ops.gradient_registry._registry)
    model = hub.load(str(shortened))
    step: TrainingStep | Exception
    try:
        share_noise(model.variables)
        step = take_training_step(model, unpacked.small_image())
    except Exception as error:  # the checks that look at the step say so
        step = error.with_traceback(None)
    there = weakref.ref(model)
    del model
    gc.collect()
    memory.give_back()
    left_behind = (there() is not None) + len(ops.gradient_registry._registry) - registered
    return Trained(
        **shared(unpacked, Unpacked), step=step, untrained=untrained, left_behind=left_behind
    )


def _answers(subject: Subject, resolutions: Iterable[int]) -> dict[int, Array]:
    """Return what the model answers, where it does; where not, the checks have said why."""
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
    memory.give_back()  # what one check leaves behind should not add to what the next takes
    return result


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else "no message"
    return line if isinstance(error, PublisherError) else f"{type(error).__name__}: {line}"

"""Runs the checks on a packed archive."""

import gc
import shutil
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from tensorflow.python.framework import ops

from publisher import memory
from publisher.errors import PublisherError
from publisher.validation.archive import archive_is_a_plain_saved_model
from publisher.validation.checks import CHECKS, Array, Subject
from publisher.validation.client import hub_cache, served
from publisher.validation.expected import images, load_features, save_features
from publisher.validation.report import Check, Report
from publisher.validation.request import Facts, Request
from publisher.validation.training import TrainingStep, share_noise, take_training_step
from publisher.weights import Arrays

CheckFunction = Callable[[Subject], Check]


def validate(
    request: Request,
    arrays: Arrays,
    checks: Sequence[CheckFunction] = CHECKS,
) -> Report:
    """Run every check on the archive and return the report, failures included.

    The archive is looked at before it is unpacked: one that is not a plain SavedModel, or
    that the client cannot load, goes no further. A check that raises has failed, and says
    with what; the others still run. The tensors of a failing check are kept in
    `request.failures`, in a file named after it.
    """
    shutil.rmtree(request.failures, ignore_errors=True)
    expected = load_features(request.expected)
    results = [request.weights_check, archive_is_a_plain_saved_model(request.archive)]
    if results[-1].status == "failed":
        return Report(request.tolerance, tuple(results))
    with hub_cache(request.scratch), served({request.handle: request.archive}) as addresses:
        address = addresses[request.handle]
        try:
            subject = _subject(request, arrays, expected, address)
        except Exception as error:  # whatever the client stumbled over blocks the variant
            results.append(Check("loads_with_hub_load", "failed", _one_line(error)))
            return Report(request.tolerance, tuple(results))
        results.append(Check("loads_with_hub_load", "passed", "from the packed archive"))
        results += [_run(check, subject, request.failures) for check in checks]
        if request.features is not None and request.head == "feature_extractor":
            save_features(request.features, _answers(subject, expected))
        del subject
    gc.collect()  # a loaded model is full of circles
    return Report(request.tolerance, tuple(results))


def _subject(
    request: Request, arrays: Arrays, expected: Mapping[int, Array], address: str
) -> Subject:
    features: Mapping[int, Array] | None = None
    if request.head == "classifier" and request.features is not None:
        features = load_features(request.features) if request.features.exists() else {}
    step, left_behind = _try_training(
        address, input_range=request.input_range, size=min(request.parity_resolutions)
    )
    model = hub.load(address)
    compiled = None
    if callable(model):  # else that is what `interface_is_reusable` says
        spec = tf.TensorSpec((None, None, None, 3), tf.float32)
        compiled = tf.function(model, input_signature=[spec], autograph=False)
    return Subject(
        **{fact.name: getattr(request, fact.name) for fact in fields(Facts)},
        arrays=arrays,
        directory=Path(hub.resolve(address)),
        expected=expected,
        extractor_features=features,
        model=model,
        compiled=compiled,
        left_behind=left_behind,
        steps=[step],
    )


def _try_training(
    address: str, *, input_range: tuple[float, float], size: int
) -> tuple[TrainingStep | Exception, int]:
    """Load the model, take a training step, and let it go; return the step, and what stayed.

    The step is taken with noise in all variables, which share its memory: a step keeps about
    as much as the weights, and they should not be in memory as well. What stays is the number of
    objects that TensorFlow keeps of a model that nobody holds any more; loading again and again
    would fill the memory with them.
    """
    registered = len(ops.gradient_registry._registry)
    model = hub.load(address)
    step: TrainingStep | Exception
    try:
        share_noise(model.variables)
        step = take_training_step(model, images(input_range, size)[:1])
    except Exception as error:  # the checks that look at the step say so
        step = error.with_traceback(None)
    there = weakref.ref(model)
    del model
    gc.collect()
    memory.give_back()
    return step, (there() is not None) + len(ops.gradient_registry._registry) - registered


def _answers(subject: Subject, resolutions: Iterable[int]) -> dict[int, Array]:
    """Return what the model answers, where it does; where not, the checks have said why."""
    found = {}
    for resolution in resolutions:
        with suppress(Exception):
            found[resolution] = subject.answer(resolution)
    return found


def _run(check: CheckFunction, subject: Subject, failures: Path) -> Check:
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

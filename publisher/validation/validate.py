"""Runs the checks on a packed archive."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

from publisher import memory
from publisher.errors import PublisherError
from publisher.saved_model.gradients import custom_gradients_forgotten
from publisher.validation.archive import archive_is_a_plain_saved_model
from publisher.validation.checks import CHECKS, Array, Subject
from publisher.validation.client import hub_cache, served
from publisher.validation.expected import load_features, save_features
from publisher.validation.report import Check, Report
from publisher.validation.request import Facts, Request
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
        with custom_gradients_forgotten():
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
    return Report(request.tolerance, tuple(results))


def _subject(
    request: Request, arrays: Arrays, expected: Mapping[int, Array], address: str
) -> Subject:
    features: Mapping[int, Array] | None = None
    if request.head == "classifier" and request.features is not None:
        features = load_features(request.features) if request.features.exists() else {}
    model = hub.load(address)
    compiled = None
    if callable(model):  # else that is what `interface_is_reusable` says
        images = tf.TensorSpec((None, None, None, 3), tf.float32)
        compiled = tf.function(model, input_signature=[images], autograph=False)
    return Subject(
        **{fact.name: getattr(request, fact.name) for fact in fields(Facts)},
        arrays=arrays,
        directory=Path(hub.resolve(address)),
        expected=expected,
        extractor_features=features,
        model=model,
        compiled=compiled,
    )


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

"""Runs the checks on a packed archive."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_hub as hub

from publisher.errors import PublisherError
from publisher.validation.archive import archive_is_a_plain_saved_model
from publisher.validation.checks import CHECKS, Subject
from publisher.validation.client import hub_cache, served
from publisher.validation.report import Check, Report
from publisher.validation.request import Request


def validate(
    request: Request,
    arrays: dict[str, npt.NDArray[np.float32]],
    checks: Sequence[Callable[[Subject], Check]] = CHECKS,
) -> Report:
    """Run every check on the archive and return the report, failures included.

    The archive is looked at before it is unpacked: one that is not a plain SavedModel, or
    that the client cannot load, goes no further. A check that raises has failed, and says
    with what; the others still run. The tensors of a failing check are kept in
    `request.failures`, in a file named after it.
    """
    tf.config.experimental.enable_op_determinism()
    shutil.rmtree(request.failures, ignore_errors=True)
    results = [request.weights_check, archive_is_a_plain_saved_model(request.archive)]
    if results[-1].status == "failed":
        return Report(request.tolerance, tuple(results))
    archives = {request.handle: request.archive}
    if request.feature_extractor is not None:
        archives["feature_extractor"] = request.feature_extractor
    with hub_cache(request.scratch), served(archives) as addresses:
        try:
            subject = _load(request, arrays, addresses)
        except Exception as error:  # whatever the client stumbled over blocks the variant
            results.append(Check("loads_with_hub_load", "failed", _one_line(error)))
            return Report(request.tolerance, tuple(results))
        results.append(Check("loads_with_hub_load", "passed", "from the packed archive"))
        for check in checks:
            try:
                result = check(subject)
            except Exception as error:
                result = Check(check.__name__, "failed", _one_line(error))
            results.append(result)
            if result.status == "failed" and result.tensors:
                request.failures.mkdir(parents=True, exist_ok=True)
                tensors: dict[str, Any] = dict(result.tensors)
                np.savez(request.failures / f"{result.name}.npz", **tensors)
    return Report(request.tolerance, tuple(results))


def _load(
    request: Request, arrays: dict[str, npt.NDArray[np.float32]], addresses: dict[str, str]
) -> Subject:
    address = addresses[request.handle]
    return Subject(
        architecture=request.architecture,
        head=request.head,
        output=request.output,
        output_size=request.output_size,
        input_range=request.input_range,
        resolution=request.resolution,
        parity_resolutions=request.parity_resolutions,
        tolerance=request.tolerance,
        synthetic=request.synthetic,
        arrays=arrays,
        class_names_file=request.class_names_file,
        class_names=request.class_names,
        address=address,
        directory=Path(hub.resolve(address)),
        model=hub.load(address),
        feature_extractor=addresses.get("feature_extractor"),
    )


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else "no message"
    return line if isinstance(error, PublisherError) else f"{type(error).__name__}: {line}"

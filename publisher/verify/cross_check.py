"""Computes the outputs of a published model with independent implementations.

The weights are the archive's own variables, and the image is seeded noise. The float64 NumPy
implementation is the reference. The published SavedModel, the JAX implementation, and the
SavedModel that `jax2tf` makes of that are compared with it.
"""

import importlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from publisher.build.workers import run_alone
from publisher.documents.manifest import Manifest
from publisher.errors import PublisherError
from publisher.families import ARCHITECTURES
from publisher.util.reporter import Reporter
from publisher.validation.expected import noise
from publisher.validation.report import compare
from publisher.verify.archives import unpacked
from publisher.verify.errors import VerifyError
from publisher.verify.findings import Finding, failed, proved_unless
from publisher.verify.targets import Target

CROSS_CHECK = "cross-check"
TRUTH = "NumPy, float64"
PUBLISHED, JAX, CONVERTED = "published SavedModel", "JAX", "SavedModel by jax2tf"
PIXELS = 64  # side of the image
SEED = 64

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Question:
    """The facts about an archive that other implementations need."""

    archive: Path
    architecture: str
    head: str
    folded: bool
    classes: int
    output: str
    input_range: tuple[float, float]
    pixels: int


@dataclass(frozen=True)
class Answer:
    """The output of one implementation, of shape (1, length), and the seconds of a call."""

    form: str
    output: Array
    seconds: float


@dataclass(frozen=True)
class Row:
    """One implementation compared with the reference.

    `error` is the largest absolute error, `relative` its share of the largest |expected|, and
    `bound` the largest allowed `error`.
    """

    handle: str
    form: str
    error: float
    relative: float
    bound: float
    within: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it; infinity and nan become text, which JSON lacks."""
        return {
            name: value if not isinstance(value, float) or np.isfinite(value) else str(value)
            for name, value in asdict(self).items()
        }


def require_jax() -> None:
    """Raise `VerifyError` if the packages of the extra `jax` are not installed."""
    if importlib.util.find_spec("jax") is None:
        raise VerifyError(
            "--cross-check needs JAX, which is not installed; run"
            " `.venv/bin/pip install --editable '.[jax]'`"
        )


def cross_check(target: Target, reporter: Reporter) -> tuple[Finding, list[Row]]:
    """Compute each archive's outputs with all implementations, and compare them.

    The manifests state the architectures and the tolerances.
    """
    if not target.manifests:
        return failed(CROSS_CHECK, f"cannot be made: {target.unstated}"), []
    rows: list[Row] = []
    problems = []
    for handle, manifest in target.manifests.items():
        reporter.started(handle, "compute", "four forms")
        begin = time.monotonic()
        try:
            question = _question(target.archives[handle], manifest)
            found = _rows(handle, run_alone(answers, question), manifest)
        except PublisherError as error:
            reporter.failed(handle, "compute", str(error))
            problems.append(f"{handle}: {error}")
            continue
        reporter.finished(handle, "compute", time.monotonic() - begin, f"{question.pixels} px")
        rows += found
        problems += [
            f"{handle}: {row.form} is off by {row.error:.1e}, bound {row.bound:.1e}"
            for row in found
            if not row.within
        ]
    errors = [row.error / row.bound for row in rows if row.bound and row.form != TRUTH]
    worst = f"; the worst takes {max(errors):.0%} of its bound" if errors else ""
    return proved_unless(CROSS_CHECK, problems, f"TensorFlow, JAX and NumPy agree{worst}"), rows


def _question(archive: Path, manifest: Manifest) -> Question:
    if manifest.architecture not in ARCHITECTURES:
        raise VerifyError(
            f"{manifest.architecture} is an unknown architecture; take a newer publisher"
        )
    return Question(
        archive,
        manifest.architecture,
        manifest.head,
        manifest.folded,
        manifest.classes,
        manifest.signature.output.name,
        manifest.input_range,
        max(PIXELS, ARCHITECTURES[manifest.architecture].smallest_image),
    )


def _rows(handle: str, found: Iterable[Answer], manifest: Manifest) -> list[Row]:
    """Compare all answers with the first, which is the reference."""
    stated = manifest.validation.tolerance
    truth, *others = found
    rows = [Row(handle, truth.form, 0.0, 0.0, 0.0, True, truth.seconds)]
    largest = float(np.abs(truth.output).max())
    for answer in others:
        comparison = compare(answer.output, truth.output, stated)
        error = comparison.largest_error
        relative = error / largest if largest else error
        rows.append(
            Row(
                handle,
                answer.form,
                error,
                relative,
                comparison.bound,
                comparison.within,
                answer.seconds,
            )
        )
    return rows


def answers(question: Question) -> list[Answer]:
    """Worker task: compute the model's output for one image in each form, the reference first.

    Raises `VerifyError` if TensorFlow cannot load the archive, or if it does not hold the
    variables of its architecture.
    """
    import tensorflow as tf

    architecture = ARCHITECTURES[question.architecture]
    reference = importlib.import_module(f"{architecture.package}.reference")
    jax_form = importlib.import_module(f"{architecture.package}.jax_form")
    side = question.pixels
    images = noise(question.input_range, 1, side, side, SEED)
    tensor = tf.constant(images)
    with tempfile.TemporaryDirectory() as folder:
        published, converted = Path(folder, "published"), Path(folder, "converted")
        with unpacked(question.archive) as tar:
            tar.extractall(published, filter="data")
        try:
            model = tf.saved_model.load(str(published))
        except Exception as error:  # its content may make TensorFlow raise anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise VerifyError(f"TensorFlow cannot load it ({reason}); get it again") from error
        arrays = _variables(model, question)
        settings: dict[str, Any] = {
            "architecture": architecture,
            "arrays": arrays,
            "input_range": question.input_range,
            "folded": question.folded,
        }
        found = [
            _timed(TRUTH, lambda: _truth(reference, arrays, images, question), warm=False),
            _timed(PUBLISHED, lambda: model(tensor).numpy()),
        ]
        forward = jax_form.compiled(**settings)
        found.append(_timed(JAX, lambda: np.asarray(forward(images))))
        jax_form.export(**settings, output=question.output, directory=converted)
        other = tf.saved_model.load(str(converted)).signatures["serving_default"]
        found.append(_timed(CONVERTED, lambda: other(images=tensor)[question.output].numpy()))
    return found


def _variables(model: Any, question: Question) -> dict[str, Array]:
    """Return a model's variables by the names of the checkpoint's arrays, in their order."""
    architecture = ARCHITECTURES[question.architecture]
    expected = architecture.arrays(question.classes)
    if question.head != "classifier":
        expected = {name: expected[name] for name in architecture.backbone(expected)}
    found = {
        variable.name.partition(":")[0]: variable for variable in getattr(model, "variables", ())
    }
    for name in {**expected, **found}:
        variable, shape = found.get(name), expected.get(name)
        if variable is None or shape is None or tuple(variable.shape) != shape:
            raise VerifyError(
                f"its variables are not those of {question.architecture} with {question.classes:,}"
                f" classes: {name} differs; check that archive and manifest belong together"
            )
    return {name: found[name].numpy() for name in expected}


def _truth(reference: Any, arrays: dict[str, Array], images: Array, question: Question) -> Array:
    """Compute the reference in float64; standardizing folded kernels again does not change them."""
    low, high = question.input_range
    scaled = (images.astype(np.float64) - low) * (2.0 / (high - low)) - 1.0
    features = reference.features(arrays, scaled)
    return np.asarray(
        reference.logits(arrays, features) if question.head == "classifier" else features
    )


def _timed(form: str, compute: Callable[[], Array], *, warm: bool = True) -> Answer:
    """Time one call, with `warm` after a first call that compiles."""
    if warm:
        compute()
    begin = time.monotonic()
    output = compute()
    return Answer(form, output, time.monotonic() - begin)

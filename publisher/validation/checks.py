"""The checks. Each takes the loaded model and returns what it measured."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_hub as hub

from publisher.architectures import Architecture
from publisher.validation import photographs
from publisher.validation.operations import forbidden_operations
from publisher.validation.report import Check, Comparison, Figure, Tolerance, compare

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Subject:
    """What the checks look at.

    `model` is what `hub.load(address)` returned and `directory` where it was unpacked;
    `arrays` are the checkpoint's (float32, by name). `feature_extractor` is the address
    of the same checkpoint's model with that head, where the registry has one.
    """

    architecture: Architecture
    head: Literal["classifier", "feature_extractor"]
    output: str
    output_size: int
    input_range: tuple[float, float]
    resolution: int
    parity_resolutions: tuple[int, ...]
    tolerance: Tolerance
    synthetic: bool
    arrays: dict[str, npt.NDArray[np.float32]]
    class_names_file: str | None
    class_names: tuple[str, ...] | None
    address: str
    directory: Path
    model: Any
    feature_extractor: str | None

    @property
    def reference(self) -> Any:
        """The module with the float64 forward pass."""
        return importlib.import_module(f"{self.architecture.package}.reference")

    @property
    def network(self) -> Any:
        """The module with the TensorFlow form."""
        return importlib.import_module(f"{self.architecture.package}.network")

    def names(self) -> list[str]:
        """Return the arrays that this head keeps, in the order of the checkpoint."""
        kept = list(self.architecture.arrays(1))
        return kept if self.head == "classifier" else self.architecture.backbone(kept)

    def images(self, batch: int, height: int, width: int, seed: int) -> npt.NDArray[np.float32]:
        """Seeded noise, (batch, height, width, 3) float32, all over the input range."""
        low, high = self.input_range
        noise = np.random.default_rng(seed).random((batch, height, width, 3), dtype=np.float32)
        return np.asarray(noise * np.float32(high - low) + np.float32(low))

    def predict(self, images: npt.NDArray[np.float32]) -> Array:
        """Call the loaded model: (batch, height, width, 3) -> (batch, output_size)."""
        return np.asarray(self.model(tf.constant(images)).numpy())

    def expected(self, images: npt.NDArray[np.float32]) -> Array:
        """Return the float64 truth for `images`, (batch, output_size)."""
        low, high = self.input_range
        scaled = (images.astype(np.float64) - low) * (2.0 / (high - low)) - 1.0
        pooled = self.reference.features(self.arrays, scaled)
        if self.head == "feature_extractor":
            return np.asarray(pooled)
        return np.asarray(self.reference.logits(self.arrays, pooled))


def _outcome(
    name: str, compared: dict[str, tuple[Comparison, dict[str, Array]]], unit: str
) -> Check:
    """Join several comparisons into one check; the worst one is described."""
    figures: dict[str, Figure] = {}
    tensors: dict[str, Array] = {}
    for label, (comparison, compared_tensors) in compared.items():
        figures.update(comparison.figures(f"{label}_"))
        if not comparison.within:
            tensors.update({f"{label}_{key}": value for key, value in compared_tensors.items()})
    worst = max(
        compared,
        key=lambda label: (not compared[label][0].within, compared[label][0].largest_error),
    )
    comparison, _ = compared[worst]
    return Check(
        name,
        "passed" if comparison.within else "failed",
        f"{comparison.describe()} ({unit} {worst})",
        figures,
        tensors,
    )


def _names(variables: Iterable[Any]) -> list[str]:
    """Return the names of variables as the checkpoint has them, sorted."""
    return sorted(variable.name.partition(":")[0] for variable in variables)


def interface_is_reusable(subject: Subject) -> Check:
    """Look for what a reusable SavedModel offers, with every array trainable.

    Source: https://www.tensorflow.org/hub/reusable_saved_models.
    """
    name = "interface_is_reusable"
    offered = ("variables", "trainable_variables", "regularization_losses")
    missing = [attribute for attribute in offered if not hasattr(subject.model, attribute)]
    if not callable(subject.model):
        missing.insert(0, "__call__")
    if missing:
        return Check(name, "failed", f"the loaded object has no {', '.join(missing)}")
    wanted = sorted(subject.names())
    lists = {attribute: _names(getattr(subject.model, attribute)) for attribute in offered[:2]}
    losses = len(subject.model.regularization_losses)
    figures: dict[str, Figure] = {key: len(found) for key, found in lists.items()}
    figures["regularization_losses"] = losses
    for attribute, found in lists.items():
        if found != wanted:
            odd = sorted(set(found) ^ set(wanted)) or ["a name is there twice"]
            return Check(
                name,
                "failed",
                f"{len(found)} {attribute} where the checkpoint has {len(wanted)} arrays;"
                f" they differ in: {', '.join(odd[:5])}",
                figures,
            )
    if losses:
        return Check(name, "failed", f"{losses} regularization losses, expected none", figures)
    return Check(
        name, "passed", f"callable, {len(wanted)} variables, all of them trainable", figures
    )


def variables_equal_the_checkpoint(subject: Subject) -> Check:
    """Compare every variable with its array, bit for bit."""
    name = "variables_equal_the_checkpoint"
    variables = {variable.name.partition(":")[0]: variable for variable in subject.model.variables}
    names = subject.names()
    if set(variables) != set(names):
        odd = sorted(set(variables) ^ set(names))
        return Check(name, "failed", f"not in both model and checkpoint: {', '.join(odd[:5])}")
    parameters, differing = 0, []
    tensors: dict[str, Array] = {}
    for key in names:
        measured, expected = variables[key].numpy(), np.ascontiguousarray(subject.arrays[key])
        parameters += measured.size
        if not _same_bits(measured, expected):
            differing.append(key)
            if len(differing) == 1:
                tensors = {"measured": measured, "expected": expected}
    figures = {"variables": len(names), "parameters": parameters, "differing": len(differing)}
    if differing:
        line = f"{len(differing)} of {len(names)} variables differ, the first is {differing[0]}"
        return Check(name, "failed", line, figures, tensors)
    return Check(
        name, "passed", f"{len(names)} variables, {parameters:,} parameters, bit for bit", figures
    )


def _same_bits(one: Array, other: Array) -> bool:
    same_form = one.dtype == other.dtype and one.shape == other.shape
    return same_form and np.array_equal(one.view(np.uint32), other.view(np.uint32))


def parity_with_float64_reference(subject: Subject) -> Check:
    """Hold the outputs to a float64 NumPy forward pass, at several resolutions."""
    compared = {}
    for seed, resolution in enumerate(subject.parity_resolutions):
        images = subject.images(1, resolution, resolution, seed)
        measured, expected = subject.predict(images), subject.expected(images)
        compared[f"{resolution}px"] = (
            compare(measured, expected, subject.tolerance),
            {"images": images, "measured": measured, "expected": expected},
        )
    return _outcome("parity_with_float64_reference", compared, "at")


def loads_as_a_keras_layer(subject: Subject) -> Check:
    """Load with `hub.KerasLayer(trainable=True)`: all weights trainable, same result."""
    name = "loads_as_a_keras_layer"
    layer = hub.KerasLayer(subject.address, trainable=True)
    size = max(subject.architecture.smallest_image, 64)
    images = subject.images(1, size, size, seed=10)
    measured, expected = np.asarray(layer(tf.constant(images)).numpy()), subject.predict(images)
    comparison = compare(measured, expected, subject.tolerance)
    trainable, wanted = len(layer.trainable_weights), len(subject.names())
    figures = {"trainable_weights": trainable, **comparison.figures()}
    if trainable != wanted:
        return Check(name, "failed", f"{trainable} trainable weights, expected {wanted}", figures)
    return Check(
        name,
        "passed" if comparison.within else "failed",
        f"{trainable} trainable weights; against hub.load: {comparison.describe()}",
        figures,
        {"images": images, "measured": measured, "expected": expected},
    )


def result_is_independent_of_the_batch(subject: Subject) -> Check:
    """Compare an image alone (batch 1) with the same image among three (batch 3).

    The images are not square, at two sizes: any height and width must do.
    """
    smallest = subject.architecture.smallest_image
    compared = {}
    for height, width in ((smallest, smallest + 16), (smallest + 33, smallest)):
        images = subject.images(3, height, width, seed=20)
        together = subject.predict(images)
        alone = np.concatenate([subject.predict(images[index : index + 1]) for index in range(3)])
        compared[f"{height}x{width}"] = (
            compare(together, alone, subject.tolerance),
            {"images": images, "measured": together, "expected": alone},
        )
    return _outcome("result_is_independent_of_the_batch", compared, "at")


def signature_is_as_documented(subject: Subject) -> Check:
    """Compare the `serving_default` signature with what the pages state, and call it."""
    name = "signature_is_as_documented"
    signatures = subject.model.signatures
    if "serving_default" not in signatures:
        found = ", ".join(sorted(signatures)) or "none"
        return Check(name, "failed", f"no signature serving_default; signatures: {found}")
    signature = signatures["serving_default"]
    _, inputs = signature.structured_input_signature
    measured = _described(inputs), _described(signature.structured_outputs)
    expected = (
        {"images": "float32 [None, None, None, 3]"},
        {subject.output: f"float32 [None, {subject.output_size}]"},
    )
    figures: dict[str, Figure] = {**measured[0], **measured[1]}
    if measured != expected:
        line = f"takes {measured[0]} and returns {measured[1]}"
        wanted = f"expected {expected[0]} and {expected[1]}"
        return Check(name, "failed", f"{line}; {wanted}", figures)
    size = subject.architecture.smallest_image
    images = subject.images(2, size, size, seed=30)
    served = np.asarray(signature(images=tf.constant(images))[subject.output].numpy())
    called = subject.predict(images)
    comparison = compare(served, called, subject.tolerance)
    return Check(
        name,
        "passed" if comparison.within else "failed",
        f"images -> {subject.output} {list(served.shape)}; against a call: "
        + comparison.describe(),
        {**figures, **comparison.figures()},
        {"images": images, "measured": served, "expected": called},
    )


def _described(specs: dict[str, Any]) -> dict[str, str]:
    return {key: f"{spec.dtype.name} {spec.shape.as_list()}" for key, spec in specs.items()}


def training_argument_changes_nothing(subject: Subject) -> Check:
    """Call with `training=True` and `training=False`; the network has no such difference."""
    size = subject.architecture.smallest_image
    images = subject.images(1, size, size, seed=40)
    training, inference = (
        np.asarray(subject.model(tf.constant(images), training=training).numpy())
        for training in (True, False)
    )
    comparison = compare(training, inference, subject.tolerance)
    return Check(
        "training_argument_changes_nothing",
        "passed" if comparison.within else "failed",
        comparison.describe(),
        comparison.figures(),
        {"images": images, "measured": training, "expected": inference},
    )


def logits_follow_from_the_features(subject: Subject) -> Check:
    """Hold the classifier to its feature extractor's features through the head.

    The feature extractor is loaded for this check alone.
    """
    name = "logits_follow_from_the_features"
    if subject.head != "classifier":
        return Check(name, "skipped", "a feature extractor has no head")
    if subject.feature_extractor is None:
        return Check(name, "skipped", "the registry has no feature extractor of this checkpoint")
    size = max(subject.architecture.smallest_image, 64)
    images = subject.images(2, size, size, seed=50)
    features = np.asarray(hub.load(subject.feature_extractor)(tf.constant(images)).numpy())
    expected = subject.reference.logits(subject.arrays, features)
    measured = subject.predict(images)
    comparison = compare(measured, expected, subject.tolerance)
    return Check(
        name,
        "passed" if comparison.within else "failed",
        comparison.describe(),
        comparison.figures(),
        {"images": images, "features": features, "measured": measured, "expected": expected},
    )


def gradients_are_finite(subject: Subject) -> Check:
    """Take one gradient step's gradients: one for every trainable variable, all finite."""
    name = "gradients_are_finite"
    size = max(subject.architecture.smallest_image, 64)
    images = tf.constant(subject.images(2, size, size, seed=60))
    variables = subject.model.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(subject.model(images, training=True)))
    missing: list[str] = []
    infinite: list[str] = []
    largest = 0.0
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        if gradient is None:
            missing.append(variable.name)
            continue
        magnitude = float(np.abs(gradient.numpy()).max())  # NaN goes through the maximum
        if not np.isfinite(magnitude):
            infinite.append(variable.name)
        largest = max(largest, magnitude) if np.isfinite(magnitude) else largest
    figures = {
        "trainable_variables": len(variables),
        "without_gradient": len(missing),
        "not_finite": len(infinite),
        "largest_finite_gradient": largest,
    }
    if _names(variables) != sorted(subject.names()) or missing or infinite:
        first = f", the first {(missing + infinite)[0]}" if missing or infinite else ""
        return Check(
            name,
            "failed",
            f"{len(variables)} trainable variables of {len(subject.names())}; {len(missing)} "
            f"without a gradient, {len(infinite)} with one that is not finite{first}",
            figures,
        )
    return Check(
        name,
        "passed",
        f"{len(variables)} variables, all with a finite one; largest element {largest:.1e}",
        figures,
    )


def graph_holds_only_allowed_operations(subject: Subject) -> Check:
    """Look for operations that read files, open connections or call back into Python."""
    count, found = forbidden_operations(
        subject.directory / "saved_model.pb", subject.network.NETWORK_OPERATIONS
    )
    return Check(
        "graph_holds_only_allowed_operations",
        "failed" if found else "passed",
        f"not allowed: {', '.join(found[:5])}" if found else f"{count:,} operations",
        {"operations": count, "forbidden": len(found)},
    )


def class_names_are_in_the_assets(subject: Subject) -> Check:
    """Compare the class names in the unpacked `assets/` with the registry's."""
    name = "class_names_are_in_the_assets"
    if subject.class_names_file is None or subject.class_names is None:
        return Check(name, "skipped", "the registry names no classes for this variant")
    path = subject.directory / "assets" / subject.class_names_file
    if not path.is_file():
        return Check(name, "failed", f"assets/{subject.class_names_file} is missing")
    lines = tuple(path.read_text(encoding="utf-8").splitlines())
    same = lines == subject.class_names and len(lines) == subject.output_size
    return Check(
        name,
        "passed" if same else "failed",
        f"{len(lines):,} names for {subject.output_size:,} logits"
        + ("" if same else ", not alike"),
        {"names": len(lines)},
    )


def photographs_get_the_right_label(subject: Subject) -> Check:
    """Predict photographs; only real weights can know them."""
    name = "photographs_get_the_right_label"
    if subject.synthetic:
        return Check(name, "skipped", "synthetic weights recognize nothing")
    known = set(subject.class_names or ())
    chosen = [photo for photo in photographs.PHOTOGRAPHS if photo.labels <= known]
    if subject.head != "classifier" or not chosen:
        return Check(name, "skipped", "the variant has no ImageNet-1k labels")
    assert subject.class_names is not None  # noqa: S101  follows from `chosen`
    figures: dict[str, Figure] = {}
    tensors: dict[str, Array] = {}
    wrong = []
    for photo in chosen:
        images = photographs.load(photo, subject.resolution, subject.input_range)
        logits = subject.predict(images)[0]
        label = subject.class_names[int(logits.argmax())]
        figures[photo.file] = label
        if label not in photo.labels:
            wrong.append(f"{photo.file} is called '{label}', expected {sorted(photo.labels)}")
            tensors |= {f"{photo.file}_images": images, f"{photo.file}_logits": logits}
    labels = "; ".join(f"{file}: {label}" for file, label in figures.items())
    return Check(
        name, "failed" if wrong else "passed", "; ".join(wrong) or labels, figures, tensors
    )


CHECKS: tuple[Callable[[Subject], Check], ...] = (
    interface_is_reusable,
    signature_is_as_documented,
    variables_equal_the_checkpoint,
    class_names_are_in_the_assets,
    graph_holds_only_allowed_operations,
    parity_with_float64_reference,
    result_is_independent_of_the_batch,
    training_argument_changes_nothing,
    logits_follow_from_the_features,
    loads_as_a_keras_layer,
    gradients_are_finite,
    photographs_get_the_right_label,
)

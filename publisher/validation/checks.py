"""The checks of a loaded model. Each returns its outcome and the figures it measured."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_hub as hub

from publisher.documents.report import Figure
from publisher.validation import photographs
from publisher.validation.expected import BATCH, images, noise
from publisher.validation.graph_checks import GraphSubject
from publisher.validation.report import Check, Comparison, compare
from publisher.weights import Arrays

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Subject(GraphSubject):
    """A loaded model and everything its checks compare it with.

    `model` is the object that `hub.load(address)` returned. `compiled` wraps it in one
    function for images of any size, because TensorFlow would otherwise trace and optimize the
    model again for each size; it is `None` if the model is not callable.

    `arrays` are the checkpoint's arrays (float32, by name). `expected` maps a resolution to
    the checkpoint's float64 features. `extractor_features` maps a resolution to the features
    that this checkpoint's feature extractor returned; it is `None` if the registry has no such
    variant, and may lack resolutions at which that extractor failed.

    `answers` caches the model's results by resolution and batch size.
    """

    arrays: Arrays
    expected: Mapping[int, Array]
    extractor_features: Mapping[int, Array] | None
    model: Any
    compiled: Any = None
    answers: dict[tuple[int, int], Array] = field(default_factory=dict)

    @property
    def reference(self) -> Any:
        """The module with the float64 forward pass."""
        return importlib.import_module(f"{self.architecture.package}.reference")

    @property
    def smallest(self) -> int:
        """The smallest parity resolution, in pixels."""
        return min(self.parity_resolutions)

    def images(self, batch: int, height: int, width: int, seed: int) -> npt.NDArray[np.float32]:
        """Return seeded noise that covers the input range, (batch, height, width, 3) float32."""
        return noise(self.input_range, batch, height, width, seed)

    def predict(self, images: npt.NDArray[np.float32]) -> Array:
        """Call the loaded model: (batch, height, width, 3) -> (batch, output_size)."""
        call = self.compiled or self.model
        return np.asarray(call(tf.constant(images)).numpy())

    def answer(self, resolution: int, batch: int = 1) -> Array:
        """Return the model's result for the first `batch` images of a resolution, cached."""
        if (resolution, batch) not in self.answers:
            chosen = images(self.input_range, resolution)[:batch]
            self.answers[resolution, batch] = self.predict(chosen)
        return self.answers[resolution, batch]

    def truth(self, resolution: int) -> Array:
        """Return the float64 result for the first image of a resolution, (1, output_size)."""
        features = self.expected[resolution]
        if self.head == "feature_extractor":
            return features
        return np.asarray(self.reference.logits(self.arrays, features))


def _outcome(
    name: str, compared: dict[str, tuple[Comparison, dict[str, Array]]], unit: str
) -> Check:
    """Combine several comparisons into one check, whose summary describes the worst one."""
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
    """Return the variables' names as in the checkpoint, sorted."""
    return sorted(variable.name.partition(":")[0] for variable in variables)


def interface_is_reusable(subject: Subject) -> Check:
    """Check that the model implements the interface of a reusable SavedModel.

    Every variable must be trainable, or none of them in a folded variant.
    Source: https://www.tensorflow.org/hub/reusable_saved_models.
    """
    name = "interface_is_reusable"
    offered = ("variables", "trainable_variables", "regularization_losses")
    missing = [attribute for attribute in offered if not hasattr(subject.model, attribute)]
    if not callable(subject.model):
        missing.insert(0, "__call__")
    if missing:
        return Check(name, "failed", f"the loaded object has no {', '.join(missing)}")
    expected = {
        "variables": sorted(subject.names()),
        "trainable_variables": sorted(subject.trainable_names()),
    }
    lists = {attribute: _names(getattr(subject.model, attribute)) for attribute in offered[:2]}
    losses = len(subject.model.regularization_losses)
    figures: dict[str, Figure] = {key: len(found) for key, found in lists.items()}
    figures["regularization_losses"] = losses
    for attribute, found in lists.items():
        wanted = expected[attribute]
        if found != wanted:
            odd = sorted(set(found) ^ set(wanted)) or ["a name is there twice"]
            return Check(
                name,
                "failed",
                f"{len(found)} {attribute}, expected {len(wanted)} of the checkpoint's arrays;"
                f" they differ in: {', '.join(odd[:5])}",
                figures,
            )
    if losses:
        return Check(name, "failed", f"{losses} regularization losses, expected none", figures)
    trainable = "none of them trainable (folded)" if subject.folded else "all of them trainable"
    line = f"callable, {len(lists['variables'])} variables, {trainable}"
    return Check(name, "passed", line, figures)


def variables_equal_the_checkpoint(subject: Subject) -> Check:
    """Compare every variable with the checkpoint's array, bit for bit.

    A folded variant's kernels must equal those that the float64 reference standardizes. They
    too must agree to the bit, because both sides do the same arithmetic in the same order.
    """
    # Release each array after its comparison: model and file together may not fit in memory.
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
        if subject.folded:
            expected = subject.reference.folded(key, expected)
        parameters += measured.size
        if not _same_bits(measured, expected):
            differing.append(key)
            if len(differing) == 1:
                tensors = {"measured": measured, "expected": expected.copy()}
        subject.arrays.release()
    figures = {"variables": len(names), "parameters": parameters, "differing": len(differing)}
    if differing:
        line = f"{len(differing)} of {len(names)} variables differ, the first is {differing[0]}"
        return Check(name, "failed", line, figures, tensors)
    line = f"{len(names)} variables, {parameters:,} parameters, bit for bit"
    if subject.folded:
        line += "; kernels as the float64 reference standardizes them, rounded once"
    return Check(name, "passed", line, figures)


def _same_bits(one: Array, other: Array) -> bool:
    same_form = one.dtype == other.dtype and one.shape == other.shape
    return same_form and np.array_equal(one.view(np.uint32), other.view(np.uint32))


def parity_with_float64_reference(subject: Subject) -> Check:
    """Compare the outputs with a float64 NumPy forward pass, at several resolutions."""
    compared = {}
    for resolution in subject.parity_resolutions:
        measured, expected = subject.answer(resolution), subject.truth(resolution)
        compared[f"{resolution}px"] = (
            compare(measured, expected, subject.tolerance),
            {
                "images": images(subject.input_range, resolution)[:1],
                "measured": measured,
                "expected": expected,
            },
        )
    return _outcome("parity_with_float64_reference", compared, "at")


def loads_as_a_keras_layer(subject: Subject) -> Check:
    """Wrap the model in `hub.KerasLayer(trainable=True)` and compare its result with a call.

    All weights must be trainable, or none of them in a folded variant. The layer wraps the
    object that `hub.load` returned: given an address, a layer starts with `hub.load` too.
    """
    name = "loads_as_a_keras_layer"
    resolution = subject.smallest
    batch = images(subject.input_range, resolution)[:1]
    layer = hub.KerasLayer(subject.model, trainable=True)
    measured = np.asarray(layer(tf.constant(batch)).numpy())
    expected = subject.answer(resolution)
    comparison = compare(measured, expected, subject.tolerance)
    trainable, wanted = len(layer.trainable_weights), len(subject.trainable_names())
    figures = {"trainable_weights": trainable, **comparison.figures()}
    if trainable != wanted:
        return Check(name, "failed", f"{trainable} trainable weights, expected {wanted}", figures)
    return Check(
        name,
        "passed" if comparison.within else "failed",
        f"{trainable} trainable weights; against hub.load: {comparison.describe()}",
        figures,
        {"images": batch, "measured": measured, "expected": expected},
    )


def result_is_independent_of_the_batch(subject: Subject) -> Check:
    """Compare the result for an image alone (batch 1) with its result in a batch of three.

    At the smallest resolution this compares all three images, at the others only the first.
    """
    compared = {}
    for resolution in subject.parity_resolutions:
        batch = images(subject.input_range, resolution)
        count = BATCH if resolution == subject.smallest else 1
        others = [subject.predict(batch[index : index + 1]) for index in range(1, count)]
        alone = np.concatenate([subject.answer(resolution), *others])
        together = subject.answer(resolution, BATCH)[:count]
        compared[f"{resolution}px"] = (
            compare(together, alone, subject.tolerance),
            {"images": batch, "measured": together, "expected": alone},
        )
    return _outcome("result_is_independent_of_the_batch", compared, "at")


def signature_is_as_documented(subject: Subject) -> Check:
    """Compare the `serving_default` signature with the documented one, and call it.

    The call passes images that are not square, because any height and width must work.
    """
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
    batch = subject.images(2, size, size + 16, seed=30)
    served = np.asarray(signature(images=tf.constant(batch))[subject.output].numpy())
    called = subject.predict(batch)
    comparison = compare(served, called, subject.tolerance)
    return Check(
        name,
        "passed" if comparison.within else "failed",
        f"images -> {subject.output} {list(served.shape)}; against a call: "
        + comparison.describe(),
        {**figures, **comparison.figures()},
        {"images": batch, "measured": served, "expected": called},
    )


def _described(specs: dict[str, Any]) -> dict[str, str]:
    return {key: f"{spec.dtype.name} {spec.shape.as_list()}" for key, spec in specs.items()}


def logits_follow_from_the_features(subject: Subject) -> Check:
    """Compare the logits with those computed from the feature extractor's own features."""
    name = "logits_follow_from_the_features"
    if subject.head != "classifier":
        return Check(name, "skipped", "a feature extractor has no head")
    if subject.extractor_features is None:
        return Check(name, "skipped", "the registry has no feature extractor of this checkpoint")
    absent = [r for r in subject.parity_resolutions if r not in subject.extractor_features]
    if absent:
        line = f"its feature extractor has returned none at {', '.join(map(str, absent))} px"
        return Check(name, "failed", f"{line}; publish that one first, or see what blocks it")
    compared = {}
    for resolution in subject.parity_resolutions:
        features = subject.extractor_features[resolution]
        expected = np.asarray(subject.reference.logits(subject.arrays, features))
        measured = subject.answer(resolution)
        compared[f"{resolution}px"] = (
            compare(measured, expected, subject.tolerance),
            {"features": features, "measured": measured, "expected": expected},
        )
    return _outcome(name, compared, "at")


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
    """Classify photographs. Skipped for synthetic weights, which recognize nothing."""
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
        picture = photographs.load(photo, subject.resolution, subject.input_range)
        logits = subject.predict(picture)[0]
        label = subject.class_names[int(logits.argmax())]
        figures[photo.file] = label
        if label not in photo.labels:
            wrong.append(f"{photo.file} is called '{label}', expected {sorted(photo.labels)}")
            tensors |= {f"{photo.file}_images": picture, f"{photo.file}_logits": logits}
    labels = "; ".join(f"{file}: {label}" for file, label in figures.items())
    return Check(
        name, "failed" if wrong else "passed", "; ".join(wrong) or labels, figures, tensors
    )


CHECKS: tuple[Callable[[Subject], Check], ...] = (
    interface_is_reusable,
    variables_equal_the_checkpoint,
    class_names_are_in_the_assets,
    parity_with_float64_reference,
    result_is_independent_of_the_batch,
    logits_follow_from_the_features,
    photographs_get_the_right_label,
    loads_as_a_keras_layer,
    signature_is_as_documented,
)

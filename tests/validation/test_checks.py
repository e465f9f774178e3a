"""Every check passes on a good archive and fails on a bad one of its kind."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_hub as hub
from tensorflow.core.protobuf import saved_model_pb2

from publisher.documents.report import Tolerance
from publisher.families.bit import BitArchitecture, network
from publisher.families.bit.network import FOLDED_NETWORK_OPERATIONS
from publisher.formats.archive import pack
from publisher.util.resources import distributed
from publisher.validation import checks, graph_checks, training_checks
from publisher.validation.checks import CHECKS, Subject
from publisher.validation.expected import expected_features
from publisher.validation.graph_checks import GRAPH_CHECKS, GraphSubject
from publisher.validation.operations import forbidden_operations
from publisher.validation.report import Check, Report, ValidationError
from publisher.validation.request import Request, common_fields
from publisher.validation.training import TrainingStep, take_training_step
from publisher.validation.training_checks import TRAINING_CHECKS, TrainingSubject
from publisher.validation.validate import validate
from publisher.weights import Arrays

Array = npt.NDArray[Any]
Weights = dict[str, npt.NDArray[np.float32]]

ROOT_KERNEL = "resnet/root_block/standardized_conv2d/kernel"
HEAD_BIAS = "resnet/head/conv2d/bias"
IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32, "images")
ONLY_OF_A_CLASSIFIER = {"class_names_are_in_the_assets", "logits_follow_from_the_features"}
NEEDS_REAL_WEIGHTS = "photographs_get_the_right_label"
EVERY_CHECK = pytest.mark.parametrize(
    "check", [*GRAPH_CHECKS, *TRAINING_CHECKS, *CHECKS], ids=lambda check: check.__name__
)


class Altered:
    """A loaded model with another result, or other attributes."""

    def __init__(
        self, model: Any, change: Callable[..., tf.Tensor] | None = None, **attributes: Any
    ) -> None:
        self._model = model
        self._change = change
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        call = self._model.__call__  # a Checkpoint is not callable itself
        result = call(images, training=training)
        return self._change(result, images, training) if self._change else result


def changed(subject: Subject, change: Callable[..., tf.Tensor]) -> Subject:
    """The subject with a model whose result is `change(result, images, training)`."""
    return replace(subject, model=Altered(subject.model, change))


def trained(subject: Subject, **norms: float | None) -> TrainingSubject:
    """What a training step gives that leaves the result alone, and a gradient for every variable.

    `norms` are of other gradients; `ROOT_KERNEL=None` and the like.
    """
    result = np.ones((1, subject.output_size), np.float32)
    found = dict.fromkeys(subject.names(), 1.0) | {globals()[k]: v for k, v in norms.items()}
    step = TrainingStep(result, result, found)
    return TrainingSubject(
        **common_fields(subject, GraphSubject), step=step, unused=frozenset(), leaked_objects=0
    )


def with_arrays(subject: Subject, **changes: Array) -> Subject:
    """The subject with other arrays in its checkpoint; `HEAD_BIAS=...` and the like."""
    arrays = Arrays(subject.arrays._mapped)
    arrays.update(subject.arrays)
    arrays.update({globals()[name]: value for name, value in changes.items()})
    return replace(subject, arrays=arrays)


def one_element_off(result: tf.Tensor, images: tf.Tensor, training: bool) -> tf.Tensor:
    del images, training
    return tf.tensor_scatter_nd_add(result, [[tf.shape(result)[0] - 1, 3]], [0.25])


def figure(check: Check, name: str) -> Any:
    return check.figures[name]


def outcome(report: Report, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


# Good archives.


@EVERY_CHECK
def test_passes_on_a_good_classifier(
    check: Callable[[Subject], Any], reports: dict[str, Report]
) -> None:
    result = outcome(reports["classifier"], check.__name__)
    expected = "skipped" if check.__name__ == NEEDS_REAL_WEIGHTS else "passed"
    assert (result.status, bool(result.summary)) == (expected, True), result.summary


@EVERY_CHECK
def test_passes_on_a_good_feature_extractor(
    check: Callable[[Subject], Any], reports: dict[str, Report]
) -> None:
    result = outcome(reports["feature_extractor"], check.__name__)
    skipped = {NEEDS_REAL_WEIGHTS, *ONLY_OF_A_CLASSIFIER}
    expected = "skipped" if check.__name__ in skipped else "passed"
    assert (result.status, bool(result.summary)) == (expected, True), result.summary


def test_measured_figures_are_in_the_report(reports: dict[str, Report]) -> None:
    figures: dict[str, Any] = {c.name: c.figures for c in reports["classifier"].checks}
    parity = figures["parity_with_float64_reference"]
    for label in ("48px", "64px"):
        assert 0 < parity[f"{label}_largest_error"] < parity[f"{label}_bound"] < 1e-2
        assert parity[f"{label}_mismatches_per_million"] == 0
    assert figures["variables_equal_the_checkpoint"]["variables"] == 63
    assert figures["gradients_are_finite"]["without_gradient"] == 0
    assert figures["gradients_are_finite"]["largest_gradient_norm"] > 0
    assert figures["loads_as_a_keras_layer"]["trainable_weights"] == 63
    assert figures["graph_holds_only_allowed_operations"]["forbidden"] == 0


# Wrong values.


@pytest.fixture
def wrong_kernel(subject: Subject) -> Subject:
    """A model with one wrong element in one kernel."""
    model = hub.load(str(subject.directory))
    variable = next(v for v in model.variables if v.name.startswith(ROOT_KERNEL))
    value = variable.numpy()
    value[3, 4, 1, 7] += 0.5
    variable.assign(value)
    return replace(subject, model=model)


def test_a_wrong_kernel_value_breaks_parity_at_every_resolution(wrong_kernel: Subject) -> None:
    check = checks.parity_with_float64_reference(wrong_kernel)
    assert check.status == "failed"
    assert "bound" in check.summary
    assert "worst element [0, " in check.summary
    for label in ("48px", "64px"):
        assert figure(check, f"{label}_largest_error") > figure(check, f"{label}_bound")
        assert check.tensors[f"{label}_images"].shape[0] == 1
        assert check.tensors[f"{label}_measured"].shape == (1, 10)
        assert check.tensors[f"{label}_expected"].dtype == np.float64


def test_a_wrong_kernel_value_is_found_among_the_variables(wrong_kernel: Subject) -> None:
    check = checks.variables_equal_the_checkpoint(wrong_kernel)
    assert check.status == "failed"
    assert check.summary == f"1 of 63 variables differ, the first is {ROOT_KERNEL}"
    assert np.argwhere(check.tensors["measured"] != check.tensors["expected"]).tolist() == [
        [3, 4, 1, 7]
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: np.nextafter(value, np.float32(np.inf)),
        lambda value: value.astype(np.float64),
        lambda value: value[:-1],
        lambda value: np.where(np.arange(value.size) == 2, np.float32(-0.0), value * 0),
    ],
    ids=["one step of rounding", "another dtype", "another length", "the sign of a zero"],
)
def test_variables_are_compared_bit_for_bit(
    spoil: Callable[[Array], Array], subject: Subject
) -> None:
    bias = subject.arrays[HEAD_BIAS]
    if spoil(bias).dtype == bias.dtype and not np.any(spoil(bias)):
        zeros = np.zeros_like(bias)
        kept = [v for v in subject.model.variables if not v.name.startswith(HEAD_BIAS)]
        model = Altered(subject.model, variables=[*kept, tf.Variable(zeros, name=HEAD_BIAS)])
        subject = replace(subject, model=model)
    check = checks.variables_equal_the_checkpoint(with_arrays(subject, HEAD_BIAS=spoil(bias)))
    assert check.status == "failed"
    assert HEAD_BIAS in check.summary


def test_a_variable_too_many_or_too_few_is_named(subject: Subject) -> None:
    fewer = replace(subject, model=Altered(subject.model, variables=subject.model.variables[1:]))
    odd = tf.Variable(0.0, name="global_step")
    more = replace(subject, model=Altered(subject.model, variables=[*subject.model.variables, odd]))
    for bad, name in ((fewer, ROOT_KERNEL), (more, "global_step")):
        check = checks.variables_equal_the_checkpoint(bad)
        assert check.status == "failed"
        assert name in check.summary


def test_the_checkpoint_is_given_back_array_by_array(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model and file together are two gigabytes for the large networks."""
    given_back: list[None] = []
    monkeypatch.setattr(Arrays, "release", lambda arrays: given_back.append(None))
    assert checks.variables_equal_the_checkpoint(subject).status == "passed"
    assert len(given_back) == 63


def test_the_resolution_that_is_off_is_described_and_kept(subject: Subject) -> None:
    def off_at_64(result: tf.Tensor, images: tf.Tensor, training: bool) -> tf.Tensor:
        return one_element_off(result, images, training) if images.shape[1] == 64 else result

    check = checks.parity_with_float64_reference(changed(subject, off_at_64))
    assert check.status == "failed"
    assert "worst element [0, 3]" in check.summary
    assert check.summary.endswith("(at 64px)")
    assert check.figures["64px_worst_index"] == [0, 3]
    assert check.figures["64px_mismatches_per_million"] == 1e5
    assert check.figures["48px_mismatches_per_million"] == 0
    assert set(check.tensors) == {"64px_images", "64px_measured", "64px_expected"}


def test_a_result_that_is_not_finite_breaks_parity(subject: Subject) -> None:
    check = checks.parity_with_float64_reference(
        changed(subject, lambda result, images, training: result * np.float32(np.nan))
    )
    assert check.status == "failed"
    assert "largest error inf" in check.summary


def test_a_tolerance_of_nothing_fails_instead_of_dividing_by_it(subject: Subject) -> None:
    check = checks.parity_with_float64_reference(
        replace(subject, tolerance=Tolerance(absolute=0.0, relative=0.0))
    )
    assert check.status == "failed"


def test_the_reference_sees_the_range_that_the_model_does(
    subject: Subject, architecture: BitArchitecture, arrays: Weights
) -> None:
    built, _ = network.build(architecture, arrays, (0.0, 255.0), "logits")
    bytes_in = replace(
        subject,
        model=Altered(built),
        input_range=(0.0, 255.0),
        expected=expected_features(architecture, arrays, (0.0, 255.0), (48,)),
        parity_resolutions=(48,),
    )
    assert checks.parity_with_float64_reference(bytes_in).status == "passed"
    assert bytes_in.images(1, 32, 32, 0).max() > 200
    wrong = replace(bytes_in, model=subject.model, answers={})
    assert checks.parity_with_float64_reference(wrong).status == "failed"


# The batch, and the training argument.


@pytest.mark.parametrize(
    "change",
    [
        lambda result, images, training: result + tf.reduce_mean(result, axis=0),
        lambda result, images, training: result * (1.0 + 0.01 * result.shape[0]),
        lambda result, images, training: tf.reverse(result, [0]),
        one_element_off,
    ],
    ids=["mean over the batch", "size of the batch", "order of the batch", "last of the batch"],
)
def test_a_result_that_depends_on_the_batch_is_found(
    change: Callable[..., tf.Tensor], subject: Subject
) -> None:
    if change is one_element_off:

        def change(result: tf.Tensor, images: tf.Tensor, training: bool) -> tf.Tensor:
            batch = result.shape[0]
            return one_element_off(result, images, training) if batch > 1 else result

    check = checks.result_is_independent_of_the_batch(changed(subject, change))
    assert check.status == "failed"
    assert set(check.figures) > {"48px_largest_error", "64px_largest_error"}
    assert check.tensors["48px_images"].shape == (3, 48, 48, 3)


def test_a_batch_that_changes_the_shape_is_an_error(subject: Subject) -> None:
    squeezed = changed(subject, lambda result, images, training: tf.reduce_mean(result, axis=0))
    with pytest.raises(ValidationError, match=r"shape \[3\] where \[30\] is expected"):
        checks.result_is_independent_of_the_batch(squeezed)


def test_what_the_model_answered_is_asked_once(subject: Subject) -> None:
    """An answer costs seconds in the large networks."""
    asked: list[tuple[int, ...]] = []

    def count(result: tf.Tensor, images: tf.Tensor, training: bool) -> tf.Tensor:
        asked.append(tuple(images.shape[:2]))
        return result

    counted = changed(subject, count)
    for _ in range(2):
        checks.parity_with_float64_reference(counted)
        checks.logits_follow_from_the_features(counted)
    assert asked == [(1, 48), (1, 64)]
    assert [counted.answer(64, 3).shape, counted.answer(64, 3).shape] == [(3, 10), (3, 10)]
    assert asked == [(1, 48), (1, 64), (3, 64)]


def test_training_that_changes_the_result_is_found(subject: Subject) -> None:
    good = trained(subject)
    assert training_checks.training_argument_changes_nothing(good).status == "passed"
    off = good.require_step().result.copy()
    off[0, 3] += 0.25
    bad = replace(good, step=replace(good.require_step(), result=off))
    check = training_checks.training_argument_changes_nothing(bad)
    assert check.status == "failed"
    assert "worst element [0, 3]" in check.summary
    assert set(check.tensors) == {"images", "measured", "expected"}


class Scaled:
    """A model that multiplies the mean of an image by one weight; another it does not use."""

    def __init__(self, weight: float) -> None:
        self.trainable_variables = [tf.Variable(weight, name="one"), tf.Variable(1.0, name="other")]
        self.calls: list[tuple[tuple[int, ...], bool]] = []

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        self.calls.append((tuple(images.shape), training))
        return tf.reduce_mean(images, (1, 2)) * self.trainable_variables[0]


def test_a_training_step_gives_the_result_and_the_norm_of_each_gradient() -> None:
    model = Scaled(-3.0)
    batch = np.random.default_rng(0).normal(2, 1, (1, 4, 6, 3)).astype(np.float32)
    step = take_training_step(model, batch)
    means = batch.mean((1, 2))
    np.testing.assert_allclose(step.result, -3 * means, rtol=1e-6)
    # Of the mean of squares: 2 * weight * mean of squares.
    norm = 6 * np.square(means).mean()
    assert step.norms == {"one": pytest.approx(norm, rel=1e-5), "other": None}
    np.testing.assert_array_equal(step.inference, step.result)
    assert model.calls == [((1, 4, 6, 3), True), ((1, 4, 6, 3), False)]


def test_a_training_step_lets_what_is_not_finite_through() -> None:
    batch = np.ones((1, 2, 2, 3), np.float32)
    assert take_training_step(Scaled(np.inf), batch).norms == {"one": np.inf, "other": None}
    nan = take_training_step(Scaled(np.nan), batch).norms["one"]
    assert nan is not None
    assert np.isnan(nan)


def test_a_model_that_stays_in_memory_is_found(subject: Subject) -> None:
    gone = trained(subject)
    assert training_checks.loading_leaves_nothing_behind(gone).status == "passed"
    check = training_checks.loading_leaves_nothing_behind(replace(gone, leaked_objects=3))
    assert check.status == "failed"


# Features and logits.


def test_logits_that_do_not_follow_from_the_features_are_found(subject: Subject) -> None:
    bias = subject.arrays[HEAD_BIAS].copy()
    bias[3] += 0.5
    check = checks.logits_follow_from_the_features(with_arrays(subject, HEAD_BIAS=bias))
    assert check.status == "failed"
    for label in ("48px", "64px"):
        assert check.figures[f"{label}_worst_index"] == [0, 3]
        assert check.tensors[f"{label}_features"].shape == (1, 1024)


def test_features_of_another_model_are_found(subject: Subject) -> None:
    features = {r: values * np.float32(1.01) for r, values in subject.expected.items()}
    check = checks.logits_follow_from_the_features(replace(subject, extractor_features=features))
    assert check.status == "failed"
    assert "bound" in check.summary


def test_a_feature_extractor_with_a_head_is_no_feature_extractor(subject: Subject) -> None:
    logits = {resolution: subject.answer(resolution) for resolution in subject.expected}
    with pytest.raises(ValueError, match="matmul"):
        checks.logits_follow_from_the_features(replace(subject, extractor_features=logits))


def test_logits_are_not_held_to_features_that_nobody_publishes(subject: Subject) -> None:
    check = checks.logits_follow_from_the_features(replace(subject, extractor_features=None))
    assert check.status == "skipped"


def test_a_feature_extractor_that_returned_nothing_proves_nothing(subject: Subject) -> None:
    some = {48: subject.expected[48]}
    for features, where in (({}, "48, 64 px"), (some, "none at 64 px")):
        bad = replace(subject, extractor_features=features)
        check = checks.logits_follow_from_the_features(bad)
        assert check.status == "failed"
        assert where in check.summary


# The interface.


@pytest.fixture(scope="module")
def saved_module(
    architecture: BitArchitecture, arrays: Weights, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The same network, saved with a `tf.Module` as its root."""
    built, _ = network.build(architecture, arrays, (-1.0, 1.0), "logits")

    class Root(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kept = list(built.variables)
            self.forward = built.__call__

        @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return self.forward(images, training=False)

    directory = str(tmp_path_factory.mktemp("module"))
    root = Root()
    assert len(root.trainable_variables) == 63
    tf.saved_model.save(root, directory)
    return directory


def test_a_module_root_that_lost_its_trainable_variables_is_found_by_keras(
    saved_module: str, subject: Subject
) -> None:
    model = Altered(hub.load(saved_module))
    check = checks.loads_as_a_keras_layer(replace(subject, model=hub.load(saved_module)))
    assert check.status == "failed"
    assert check.summary == "0 trainable weights, expected 63"
    check = checks.interface_is_reusable(replace(subject, model=model))
    assert check.status == "failed"
    assert check.summary == (
        "the loaded object has no variables, trainable_variables, regularization_losses"
    )


def test_a_layer_is_made_of_the_model_that_was_loaded(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would not fit into memory beside the first."""
    made: list[Any] = []
    layer = hub.KerasLayer

    def remember(handle: Any, **settings: Any) -> Any:
        made.append(handle)
        made.append(layer(handle, **settings))
        return made[1]

    monkeypatch.setattr(hub, "KerasLayer", remember)
    assert checks.loads_as_a_keras_layer(subject).status == "passed"
    assert made[0] is subject.model
    own = {id(variable) for variable in subject.model.variables}
    assert {id(weight) for weight in made[1].weights} == own


def test_a_layer_with_another_result_than_the_model_is_found(subject: Subject) -> None:
    subject.answer(subject.smallest)  # which the altered model is held to
    check = checks.loads_as_a_keras_layer(changed(subject, one_element_off))
    assert check.status == "failed"
    assert "worst element [0, 3]" in check.summary
    assert set(check.tensors) == {"images", "measured", "expected"}


@pytest.mark.parametrize("count", [0, 1, 62])
def test_a_layer_without_some_trainable_weights_is_found(count: int, subject: Subject) -> None:
    some = Altered(subject.model, trainable_variables=list(subject.model.variables)[:count])
    check = checks.loads_as_a_keras_layer(replace(subject, model=some))
    assert check.status == "failed"
    assert check.summary == f"{count} trainable weights, expected 63"


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [
        (lambda v: {"trainable_variables": v[:-1]}, "62 trainable_variables"),
        (lambda v: {"trainable_variables": []}, "0 trainable_variables"),
        (lambda v: {"variables": [*v, tf.Variable(1, name="odd")]}, "differ in: odd"),
        (lambda v: {"variables": [*v, v[0]]}, "a name is there twice"),
        (lambda v: {"regularization_losses": [lambda: 0.0]}, "1 regularization losses"),
    ],
)
def test_an_interface_that_offers_something_else_is_found(
    attributes: Callable[[list[Any]], dict[str, Any]], complaint: str, subject: Subject
) -> None:
    model = Altered(subject.model, **attributes(list(subject.model.variables)))
    check = checks.interface_is_reusable(replace(subject, model=model))
    assert check.status == "failed"
    assert complaint in check.summary


def test_an_object_that_cannot_be_called_is_found(subject: Subject) -> None:
    check = checks.interface_is_reusable(replace(subject, model=tf.train.Checkpoint()))
    assert check.status == "failed"
    assert "__call__" in check.summary


# The signature.


def signatures(
    directory: Path,
    *,
    shape: Iterable[int | None] = (None, None, None, 3),
    dtype: Any = tf.float32,
    given: str = "images",
    outputs: Iterable[str] = ("logits",),
    size: int = 10,
    key: str = "serving_default",
) -> Any:
    """Save and load a function of this form, and return its signatures."""

    @tf.function(input_signature=[tf.TensorSpec(shape, dtype, given)], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        zeros = tf.zeros((tf.shape(images)[0], size))
        return {name: tf.ensure_shape(zeros, (None, size)) for name in outputs}

    tf.saved_model.save(tf.train.Checkpoint(), str(directory), signatures={key: serve})
    return tf.saved_model.load(str(directory)).signatures


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ({"given": "image"}, "takes {'image': 'float32 [None, None, None, 3]'}"),
        ({"shape": (None, 224, 224, 3)}, "float32 [None, 224, 224, 3]"),
        ({"shape": (1, None, None, 3)}, "float32 [1, None, None, 3]"),
        ({"dtype": tf.float64}, "float64 [None, None, None, 3]"),
        ({"outputs": ["output_0"]}, "returns {'output_0': 'float32 [None, 10]'}"),
        ({"outputs": ["logits", "more"]}, "'more'"),
        ({"size": 1000}, "returns {'logits': 'float32 [None, 1000]'}"),
        ({"key": "predict"}, "no signature serving_default; signatures: predict"),
    ],
    ids=str,
)
def test_another_signature_than_documented_is_found(
    form: dict[str, Any], complaint: str, subject: Subject, tmp_path: Path
) -> None:
    model = Altered(subject.model, signatures=signatures(tmp_path, **form))
    check = checks.signature_is_as_documented(replace(subject, model=model))
    assert check.status == "failed"
    assert complaint in check.summary


def test_a_model_without_signatures_is_found(subject: Subject) -> None:
    model = Altered(subject.model, signatures={})
    check = checks.signature_is_as_documented(replace(subject, model=model))
    assert check.status == "failed"
    assert check.summary == "no signature serving_default; signatures: none"


def test_a_signature_with_another_result_than_a_call_is_found(
    subject: Subject, tmp_path: Path
) -> None:
    model = Altered(subject.model, signatures=signatures(tmp_path))
    check = checks.signature_is_as_documented(replace(subject, model=model))
    assert check.status == "failed"
    assert "against a call: largest error" in check.summary
    assert set(check.tensors) == {"images", "measured", "expected"}


# Gradients.


def test_a_variable_without_a_gradient_is_found(subject: Subject) -> None:
    check = training_checks.gradients_are_finite(trained(subject, HEAD_BIAS=None))
    assert check.status == "failed"
    assert check.figures["without_gradient"] == 1
    assert check.figures["not_finite"] == 0
    assert HEAD_BIAS in check.summary


@pytest.mark.parametrize("norm", [np.inf, np.nan])
def test_a_gradient_that_is_not_finite_is_found(norm: float, subject: Subject) -> None:
    check = training_checks.gradients_are_finite(trained(subject, ROOT_KERNEL=norm))
    assert check.status == "failed"
    assert check.figures["not_finite"] == 1
    assert check.figures["largest_gradient_norm"] == 1.0
    assert ROOT_KERNEL in check.summary


def test_a_variable_that_is_not_trainable_is_found(subject: Subject) -> None:
    good = trained(subject)
    norms = dict(list(good.require_step().norms.items())[:-1])
    frozen = replace(good, step=replace(good.require_step(), norms=norms))
    check = training_checks.gradients_are_finite(frozen)
    assert check.status == "failed"
    assert check.summary.startswith("62 trainable variables of 63")


# The graph.


def test_a_graph_that_reads_a_file_is_found(subject: Subject, tmp_path: Path) -> None:
    content = (subject.directory / "saved_model.pb").read_bytes()
    message = saved_model_pb2.SavedModel.FromString(content)
    function = message.meta_graphs[0].graph_def.library.function[0]
    function.node_def.add(name="added", op="ReadFile")
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    check = graph_checks.graph_holds_only_allowed_operations(replace(subject, directory=tmp_path))
    assert check.status == "failed"
    assert check.summary == f"not allowed: ReadFile in {function.signature.name}"
    assert check.figures["forbidden"] == 1


# Class names.


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda names: names[:-1], "9 names for 10 logits"),
        (lambda names: [*names, "class 10"], "11 names for 10 logits"),
        (lambda names: names[::-1], "not alike"),
        (lambda names: [*names[:-1], "class nine"], "not alike"),
        (lambda names: [], "0 names"),
    ],
    ids=["one fewer", "one more", "another order", "another name", "none"],
)
def test_other_class_names_are_found(
    spoil: Callable[[list[str]], list[str]], complaint: str, subject: Subject, tmp_path: Path
) -> None:
    assert subject.class_names_file is not None
    assert subject.class_names is not None
    path = tmp_path / "assets" / subject.class_names_file
    path.parent.mkdir()
    path.write_text("".join(f"{name}\n" for name in spoil(list(subject.class_names))))
    check = checks.class_names_are_in_the_assets(replace(subject, directory=tmp_path))
    assert check.status == "failed"
    assert complaint in check.summary


def test_missing_class_names_are_found(subject: Subject, tmp_path: Path) -> None:
    check = checks.class_names_are_in_the_assets(replace(subject, directory=tmp_path))
    assert check.status == "failed"
    assert check.summary == f"assets/{subject.class_names_file} is missing"


def test_names_that_fit_the_registry_but_not_the_logits_are_found(subject: Subject) -> None:
    check = checks.class_names_are_in_the_assets(replace(subject, output_size=1000))
    assert check.status == "failed"
    assert "10 names for 1,000 logits" in check.summary


# Photographs. There are no real weights here: the model is a stand-in that is told the answer.


class Sees:
    """A model that answers with the given class names, one after the other."""

    def __init__(self, names: tuple[str, ...], *labels: str) -> None:
        self._names = names
        self._labels = iter(labels)
        self.images: list[Array] = []

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        self.images.append(images.numpy())
        return tf.one_hot([self._names.index(next(self._labels))], len(self._names))


@pytest.fixture(scope="module")
def imagenet() -> tuple[str, ...]:
    path = distributed("data/ilsvrc2012_wordnet_lemmas.txt")
    return tuple(path.read_text(encoding="utf-8").splitlines())


@pytest.fixture
def real(subject: Subject, imagenet: tuple[str, ...]) -> Subject:
    """A classifier of ImageNet-1k with real weights, as far as the check can tell."""
    return replace(subject, synthetic=False, class_names=imagenet, output_size=1000, resolution=160)


def test_photographs_with_their_labels_pass(real: Subject, imagenet: tuple[str, ...]) -> None:
    model = Sees(imagenet, "Egyptian_cat", "espresso")
    check = checks.photographs_get_the_right_label(replace(real, model=model))
    assert check.status == "passed", check.summary
    assert check.figures == {"chelsea.png": "Egyptian_cat", "coffee.png": "espresso"}
    assert [images.shape for images in model.images] == [(1, 160, 160, 3)] * 2
    assert -1.0 <= min(images.min() for images in model.images) < -0.5


def test_a_photograph_with_a_wrong_label_is_found(real: Subject, imagenet: tuple[str, ...]) -> None:
    model = Sees(imagenet, "tiger_cat", "Indian_elephant, Elephas_maximus")
    check = checks.photographs_get_the_right_label(replace(real, model=model))
    assert check.status == "failed"
    assert "coffee.png is called 'Indian_elephant, Elephas_maximus', expected" in check.summary
    assert "chelsea.png" not in check.summary
    assert set(check.tensors) == {"coffee.png_images", "coffee.png_logits"}


def test_photographs_are_for_real_imagenet_classifiers_only(real: Subject) -> None:
    for other in (
        replace(real, synthetic=True),
        replace(real, head="feature_extractor"),
        replace(real, class_names=None),
        replace(real, class_names=tuple(f"class {index}" for index in range(1000))),
    ):
        assert checks.photographs_get_the_right_label(other).status == "skipped"


# Weight standardization folded into the kernels.


@pytest.fixture(scope="module")
def folded_report(
    requests: dict[str, Request],
    reports: dict[str, Report],
    checkpoint: Arrays,
    folded_classifier: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Report:
    """The report of a good folded classifier, held to a feature extractor that is not folded."""
    assert reports["feature_extractor"].passed
    folder = tmp_path_factory.mktemp("folded")
    pack(folded_classifier, folder / "model.tar.gz")
    own: dict[str, Any] = {"failures": folder / "failures", "scratch": folder / "hub-cache"}
    request = replace(requests["classifier"], archive=folder / "model.tar.gz", folded=True, **own)
    return validate(request, checkpoint)


@pytest.fixture(scope="module")
def folded_model(folded_classifier: Path) -> Any:
    return hub.load(str(folded_classifier))


@pytest.fixture
def folded(subject: Subject, folded_classifier: Path, folded_model: Any) -> Subject:
    """The good folded classifier."""
    return replace(subject, folded=True, directory=folded_classifier, model=folded_model)


@EVERY_CHECK
def test_passes_on_a_good_folded_classifier(
    check: Callable[[Subject], Any], folded_report: Report
) -> None:
    result = outcome(folded_report, check.__name__)
    skipped = {NEEDS_REAL_WEIGHTS, "gradients_are_finite", "second_derivatives_are_finite"}
    expected = "skipped" if check.__name__ in skipped else "passed"
    assert (result.status, bool(result.summary)) == (expected, True), result.summary


def test_the_report_of_a_folded_classifier_says_what_it_was_held_to(folded_report: Report) -> None:
    said = {check.name: check.summary for check in folded_report.checks}
    assert folded_report.passed
    assert (
        said["interface_is_reusable"] == "callable, 63 variables, none of them trainable (folded)"
    )
    assert said["variables_equal_the_checkpoint"].endswith(
        "bit for bit; kernels as the float64 reference standardizes them, rounded once"
    )
    assert said["loads_as_a_keras_layer"].startswith("0 trainable weights;")
    assert said["gradients_are_finite"] == (
        "weight standardization is folded; nothing is trainable"
    )


def test_a_model_that_is_not_folded_is_found_where_a_folded_one_is_expected(
    subject: Subject,
) -> None:
    other = replace(subject, folded=True)
    check = checks.interface_is_reusable(other)
    assert check.status == "failed"
    assert check.summary.startswith("63 trainable_variables, expected 0 of the checkpoint's arrays")
    check = checks.variables_equal_the_checkpoint(other)
    assert check.status == "failed"
    assert check.summary == f"23 of 63 variables differ, the first is {ROOT_KERNEL}"
    check = checks.loads_as_a_keras_layer(other)
    assert check.status == "failed"
    assert check.summary == "63 trainable weights, expected 0"


def test_a_folded_model_is_found_where_another_is_expected(folded: Subject) -> None:
    other = replace(folded, folded=False)
    check = checks.interface_is_reusable(other)
    assert check.status == "failed"
    assert check.summary.startswith("0 trainable_variables, expected 63 of the checkpoint's arrays")
    check = checks.variables_equal_the_checkpoint(other)
    assert check.status == "failed"
    assert check.figures["differing"] == 23
    check = checks.loads_as_a_keras_layer(other)
    assert check.status == "failed"
    assert check.summary == "0 trainable weights, expected 63"


def test_a_folded_model_that_still_standardizes_is_found(folded: Subject, classifier: Path) -> None:
    """Its results would be the same: what is standardized already hardly changes."""
    other = replace(folded, directory=classifier)
    assert graph_checks.graph_holds_only_allowed_operations(folded).status == "passed"
    check = graph_checks.graph_holds_only_allowed_operations(other)
    assert check.status == "failed"
    assert check.summary.startswith("not allowed: ")
    found = forbidden_operations(classifier / "saved_model.pb", FOLDED_NETWORK_OPERATIONS)[1]
    assert check.figures["forbidden"] == len(found)
    assert any(finding.startswith("Square in __inference_residual_unit_") for finding in found)
    check = graph_checks.graph_holds_only_allowed_operations(replace(other, folded=False))
    assert check.status == "passed"


def test_one_variable_that_can_be_trained_is_found_in_a_folded_model(folded: Subject) -> None:
    some = Altered(folded.model, trainable_variables=list(folded.model.variables)[:1])
    check = checks.interface_is_reusable(replace(folded, model=some))
    assert check.status == "failed"
    assert ROOT_KERNEL in check.summary


@pytest.mark.parametrize("name", [ROOT_KERNEL, HEAD_BIAS])
def test_one_step_of_rounding_is_found_in_a_folded_model(name: str, folded: Subject) -> None:
    """In a kernel that was standardized, and in an array that had to stay as it was."""
    kept = [v for v in folded.model.variables if not v.name.startswith(name)]
    (whole,) = (v.numpy() for v in folded.model.variables if v.name.startswith(name))
    whole.flat[3] = np.nextafter(whole.flat[3], np.float32(np.inf))
    model = Altered(folded.model, variables=[*kept, tf.Variable(whole, name=name)])
    check = checks.variables_equal_the_checkpoint(replace(folded, model=model))
    assert check.status == "failed"
    assert check.summary == f"1 of 63 variables differ, the first is {name}"
    assert (check.tensors["measured"] != check.tensors["expected"]).sum() == 1


def test_a_folded_model_with_a_wrong_result_is_found(folded: Subject) -> None:
    bad = changed(folded, one_element_off)
    for check in (checks.parity_with_float64_reference, checks.logits_follow_from_the_features):
        assert check(replace(bad, answers={})).status == "failed"

"""What a graph's parts cannot do is found without the weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from publisher.families.bit import BitArchitecture, network
from publisher.validation import graph_checks
from publisher.validation.checks import Subject
from publisher.validation.graph import Subgraph
from publisher.validation.report import Check
from tests.validation.layers import Layer, convolved, function_of, saved

Array = npt.NDArray[np.float32]


@pytest.fixture
def found(subject: Subject, tmp_path: Path) -> Callable[..., Check]:
    """Run a check on a network that is one layer."""

    def run(check: Callable[[Subject], Check], layer: Layer, *, folded: bool = False) -> Check:
        saved(layer, tmp_path)
        return check(replace(subject, directory=tmp_path, folded=folded))

    return run


def scaled_by(norm: Callable[[tf.Tensor], tf.Tensor]) -> Layer:
    return function_of(lambda x, kernel: convolved(x, kernel / norm(kernel)))


def test_a_graph_of_simple_operations_passes(found: Callable[..., Check]) -> None:
    layer = function_of(convolved)
    assert found(graph_checks.compiles_with_xla, layer).status == "passed"


def test_what_stands_outside_of_functions_is_not_tried_and_fails(
    found: Callable[..., Check],
) -> None:
    check = found(graph_checks.compiles_with_xla, convolved)
    assert check.status == "failed"
    assert "Conv2D" in check.summary


def test_a_graph_without_functions_fails(found: Callable[..., Check]) -> None:
    check = found(graph_checks.compiles_with_xla, lambda x, kernel: tf.identity(kernel))
    assert check.status == "failed"
    assert "no function" in check.summary


def test_an_operation_that_xla_lacks_is_found(found: Callable[..., Check]) -> None:
    with pytest.raises(tf.errors.OpError, match="EuclideanNorm"):
        found(graph_checks.compiles_with_xla, scaled_by(tf.math.reduce_euclidean_norm))


@pytest.mark.parametrize("kind", [0, 1], ids=["result", "gradient"])
@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_what_xla_computes_otherwise_is_found(
    kind: int, factor: float, found: Callable[..., Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    def derivatives(part: Subgraph, order: int, *, jit_compile: bool = False) -> list[list[Array]]:
        answer = known(part, order)
        if jit_compile:
            answer[kind][-1] = answer[kind][-1] * np.float32(factor)
        return answer

    known = graph_checks.derivatives
    monkeypatch.setattr(graph_checks, "derivatives", derivatives)
    check = found(graph_checks.compiles_with_xla, function_of(convolved))
    assert check.status == "failed"
    assert ("result", "gradient")[kind] in check.summary


def test_a_folded_graph_is_compiled_without_its_gradient(found: Callable[..., Check]) -> None:
    layer = function_of(lambda x, kernel: convolved(x, tf.stop_gradient(kernel)))
    check = found(graph_checks.compiles_with_xla, layer, folded=True)
    assert check.status == "passed"
    assert check.summary.startswith("results of 1 parts")


def test_second_derivatives_that_are_not_finite_are_found(found: Callable[..., Check]) -> None:
    layer = function_of(lambda x, kernel: convolved(x, kernel) * tf.norm(0.0 * kernel))
    check = found(graph_checks.second_derivatives_are_finite, layer)
    assert check.status == "failed"
    assert check.figures["not_finite"] == 2


def test_a_weight_without_a_second_derivative_is_found(found: Callable[..., Check]) -> None:
    layer = function_of(lambda x, kernel: convolved(x, tf.stop_gradient(kernel)))
    check = found(graph_checks.second_derivatives_are_finite, layer)
    assert check.status == "failed"
    assert check.figures["without"] == 1


def test_a_folded_graph_is_not_differentiated(found: Callable[..., Check]) -> None:
    check = found(graph_checks.second_derivatives_are_finite, convolved, folded=True)
    assert check.status == "skipped"


def test_operations_of_a_published_convolution_are_counted(subject: Subject) -> None:
    check = graph_checks.converts_to_few_operations(subject)
    assert check.status == "passed"
    assert 10 < check.figures["TensorFlow Lite"] < check.figures["ONNX"]  # type: ignore[operator]


def test_kernels_that_are_standardized_for_each_image_cost_too_much_after_conversion(
    subject: Subject,
    architecture: BitArchitecture,
    arrays: dict[str, npt.NDArray[np.float32]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def not_before(x: tf.Tensor, kernels: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        one = tf.sigmoid(20.0 + tf.reduce_mean(x))
        return {name: kernel * one for name, kernel in kernels.items()}

    monkeypatch.setattr(network, "_not_before", not_before)
    model, signature = network.build(architecture, arrays, (-1.0, 1.0), "logits")
    tf.saved_model.save(model, str(tmp_path), signature)
    check = graph_checks.converts_to_few_operations(replace(subject, directory=tmp_path))
    assert check.status == "failed"
    for form, most in network.OPERATIONS_OF_A_CONVOLUTION.items():
        figure = check.figures[form]
        assert isinstance(figure, float)
        assert figure > most

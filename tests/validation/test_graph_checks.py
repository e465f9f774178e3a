"""What a graph's parts cannot do is found without the weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf

from publisher.validation import graph_checks
from publisher.validation.checks import Subject
from publisher.validation.report import Check
from tests.validation.layers import Layer, convolved, function_of, saved


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


def test_a_convolution_that_costs_too_much_after_conversion_is_found(
    found: Callable[..., Check],
) -> None:
    def layer(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        kernel = kernel * tf.reduce_max(x)  # else it is computed once
        for _ in range(30):
            kernel = tf.sin(kernel)
        return convolved(x, kernel)

    check = found(graph_checks.converts_to_few_operations, function_of(layer))
    assert check.status == "failed"
    assert "at most" in check.summary

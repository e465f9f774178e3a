"""What would keep a converter from constant kernels is found in the graph."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from publisher.validation import graph_checks
from publisher.validation.checks import Subject
from publisher.validation.conversion import conversion_obstacles
from publisher.validation.graph import read_graph
from tests.validation.layers import Layer, convolved, function_of, saved


def scaled_by_the_image(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return convolved(x, kernel * tf.reduce_max(x))


def shaped_by_the_image(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return convolved(x, tf.reshape(kernel, tf.maximum((3, 3, 3, 4), -1 - tf.shape(x)[0])))


def after_the_image(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.identity(x)]):
        return convolved(x, tf.square(tf.identity(kernel)))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def with_a_gradient(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
    return convolved(x, kernel), lambda upstream: (upstream[..., :3], kernel)


inlined = function_of(convolved)


def called_with_the_image(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return inlined(x, kernel * tf.reduce_max(x))


not_inlined = function_of(convolved, _noinline=True)


@pytest.mark.parametrize("layer", [convolved, after_the_image, inlined])
def test_a_kernel_that_follows_from_weights_is_no_obstacle(layer: Layer, tmp_path: Path) -> None:
    found = conversion_obstacles(read_graph(saved(layer, tmp_path)))
    assert found.convolutions >= 1
    assert found.obstacles == ()


@pytest.mark.parametrize(
    ("layer", "obstacle"),
    [
        (scaled_by_the_image, "follows from an image"),
        (shaped_by_the_image, "follows from an image"),
        (called_with_the_image, "follows from an image"),
        (with_a_gradient, "gradients are registered at loading"),
        (not_inlined, "is not to be inlined"),
    ],
)
def test_an_obstacle_is_found(layer: Layer, obstacle: str, tmp_path: Path) -> None:
    found = conversion_obstacles(read_graph(saved(layer, tmp_path)))
    assert any(obstacle in words for words in found.obstacles), found


def test_the_check_passes_on_a_published_graph_and_counts(subject: Subject) -> None:
    check = graph_checks.kernels_are_constant_once_frozen(subject)
    assert check.status == "passed"
    assert check.figures == {"convolutions": 20, "obstacles": 0}


def test_the_check_fails_and_says_where(subject: Subject, tmp_path: Path) -> None:
    saved(scaled_by_the_image, tmp_path)
    check = graph_checks.kernels_are_constant_once_frozen(replace(subject, directory=tmp_path))
    assert check.status == "failed"
    assert "the kernel of Conv2D in " in check.summary


def test_the_check_fails_without_a_convolution(subject: Subject, tmp_path: Path) -> None:
    saved(lambda x, kernel: tf.reduce_sum(x) + tf.reduce_sum(kernel), tmp_path)
    check = graph_checks.kernels_are_constant_once_frozen(replace(subject, directory=tmp_path))
    assert check.status == "failed"

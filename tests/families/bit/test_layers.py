"""The layers, held to their formulas in float64 NumPy."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from publisher.families.bit import layers, reference

Floats = npt.NDArray[np.float32]

KERNEL_SHAPES = [
    (7, 7, 3, 4),  # the root's, whose 147 numbers a channel have no even share
    (1, 1, 3, 2),
    (5, 5, 12, 3),
    (3, 3, 64, 5),
    (1, 1, 1024, 7),
]


def normal(*shape: int, seed: int = 0, scale: float = 1.0, mean: float = 0.0) -> Floats:
    return np.random.default_rng(seed).normal(mean, scale, shape).astype(np.float32)


def wide(array: Floats) -> npt.NDArray[np.float64]:
    return array.astype(np.float64)


def close(measured: tf.Tensor, expected: npt.NDArray[Any], tolerance: float = 2e-6) -> None:
    """Compare, relative to the largest element that is expected."""
    assert measured.dtype == tf.float32
    assert measured.shape == expected.shape
    largest = np.abs(expected).max()
    np.testing.assert_allclose(measured.numpy(), expected, rtol=0, atol=tolerance * largest)


# --- weight standardization ---


def standardize(kernel: tf.Tensor) -> tf.Tensor:
    centred, scale = layers.centre(kernel)
    return centred * scale


@pytest.mark.parametrize("shape", KERNEL_SHAPES, ids=str)
def test_a_kernels_mean_is_that_of_each_output_channel(shape: tuple[int, int, int, int]) -> None:
    kernel = normal(*shape, mean=3.0) * np.arange(1, shape[3] + 1, dtype=np.float32)
    close(layers.channel_mean(tf.constant(kernel)), wide(kernel).mean((0, 1, 2)))


@pytest.mark.parametrize("mean", [0.0, 2.0])
@pytest.mark.parametrize("shape", KERNEL_SHAPES, ids=str)
def test_kernels_are_standardized(shape: tuple[int, int, int, int], mean: float) -> None:
    kernel = normal(*shape, seed=1, scale=0.5, mean=mean)
    close(standardize(tf.constant(kernel)), reference.standardize(kernel))


def test_a_centred_kernel_times_its_scale_is_standardized() -> None:
    kernel = normal(3, 3, 8, 5, seed=2, mean=1.0)
    centred, scale = layers.centre(tf.constant(kernel))
    close(centred, wide(kernel) - wide(kernel).mean((0, 1, 2)))
    close(scale, 1 / np.sqrt(wide(kernel).var((0, 1, 2)) + 1e-10))
    close(centred * scale, reference.standardize(kernel))


def test_the_epsilon_is_added_under_the_root() -> None:
    kernel = np.array([-1e-5, 1e-5], np.float32).reshape(1, 1, 2, 1)
    standardized = standardize(tf.constant(kernel)).numpy().ravel()
    np.testing.assert_allclose(standardized, [-math.sqrt(0.5), math.sqrt(0.5)], rtol=1e-5)


@pytest.mark.parametrize("shape", KERNEL_SHAPES, ids=str)
def test_a_constant_channel_stays_near_zero_and_has_a_gradient(
    shape: tuple[int, int, int, int],
) -> None:
    """The root of the epsilon is so small that a rounding error of the mean shows."""
    array = normal(*shape, seed=3)
    array[..., 1] = 0.75
    kernel = tf.constant(array)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        standardized = standardize(kernel)
        result = tf.reduce_sum(standardized * normal(*shape, seed=4))
    np.testing.assert_allclose(standardized[..., 1], np.zeros(shape[:3]), rtol=0, atol=0.1)
    close(standardized[..., :1], reference.standardize(array)[..., :1])
    assert np.isfinite(tape.gradient(result, kernel).numpy()).all()


# --- group normalization ---


@pytest.mark.parametrize("shape", [(3, 4, 6, 32), (2, 7, 5, 64), (1, 1, 1, 256), (2, 3, 3, 1024)])
def test_group_norm_relu_follows_its_formula(shape: tuple[int, int, int, int]) -> None:
    channels = shape[3]
    x = normal(*shape, seed=5, scale=3.0) + normal(channels, seed=6)
    gamma, beta = normal(channels, seed=7), normal(channels, seed=8)
    result = layers.group_norm_relu(tf.constant(x), tf.constant(gamma), tf.constant(beta))
    close(result, reference.normalize(wide(x), gamma, beta))


def test_group_norm_relu_is_exact_far_from_zero() -> None:
    """Where a mean of squares less the square of the mean would lose every digit."""
    x = normal(2, 16, 16, 64, seed=9, mean=1000.0)
    gamma, beta = normal(64, seed=10), normal(64, seed=11)
    result = layers.group_norm_relu(tf.constant(x), tf.constant(gamma), tf.constant(beta))
    close(result, reference.normalize(wide(x), gamma, beta), 1e-4)


def test_group_norm_adds_its_epsilon_under_the_root() -> None:
    x = np.tile(np.float32([math.sqrt(1e-5), -math.sqrt(1e-5)]).reshape(1, 1, 2, 1), 32)
    result = layers.group_norm_relu(tf.constant(x), tf.ones(32), tf.zeros(32)).numpy()
    np.testing.assert_allclose(result[0, 0, 0], math.sqrt(0.5), rtol=1e-5)
    np.testing.assert_array_equal(result[0, 0, 1], 0.0)


# --- convolutions and pooling ---


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("image", [(8, 8), (7, 10)], ids=str)
def test_convolve_pads_all_four_sides(size: int, stride: int, image: tuple[int, int]) -> None:
    """TensorFlow's own SAME would pad an even image at the bottom and the right only."""
    x, kernel = normal(2, *image, 4, seed=12), normal(size, size, 4, 5, seed=13)
    result = layers.convolve(tf.constant(x), tf.constant(kernel), stride)
    close(result, reference.convolve(wide(x), wide(kernel), stride, size // 2))


@pytest.mark.parametrize("image", [(8, 8), (7, 10), (1, 1)], ids=str)
@pytest.mark.parametrize("mean", [0.0, -5.0])
def test_max_pool_pads_with_zeros(image: tuple[int, int], mean: float) -> None:
    x = normal(2, *image, 3, seed=14, mean=mean)
    expected = reference.max_pool(wide(x))
    assert (expected[:, 0] >= 0).all()
    np.testing.assert_array_equal(layers.max_pool(tf.constant(x)).numpy(), expected)

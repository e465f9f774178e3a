"""How the layers sum, their gradients, which are written by hand, and the graph they become.

What the layers compute is held to their formulas in `test_network`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from publisher.bit import layers
from publisher.bit.layers import Layers, averaging

Array = npt.NDArray[Any]
Centre = Callable[[tf.Tensor, layers.Averaging], tuple[tf.Tensor, tf.Tensor]]


def normal(*shape: int, seed: int, scale: float = 1.0, mean: float = 0.0) -> tf.Tensor:
    values = np.random.default_rng(seed).normal(mean, scale, shape)
    return tf.constant(values, tf.float32)


def close(measured: Any, expected: Any, tolerance: float = 2e-5) -> None:
    """Compare, relative to the largest element that is expected."""
    wide = np.asarray(expected, np.float64)
    assert measured.shape == wide.shape
    np.testing.assert_allclose(measured, wide, rtol=0, atol=tolerance * np.abs(wide).max())


def differences(
    function: Callable[..., Array], arguments: list[Array], upstream: Array, index: int
) -> Array:
    """Return the gradient of sum(function * upstream) by central differences, in float64."""
    wide = [np.asarray(argument, np.float64) for argument in arguments]
    gradient = np.zeros_like(wide[index])
    step = 1e-6
    for place in np.ndindex(*gradient.shape):
        ends = []
        for sign in (1, -1):
            shifted = [*wide]
            shifted[index] = wide[index].copy()
            shifted[index][place] += sign * step
            ends.append((function(*shifted) * upstream).sum())
        gradient[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient


# --- weight standardization ---


def plain_standardize(kernel: Any) -> Any:
    """The formula, for TensorFlow's own gradient."""
    mean, variance = tf.nn.moments(kernel, (0, 1, 2), keepdims=True)
    return (kernel - mean) / tf.sqrt(variance + 1e-10)


def wide_standardize(kernel: Array) -> Array:
    mean, variance = kernel.mean((0, 1, 2)), kernel.var((0, 1, 2))
    return np.asarray((kernel - mean) / np.sqrt(variance + 1e-10))


KERNELS = {
    "1x1": normal(1, 1, 16, 6, seed=1),
    "3x3": normal(3, 3, 4, 5, seed=2, scale=0.05),
    "7x7": normal(7, 7, 3, 4, seed=3, mean=2.0),
    # Here the epsilon is as large as the variance.
    "tiny": normal(1, 1, 8, 3, seed=4, scale=1e-5),
}


def standardize(
    kernel: tf.Tensor, by: layers.Averaging, centre: Centre = layers.centre
) -> tuple[tf.Tensor, tf.Tensor]:
    centred, scale = centre(kernel, by)
    return centred * scale, scale


@pytest.mark.parametrize("centre", [layers.centre, layers.centre_plainly])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_a_centred_kernel_times_its_scale_is_standardized(
    kernel: tf.Tensor, centre: Centre
) -> None:
    expected = wide_standardize(kernel.numpy().astype(np.float64))
    standardized, scale = standardize(kernel, averaging(kernel), centre)
    close(standardized, expected, 1e-6)
    assert scale.shape == (1, kernel.shape[3])


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_standardize_gradient_is_tensorflows_own(kernel: tf.Tensor) -> None:
    upstream = normal(*kernel.shape, seed=5, mean=0.5)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        result = plain_standardize(kernel)
    expected = tape.gradient(result, kernel, upstream)
    by = averaging(kernel)
    standardized, scale = standardize(kernel, by)
    close(standardized, result)
    close(layers.standardize_gradient(upstream, standardized, scale, by), expected, 1e-4)


@pytest.mark.parametrize("kernel", [KERNELS["1x1"], KERNELS["3x3"]], ids=["1x1", "3x3"])
def test_standardize_gradient_agrees_with_differences(kernel: tf.Tensor) -> None:
    upstream = normal(*kernel.shape, seed=6, mean=0.5)
    expected = differences(wide_standardize, [kernel.numpy()], upstream.numpy(), 0)
    by = averaging(kernel)
    standardized, scale = standardize(kernel, by)
    close(layers.standardize_gradient(upstream, standardized, scale, by), expected, 1e-4)


def test_standardize_gradient_with_the_epsilon_agrees_with_differences() -> None:
    """At deviations of the epsilon's root, where the difference it makes is largest."""
    kernel = normal(1, 1, 8, 3, seed=7, scale=1e-5)
    upstream = normal(1, 1, 8, 3, seed=8)

    def scaled(value: Array) -> Array:  # steps of 1e-6 would be as large as the values
        return wide_standardize(value * 1e-5)

    expected = differences(scaled, [kernel.numpy() * 1e5], upstream.numpy(), 0) * 1e5
    by = averaging(kernel)
    standardized, scale = standardize(kernel, by)
    close(layers.standardize_gradient(upstream, standardized, scale, by), expected, 1e-4)


# --- sums, in two steps ---


KERNEL_SHAPES = {
    (7, 7, 3, 4): 1,  # the root's, whose 147 numbers a channel have no even share
    (1, 1, 3, 2): 1,
    (5, 5, 12, 3): 4,
    (1, 1, 16, 6): 16,
    (3, 3, 64, 5): 64,
    (1, 1, 1024, 7): 64,
}


@pytest.mark.parametrize(("shape", "parts"), KERNEL_SHAPES.items(), ids=str)
def test_a_kernel_is_split_into_up_to_64_parts_with_exact_shares(
    shape: tuple[int, int, int, int], parts: int
) -> None:
    by = averaging(tf.zeros(shape))
    np.testing.assert_array_equal(by.split, [parts, -1])
    np.testing.assert_array_equal(by.joined, [-1, shape[3]])
    np.testing.assert_array_equal(by.shares, np.full((1, parts), 1 / parts, np.float32))
    assert by.shares.numpy().sum() == 1.0


@pytest.mark.parametrize("centre", [layers.centre, layers.centre_plainly])
@pytest.mark.parametrize("shape", KERNEL_SHAPES, ids=str)
def test_a_channel_of_equal_numbers_standardizes_to_zeros(
    shape: tuple[int, int, int, int], centre: Centre
) -> None:
    """The root of the epsilon is so small that a mean with a rounding error would show."""
    kernel = tf.fill(shape, 0.75)
    standardized, scale = standardize(kernel, averaging(kernel), centre)
    np.testing.assert_array_equal(standardized, 0.0 * kernel)
    np.testing.assert_allclose(scale, 1e5, rtol=1e-6)


@pytest.mark.parametrize("shape", KERNEL_SHAPES, ids=str)
def test_a_kernels_mean_is_that_of_each_output_channel(shape: tuple[int, int, int, int]) -> None:
    kernel = normal(*shape, seed=120, mean=3.0) * tf.range(1.0, shape[3] + 1.0)
    expected = kernel.numpy().astype(np.float64).mean((0, 1, 2))[None]
    close(layers.channel_mean(kernel, averaging(kernel)), expected, 1e-6)


def test_the_mean_of_an_image_is_taken_a_channel() -> None:
    x = normal(3, 5, 9, 4, seed=121, mean=2.0)
    expected = x.numpy().astype(np.float64).mean((1, 2), keepdims=True)
    close(layers.image_mean(x), expected, 1e-6)


def rms(measured: tf.Tensor, expected: Array) -> float:
    return float(np.sqrt(np.square(measured.numpy().astype(np.float64) - expected).mean()))


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_two_steps_sum_a_large_kernel_nearer_to_float64_than_one(mean: float) -> None:
    kernel = normal(3, 3, 512, 64, seed=122, mean=mean)
    expected = kernel.numpy().astype(np.float64).mean((0, 1, 2))[None]
    in_two = rms(layers.channel_mean(kernel, averaging(kernel)), expected)
    in_one = rms(tf.reduce_mean(kernel, (0, 1, 2))[None], expected)
    assert in_two < in_one


def test_two_steps_sum_a_large_image_nearer_to_float64_than_one() -> None:
    x = normal(2, 64, 64, 32, seed=123, mean=1.0)
    expected = x.numpy().astype(np.float64).mean((1, 2), keepdims=True)
    in_two = rms(layers.image_mean(x), expected)
    in_one = rms(tf.reduce_mean(x, (1, 2), keepdims=True), expected)
    assert in_two < in_one


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_a_large_kernels_mean_square_is_as_near_to_float64_as_the_plain_one(mean: float) -> None:
    """Though its first step adds up one by one, as a matrix product does not: only 64 at most."""
    kernel = normal(3, 3, 512, 64, seed=124, mean=mean)
    expected = np.square(kernel.numpy().astype(np.float64)).mean((0, 1, 2))[None]
    by = averaging(kernel)
    in_norms = rms(layers.mean_square(kernel, by), expected)
    in_one = rms(tf.reduce_mean(tf.square(kernel), (0, 1, 2))[None], expected)
    assert in_norms < in_one
    assert in_norms < 2 * rms(layers.channel_mean(tf.square(kernel), by), expected)


@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("kernel", [KERNELS["3x3"], KERNELS["7x7"]], ids=["3x3", "7x7"])
def test_waiting_for_an_image_changes_no_bit(kernel: tf.Tensor, batch: int) -> None:
    by = averaging(kernel)
    later = by.not_before(tf.zeros((batch, 2, 2, 8)))
    for now, then in zip(by, later, strict=True):
        assert now.dtype == then.dtype
        np.testing.assert_array_equal(now, then)
    for now, then in zip(
        layers.centre_plainly(kernel, by), layers.centre_plainly(kernel, later), strict=True
    ):
        np.testing.assert_array_equal(now, then)


def test_a_convolution_that_waits_gives_the_same() -> None:
    x, kernel = normal(2, 6, 6, 8, seed=110), normal(3, 3, 8, 2, seed=111)
    network = Layers()
    waiting = network.convolve(x, kernel, 2, padding=1, after=x)
    close(waiting, network.convolve(x, kernel, 2, padding=1), 1e-6)


# --- group normalization and ReLU ---


def plain_group_norm_relu(x: Any, gamma: Any, beta: Any) -> Any:
    """The formula, for TensorFlow's own gradient."""
    shape = tf.shape(x)
    grouped = tf.reshape(x, (shape[0], shape[1], shape[2], 32, -1))
    mean, variance = tf.nn.moments(grouped, (1, 2, 4), keepdims=True)
    normal = (grouped - mean) / tf.sqrt(variance + 1e-5)
    return tf.nn.relu(tf.reshape(normal, shape) * gamma + beta)


def wide_group_norm_relu(x: Array, gamma: Array, beta: Array) -> Array:
    grouped = x.reshape(*x.shape[:3], 32, -1)
    mean = grouped.mean((1, 2, 4), keepdims=True)
    variance = grouped.var((1, 2, 4), keepdims=True)
    normal = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    return np.asarray(np.maximum(normal * gamma + beta, 0))


Triple = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def activations(*shape: int, seed: int, scale: float = 1.0, mean: float = 0.0) -> Triple:
    """Return x, gamma and beta; the channels' means differ, and so do the images'."""
    x = normal(*shape, seed=seed, scale=scale, mean=mean)
    x += scale * normal(shape[0], 1, 1, shape[3], seed=seed + 1)
    return x, normal(shape[3], seed=seed + 2, mean=1.0), normal(shape[3], seed=seed + 3)


ACTIVATIONS = {
    "a channel a group": activations(2, 5, 4, 32, seed=10),
    "two channels a group": activations(3, 4, 6, 64, seed=20, mean=3.0),
    "one position": activations(2, 1, 1, 128, seed=30),
    "eight channels a group": activations(1, 7, 3, 256, seed=40, scale=20.0),
    "the epsilon matters": activations(2, 3, 3, 64, seed=50, scale=3e-3),
}


def by_hand(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, upstream: tf.Tensor) -> Triple:
    result, group_mean, deviation = layers.group_norm_relu(x, gamma, beta)
    return layers.group_norm_relu_gradient(upstream, x, gamma, result, group_mean, deviation)


@pytest.mark.parametrize("given", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_group_norm_gradients_are_tensorflows_own(given: Triple) -> None:
    upstream = normal(*given[0].shape, seed=60, mean=0.5)
    with tf.GradientTape() as tape:
        tape.watch(given)
        result = plain_group_norm_relu(*given)
    expected = tape.gradient(result, given, upstream)
    assert 0.1 < (result.numpy() > 0).mean() < 0.9  # on both sides of the ReLU
    close(layers.group_norm_relu(*given)[0], result)
    for measured, own in zip(by_hand(*given, upstream), expected, strict=True):
        close(measured, own, 1e-4)


@pytest.mark.parametrize("index", [0, 1, 2], ids=["x", "gamma", "beta"])
def test_group_norm_gradients_agree_with_differences(index: int) -> None:
    given = activations(2, 3, 2, 64, seed=70)
    upstream = normal(*given[0].shape, seed=80, mean=0.5)
    expected = differences(
        wide_group_norm_relu, [value.numpy() for value in given], upstream.numpy(), index
    )
    close(by_hand(*given, upstream)[index], expected, 1e-4)


@pytest.mark.parametrize("given", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_a_factor_normalizes_the_product_that_is_not_made(given: Triple) -> None:
    """Of a negative factor too, and of one that is not like the next."""
    x, gamma, beta = given
    factor = normal(1, x.shape[3], seed=61, scale=2.0)
    upstream = normal(*x.shape, seed=62, mean=0.5)
    result, *moments = layers.group_norm_relu(x, gamma, beta, factor)
    plain, *plain_moments = layers.group_norm_relu(x * factor, gamma, beta)
    close(result, plain)
    for measured, expected in zip(moments, plain_moments, strict=True):
        close(measured, expected)
    gradients = layers.group_norm_relu_gradient(upstream, x, gamma, result, *moments, factor)
    of_product = by_hand(x * factor, gamma, beta, upstream)
    for measured, expected in zip(gradients, of_product, strict=True):
        close(measured, expected, 1e-4)


# --- as functions of the graph ---


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)]
)
@pytest.mark.parametrize("image", [(8, 8), (7, 10)])
def test_convolution_gradients_are_tensorflows_own(
    size: int, stride: int, padding: int, image: tuple[int, int]
) -> None:
    x, kernel = normal(2, *image, 4, seed=90), normal(size, size, 4, 5, seed=91)
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        sides = (padding, padding)
        padded = tf.pad(x, ((0, 0), sides, sides, (0, 0)))
        plain = tf.nn.conv2d(padded, plain_standardize(kernel), stride, "VALID")
    upstream = normal(*plain.shape, seed=92)
    expected = tape.gradient(plain, (x, kernel), upstream)
    network = Layers()
    close(network.convolve(x, kernel, stride, padding), plain)
    unscaled, factor = network.convolve_unscaled(x, kernel, stride, padding)
    close(unscaled * factor, plain)
    found = network.convolve_gradient(upstream, x, kernel, stride, padding)
    for measured, own in zip(found, expected, strict=True):
        close(measured, own, 1e-4)


@pytest.mark.parametrize("factor", [None, normal(1, 64, seed=105)], ids=["plain", "factor"])
def test_group_norm_with_gradient_is_the_layer_and_its_gradient(factor: tf.Tensor | None) -> None:
    given = activations(2, 4, 4, 64, seed=100)
    upstream = normal(2, 4, 4, 64, seed=104)
    network = Layers()
    result, backward = network.group_norm_relu_with_gradient(*given, factor)
    np.testing.assert_array_equal(result, network.group_norm_relu(*given, factor))
    product = given[0] if factor is None else given[0] * factor
    expected = by_hand(product, *given[1:], upstream)
    for measured, own in zip(backward(upstream), expected, strict=True):
        close(measured, own, 1e-4)


def test_a_convolution_standardizes_its_kernel_first() -> None:
    x, kernel = normal(1, 4, 4, 8, seed=110), normal(3, 3, 8, 2, seed=111)
    plain = tf.nn.conv2d(x, kernel, 1, "SAME")
    standardized = Layers().convolve(x, kernel, padding=1)
    kernel_alone, _ = standardize(kernel, averaging(kernel))
    close(standardized, tf.nn.conv2d(x, kernel_alone, 1, "SAME"))
    assert np.abs(standardized - plain).max() > 0.1


def test_a_kernel_that_was_standardized_before_is_taken_as_it_is() -> None:
    x, kernel = normal(1, 4, 4, 8, seed=110), normal(3, 3, 8, 2, seed=111)
    plain = Layers(folded=True).convolve(x, kernel, padding=1)
    np.testing.assert_array_equal(plain, tf.nn.conv2d(layers.pad(x, 1), kernel, 1, "VALID"))
    unscaled, factor = Layers(folded=True).convolve_unscaled(x, kernel, padding=1)
    assert factor is None
    np.testing.assert_array_equal(unscaled, plain)
    again = Layers(folded=True).convolve(x, plain_standardize(kernel), padding=1)
    close(again, Layers().convolve(x, kernel, padding=1))


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("shape", [(1, 6, 6), (2, 5, 7), (3, 1, 4), (1, 3, 1)])
def test_matrix_products_convolve_and_have_the_gradient_of_a_convolution(
    shape: tuple[int, int, int], padding: int
) -> None:
    size = 2 * padding + 1
    x, kernel = normal(*shape, 8, seed=120), normal(size, size, 8, 5, seed=121)
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        plain = tf.nn.conv2d(layers.pad(x, padding), kernel, 1, "VALID")
    upstream = normal(*plain.shape, seed=122)
    expected = tape.gradient(plain, (x, kernel), upstream)

    network = Layers(folded=True)
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        result = network.convolve(x, kernel, padding=padding, products=True)
    close(result, plain)
    for measured, own in zip(tape.gradient(result, (x, kernel), upstream), expected, strict=True):
        close(measured, own)
    unscaled, factor = network.convolve_unscaled(x, kernel, padding=padding, products=True)
    assert factor is None
    np.testing.assert_array_equal(unscaled, result)


def test_a_convolution_with_a_stride_is_never_by_products() -> None:
    x, kernel = normal(1, 6, 6, 8, seed=120), normal(3, 3, 8, 5, seed=121)
    network = Layers(folded=True)
    plain = network.convolve(x, kernel, 2, padding=1)
    assert plain.shape == (1, 3, 3, 5)
    np.testing.assert_array_equal(network.convolve(x, kernel, 2, padding=1, products=True), plain)


def anything(*shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32)


def functions_of(network: Layers, channels: tuple[int, ...], times: int) -> list[str]:
    """Trace a network that uses each layer `times` times a channel count; return the names
    of the functions in its graph."""
    images = [anything(None, None, None, count) for count in channels]
    kernels = [anything(3, 3, count, count) for count in channels]
    scales = [anything(count) for count in channels]

    @tf.function(input_signature=[images, kernels, scales], autograph=False)  # type: ignore[untyped-decorator]
    def forward(
        images: list[tf.Tensor], kernels: list[tf.Tensor], scales: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        results = []
        for x, kernel, scale in zip(images, kernels, scales, strict=True):
            for _ in range(times):
                hidden, norm = network.group_norm_relu_with_gradient(x, scale, scale)
                hidden, factor = network.convolve_unscaled(hidden, kernel, padding=1)
                result, next_norm = network.group_norm_relu_with_gradient(
                    hidden, scale, scale, factor
                )
                of_hidden, *of_next = next_norm(result)
                of_hidden, of_kernel = network.convolve_gradient(of_hidden, x, kernel, padding=1)
                results += [result, *of_next, of_kernel, *norm(of_hidden)]
        return results

    library = forward.get_concrete_function().graph.as_graph_def().library
    return sorted(function.signature.name.rpartition("_")[0] for function in library.function)


# The normalization and its gradient once without a factor and once with it.
LAYER_NAMES = [
    "__inference_centre",
    "__inference_group_norm_relu",
    "__inference_group_norm_relu",
    "__inference_group_norm_relu_gradient",
    "__inference_group_norm_relu_gradient",
    "__inference_standardize_gradient",
]


@pytest.mark.parametrize("times", [1, 3])
def test_a_graph_holds_each_layer_once(times: int) -> None:
    """Their formulas do not depend on the number of channels."""
    assert functions_of(Layers(), (32, 64, 96), times) == LAYER_NAMES


def test_what_one_network_traced_is_not_in_the_graph_of_another() -> None:
    first, second = Layers(), Layers()
    functions_of(first, (32, 64), 1)
    assert len(functions_of(second, (64,), 2)) == len(LAYER_NAMES)


def test_shapes_that_are_known_stay_known() -> None:
    """Functions of any shape lose them, and kernels' and channels' are needed further on."""
    network = Layers()

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[anything(None, None, None, 32), anything(3, 3, 32, 64), anything(32)],
        autograph=False,
    )
    def forward(x: tf.Tensor, kernel: tf.Tensor, scale: tf.Tensor) -> list[tf.Tensor]:
        hidden, norm = network.group_norm_relu_with_gradient(x, scale, scale)
        result = network.convolve(hidden, kernel, 2, padding=1)
        of_hidden, of_kernel = network.convolve_gradient(result, hidden, kernel, 2, padding=1)
        return [result, of_hidden, of_kernel, *norm(of_hidden)]

    shapes = [spec.shape.as_list() for spec in forward.get_concrete_function().structured_outputs]
    image = [None, None, None]
    assert shapes == [[*image, 64], [*image, 32], [3, 3, 32, 64], [*image, 32], [32], [32]]

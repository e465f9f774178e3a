"""The layers of the BiT network in plain TensorFlow, with gradients worked out by hand.

The gradients keep less in memory than TensorFlow's own of the same operations: a
standardized kernel is as large as the weights, and is made again instead of kept.

The functions here compute; `Layers` makes them functions of the graph, so that a graph
holds each once, however often the network uses it.
"""

from collections.abc import Callable
from math import gcd, prod
from typing import Any, NamedTuple

import tensorflow as tf

GROUPS = 32
GROUP_NORM_EPSILON = 1e-5
STANDARDIZATION_EPSILON = 1e-10
MOST_PARTS = 64  # of a channel of a kernel; a power of two

Backward = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]


class Averaging(NamedTuple):
    """How `channel_mean` goes over kernels of some size.

    It takes their numbers in `parts` rows, of which there are height * width * inputs / parts
    a channel. `shares` is (1, parts), all 1 / parts; `split` is the shape (parts, -1), and
    `joined` the shape (-1, outputs).
    """

    shares: tf.Tensor
    split: tf.Tensor
    joined: tf.Tensor

    def not_before(self, x: tf.Tensor) -> "Averaging":
        """Return the same, known only when `x` (batch, ...) is.

        The shape is a maximum that no optimizer can foresee. Where functions are inlined,
        all kernels would otherwise be standardized at once, and the memory of a call
        would be that of the weights.
        """
        return self._replace(split=tf.maximum(self.split, -1 - tf.shape(x)[0]))


AVERAGING = Averaging(
    tf.TensorSpec((1, None), tf.float32),
    tf.TensorSpec((2,), tf.int32),
    tf.TensorSpec((2,), tf.int32),
)


def averaging(kernel: tf.Tensor, parts: int = MOST_PARTS) -> Averaging:
    """Return how to go over a (height, width, inputs, outputs) kernel.

    `parts` is a power of two, so that a share is an exact number. It has to divide height *
    width * inputs; where those are known, what it has in common with them is taken.
    """
    if None not in kernel.shape[:3]:
        parts = gcd(prod(kernel.shape[:3]), parts)
    outputs = kernel.shape[3]
    if outputs is None:
        joined = tf.concat([(-1,), tf.shape(kernel)[3:]], axis=0)
    else:
        joined = tf.constant((-1, outputs))
    shares = tf.constant(1.0 / parts, shape=(1, parts))
    return Averaging(shares, tf.constant((parts, -1)), joined)


def channel_mean(kernel: tf.Tensor, by: Averaging) -> tf.Tensor:
    """Return the mean of a (height, width, inputs, outputs) kernel a channel, (1, outputs).

    First over the parts, by a matrix product, then over what is left: a matrix product reads a
    kernel about twice as fast as a reduction, and a sum in two steps is nearer to float64.
    """
    means = tf.reshape(tf.matmul(by.shares, tf.reshape(kernel, by.split)), by.joined)
    return tf.reduce_mean(means, axis=0, keepdims=True)


def mean_square(kernel: tf.Tensor, by: Averaging) -> tf.Tensor:
    """Return the mean square of a (height, width, inputs, outputs) kernel a channel, (1, outputs).

    In the same two steps as `channel_mean`. The first is a Euclidean norm, because that squares
    while it sums, and writes no second kernel to memory.
    """
    norms = tf.math.reduce_euclidean_norm(tf.reshape(kernel, by.split), axis=0)
    squares = tf.reshape(tf.square(norms), by.joined)
    return tf.reduce_mean(squares, axis=0, keepdims=True) * by.shares[:, :1]


def centre(kernel: tf.Tensor, by: Averaging) -> tuple[tf.Tensor, tf.Tensor]:
    """Take the mean of each output channel from a (height, width, inputs, outputs) kernel.

    Returns it and the reciprocal of its deviation, (1, outputs); their product is the
    standardized kernel.
    Source: Qiao et al., "Weight Standardization", arXiv:1903.10520.
    """
    centred = kernel - channel_mean(kernel, by)
    return centred, tf.math.rsqrt(mean_square(centred, by) + STANDARDIZATION_EPSILON)


def centre_plainly(kernel: tf.Tensor, by: Averaging) -> tuple[tf.Tensor, tf.Tensor]:
    """Do what `centre` does, by operations that TensorFlow Lite has too."""
    centred = kernel - channel_mean(kernel, by)
    variance = channel_mean(tf.square(centred), by)
    return centred, tf.math.rsqrt(variance + STANDARDIZATION_EPSILON)


def standardize_gradient(
    upstream: tf.Tensor, standardized: tf.Tensor, scale: tf.Tensor, by: Averaging
) -> tf.Tensor:
    """Return the gradient of the kernel from that of the standardized kernel."""
    mean = channel_mean(upstream, by)
    along = channel_mean(upstream * standardized, by)
    return (upstream - mean - standardized * along) * scale


def image_mean(x: tf.Tensor) -> tf.Tensor:
    """Return the mean of each image and channel, (batch, 1, 1, channels).

    Row by row and then over the rows: a sum in two steps is nearer to float64.
    """
    return tf.reduce_mean(tf.reduce_mean(x, axis=2, keepdims=True), axis=1, keepdims=True)


def group_norm_relu(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, factor: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Apply group normalization and ReLU to (batch, height, width, channels).

    With a `factor` (1, channels), to the product of `x` and that, which is not made. Returns
    the result, and for the gradient the mean and the reciprocal of the deviation of each
    group, (batch, groups, 1).

    The moments are taken per channel, in one pass over contiguous memory, and joined
    per group on tiny tensors (law of total variance). That is both faster and nearer
    to float64 than a reshape to five dimensions.
    Source: Wu and He, "Group Normalization", arXiv:1803.08494.
    """
    grouped, per_channel = _grouped_shapes(gamma)
    mean = image_mean(x)
    variance = image_mean(tf.math.squared_difference(x, mean))
    if factor is not None:
        mean *= factor
        variance *= tf.square(factor)
    channel_mean = tf.reshape(mean, grouped)
    group_mean = tf.reduce_mean(channel_mean, axis=2, keepdims=True)
    between = tf.math.squared_difference(channel_mean, group_mean)
    group_variance = tf.reduce_mean(tf.reshape(variance, grouped) + between, axis=2, keepdims=True)
    deviation = tf.math.rsqrt(group_variance + GROUP_NORM_EPSILON)
    scale = deviation * tf.reshape(gamma, (GROUPS, -1))
    shift = tf.reshape(beta, (GROUPS, -1)) - group_mean * scale
    slope = tf.reshape(scale, per_channel)
    if factor is not None:
        slope *= factor
    result = tf.nn.relu(x * slope + tf.reshape(shift, per_channel))
    return result, group_mean, deviation


def group_norm_relu_gradient(
    upstream: tf.Tensor,
    x: tf.Tensor,
    gamma: tf.Tensor,
    result: tf.Tensor,
    group_mean: tf.Tensor,
    deviation: tf.Tensor,
    factor: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the gradients of (x, gamma, beta) from that of the result.

    With a `factor`, that of its product with `x` and not that of `x`. With n = (x - group_mean)
    * deviation and z = n * gamma + beta, the gradient of x is deviation * (gamma * dz -
    mean(gamma * dz) - n * mean(gamma * dz * n)), where the means are over a group; it is
    computed as dz * scale + x * slope + offset.
    """
    grouped, per_channel = _grouped_shapes(gamma)
    weight = tf.reshape(gamma, (GROUPS, -1))
    of_z = tf.raw_ops.ReluGrad(gradients=upstream, features=result)
    shape = tf.shape(x)
    positions = tf.cast(shape[1] * shape[2], tf.float32)
    total = tf.reshape(tf.reduce_sum(of_z, axis=(1, 2)), grouped)
    total_x = tf.reduce_sum(of_z * x, axis=(1, 2))
    if factor is not None:
        total_x *= factor
    total_x = tf.reshape(total_x, grouped)
    of_gamma = (total_x - group_mean * total) * deviation
    mean_z = tf.reduce_mean(weight * total, axis=2, keepdims=True) / positions
    mean_n = tf.reduce_mean(weight * of_gamma, axis=2, keepdims=True) / positions
    every = tf.shape(total)
    slope = -tf.square(deviation) * mean_n
    offset = -deviation * mean_z - group_mean * slope
    of_x = of_z * tf.reshape(deviation * weight, per_channel)
    slope = tf.reshape(tf.broadcast_to(slope, every), per_channel)
    if factor is not None:
        slope *= factor
    of_x += x * slope
    of_x += tf.reshape(tf.broadcast_to(offset, every), per_channel)
    return (
        of_x,
        tf.reshape(tf.reduce_sum(of_gamma, axis=0), (-1,)),
        tf.reshape(tf.reduce_sum(total, axis=0), (-1,)),
    )


def _grouped_shapes(gamma: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (-1, groups, channels / groups) and (-1, 1, 1, channels) for (channels,).

    From the shape of a weight, which is a constant wherever this is inlined.
    """
    channels = tf.shape(gamma)
    grouped = tf.concat([(-1, GROUPS), channels // GROUPS], axis=0)
    return grouped, tf.concat([(-1, 1, 1), channels], axis=0)


def pad(x: tf.Tensor, padding: int) -> tf.Tensor:
    """Put `padding` zeros on all four sides of (batch, height, width, channels)."""
    if not padding:
        return x
    return tf.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def convolve(
    x: tf.Tensor, kernel: tf.Tensor, stride: int, padding: int, products: bool
) -> tf.Tensor:
    """Convolve (batch, height, width, inputs) with a kernel (height, width, inputs, outputs).

    There are `padding` zeros on all four sides. With `products`, it is done by matrix products
    where there is no stride (see `convolve_by_products`).
    """
    if products and stride == 1:
        return convolve_by_products(x, kernel, padding)
    return tf.nn.conv2d(pad(x, padding), kernel, stride, "VALID")


def multiply_pixels(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Multiply each pixel of (.., .., .., inputs) by (inputs, outputs): (.., .., .., outputs)."""
    shape = tf.shape(matrix)
    product = tf.matmul(tf.reshape(x, tf.concat([(-1,), shape[:1]], axis=0)), matrix)
    return tf.reshape(product, tf.concat([tf.shape(x)[:3], shape[1:]], axis=0))


def convolve_by_products(x: tf.Tensor, kernel: tf.Tensor, padding: int) -> tf.Tensor:
    """Convolve (batch, height, width, inputs) by matrix products, with zeros on all four sides.

    The kernel is (size, size, inputs, outputs) with a size of 2 * `padding` + 1, so that the
    result is as large as the image: (batch, height, width, outputs). It is a product for each
    row of the kernel; what they multiply is the image beside itself, shifted by each column.
    """
    size = 2 * padding + 1
    matrices = tf.reshape(kernel, tf.concat([(size, -1), tf.shape(kernel)[3:]], axis=0))
    if size == 1:
        return multiply_pixels(x, matrices[0])
    # The rows of an image come first, so that those which one row of the kernel meets lie in one
    # piece. Where the batch is one image, TensorFlow copies nothing for that.
    rows = tf.transpose(x, (1, 0, 2, 3))
    height, width = tf.shape(rows)[0], tf.shape(rows)[2]
    rows = tf.pad(rows, ((padding, padding), (0, 0), (padding, padding), (0, 0)))
    rows = tf.concat([rows[:, :, column : column + width] for column in range(size)], axis=3)
    products = [multiply_pixels(rows[row : row + height], matrices[row]) for row in range(size)]
    return tf.transpose(tf.add_n(products), (1, 0, 2, 3))


def max_pool(x: tf.Tensor) -> tf.Tensor:
    """Take 3x3 maxima at stride 2, after padding with zeros (not minus infinity)."""
    return tf.nn.max_pool2d(pad(x, 1), 3, 2, "VALID")


class Layers:
    """The layers of one network, each a function that is traced once, for any number of channels.

    Of a kernel whose shape is not known, height * width * inputs has to be a multiple of `parts`
    (see `averaging`).

    One object serves one export: the order in which functions are traced follows from the
    network alone. With `folded`, kernels are used as they are: they were standardized before
    the export.
    """

    def __init__(self, *, folded: bool = False, parts: int = MOST_PARTS) -> None:
        self.folded = folded
        self._parts = parts
        kernel = image = tf.TensorSpec((None, None, None, None), tf.float32)
        scale = tf.TensorSpec((1, None), tf.float32)
        channels = tf.TensorSpec((None,), tf.float32)
        moment = tf.TensorSpec((None, GROUPS, 1), tf.float32)

        def layer(function: Callable[..., Any], *signature: Any) -> Callable[..., Any]:
            traced: Callable[..., Any] = tf.function(
                function, input_signature=signature, autograph=False
            )
            return traced

        norm = (image, channels, channels)
        self._centre = layer(centre, kernel, AVERAGING)
        self._centre_plainly = layer(centre_plainly, kernel, AVERAGING)
        self._standardize_gradient = layer(standardize_gradient, kernel, kernel, scale, AVERAGING)
        self._group_norm_relu = layer(group_norm_relu, *norm)
        self._group_norm_relu_of_product = layer(group_norm_relu, *norm, scale)
        known = (image, image, channels, image, moment, moment)
        self._group_norm_relu_gradient = layer(group_norm_relu_gradient, *known)
        self._group_norm_relu_gradient_of_product = layer(group_norm_relu_gradient, *known, scale)

    def convolve(
        self,
        x: tf.Tensor,
        kernel: tf.Tensor,
        stride: int = 1,
        padding: int = 0,
        after: tf.Tensor | None = None,
        products: bool = False,
    ) -> tf.Tensor:
        """Convolve with the standardized kernel and `padding` zeros on all four sides.

        With `after` (batch, ...), the kernel is standardized when that is there, not before,
        and by operations that TensorFlow Lite has too. `products` as for the function
        `convolve`.
        """
        standardized = kernel if self.folded else self._standardized(kernel, after)[0]
        return convolve(x, standardized, stride, padding, products)

    def convolve_unscaled(
        self,
        x: tf.Tensor,
        kernel: tf.Tensor,
        stride: int = 1,
        padding: int = 0,
        after: tf.Tensor | None = None,
        products: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Return what times a factor (1, outputs) is what `convolve` returns, and the factor.

        Where group normalization comes next, it costs less to scale there than to scale the
        kernel. There is no factor if kernels are folded.
        """
        if self.folded:
            return convolve(x, kernel, stride, padding, products), None
        centred, scale = self._centred(kernel, after)
        return convolve(x, centred, stride, padding, products), scale

    def convolve_gradient(
        self,
        upstream: tf.Tensor,
        x: tf.Tensor,
        kernel: tf.Tensor,
        stride: int = 1,
        padding: int = 0,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the gradients of (x, kernel) from that of what `convolve` returns."""
        standardized, scale = self._standardized(kernel)
        padded = pad(x, padding)
        strides = [1, stride, stride, 1]
        of_padded = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(padded),
            filter=standardized,
            out_backprop=upstream,
            strides=strides,
            padding="VALID",
        )
        of_standardized = tf.raw_ops.Conv2DBackpropFilter(
            input=padded,
            filter_sizes=tf.shape(kernel),
            out_backprop=upstream,
            strides=strides,
            padding="VALID",
        )
        of_kernel = self._standardize_gradient(
            of_standardized, standardized, scale, averaging(kernel, self._parts)
        )
        of_kernel.set_shape(kernel.shape)
        of_x = of_padded[:, padding:-padding, padding:-padding, :] if padding else of_padded
        of_x.set_shape(x.shape)
        return of_x, of_kernel

    def group_norm_relu(
        self,
        x: tf.Tensor,
        gamma: tf.Tensor,
        beta: tf.Tensor,
        factor: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Apply group normalization and ReLU, with a factor to `x` times that."""
        return self._normalized(x, gamma, beta, factor)[0]

    def group_norm_relu_with_gradient(
        self,
        x: tf.Tensor,
        gamma: tf.Tensor,
        beta: tf.Tensor,
        factor: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, Backward]:
        """Return `group_norm_relu` and a function to the gradients of (x, gamma, beta).

        With a factor, to that of `x` times the factor and not that of `x`.
        """
        result, group_mean, deviation = self._normalized(x, gamma, beta, factor)

        def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            known = (upstream, x, gamma, result, group_mean, deviation)
            if factor is None:
                gradients = self._group_norm_relu_gradient(*known)
            else:
                gradients = self._group_norm_relu_gradient_of_product(*known, factor)
            for gradient, of in zip(gradients, (x, gamma, beta), strict=True):
                gradient.set_shape(of.shape)
            return tuple(gradients)

        return result, backward

    def _normalized(
        self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, factor: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if factor is None:
            result, group_mean, deviation = self._group_norm_relu(x, gamma, beta)
        else:
            result, group_mean, deviation = self._group_norm_relu_of_product(x, gamma, beta, factor)
        result.set_shape(x.shape)
        return result, group_mean, deviation

    def _centred(
        self, kernel: tf.Tensor, after: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        by = averaging(kernel, self._parts)
        if after is None:
            centred, scale = self._centre(kernel, by)
        else:
            centred, scale = self._centre_plainly(kernel, by.not_before(after))
        centred.set_shape(kernel.shape)
        scale.set_shape((1, kernel.shape[3]))
        return centred, scale

    def _standardized(
        self, kernel: tf.Tensor, after: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        centred, scale = self._centred(kernel, after)
        return centred * scale, scale

"""The layers of the BiT network in plain TensorFlow.

XLA, gradients of any order and the converters to other formats support every operation used
here. Whatever follows from weights alone is computed without the image, so that freezing can
fold it into a constant.
"""

from math import gcd, prod

import tensorflow as tf

GROUPS = 32
GROUP_NORM_EPSILON = 1e-5
STANDARDIZATION_EPSILON = 1e-10
MOST_PARTS = 64  # parts of a kernel's channel; the inverse of a power of two is exact


def channel_mean(kernel: tf.Tensor) -> tf.Tensor:
    """Return the mean of a (height, width, inputs, outputs) kernel per channel, (outputs,).

    Takes the mean in two matrix products: first across up to 64 equal parts of each channel,
    then within a part. A matrix product reads a kernel about twice as fast as a reduction over
    the leading axes, and a sum in two steps is closer to float64.
    """
    *leading, outputs = kernel.shape
    parts = gcd(prod(leading), MOST_PARTS)
    rest = prod(leading) // parts
    means = tf.matmul(tf.constant(1.0 / parts, shape=(1, parts)), tf.reshape(kernel, (parts, -1)))
    mean = tf.matmul(tf.constant(1.0 / rest, shape=(1, rest)), tf.reshape(means, (rest, outputs)))
    return tf.reshape(mean, (outputs,))


def centre(kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Subtract the mean of each output channel from a (height, width, inputs, outputs) kernel.

    Returns the centred kernel and the reciprocal of its standard deviation, (outputs,). Their
    product is the standardized kernel.
    Source: Qiao et al., "Weight Standardization", arXiv:1903.10520.
    """
    centred = kernel - channel_mean(kernel)
    variance = channel_mean(tf.square(centred))
    return centred, tf.math.rsqrt(variance + STANDARDIZATION_EPSILON)


def group_norm_relu(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """Apply group normalization and ReLU to (batch, height, width, channels).

    Takes the mean of each channel in one pass over contiguous memory, then combines the means of
    each group, which are tiny tensors. This is faster and closer to float64 than a reshape to
    five dimensions. Matrix products average and spread the groups, and bias additions add to
    each channel, because these operations have the smallest gradient graphs.
    Source: Wu and He, "Group Normalization", arXiv:1803.08494.
    """
    channels = x.shape[-1]
    of_group = channels // GROUPS
    share = tf.constant(1.0 / of_group, shape=(of_group, 1))
    spread = tf.constant(1.0, shape=(1, of_group))

    def group_mean(x: tf.Tensor) -> tf.Tensor:  # (batch * groups, 1)
        of_channels = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        return tf.matmul(tf.reshape(of_channels, (-1, of_group)), share)

    def per_channel(of_groups: tf.Tensor) -> tf.Tensor:  # (batch, 1, 1, channels)
        return tf.reshape(tf.matmul(of_groups, spread), (-1, 1, 1, channels))

    means = per_channel(group_mean(x))
    variance = group_mean(tf.math.squared_difference(x, means))
    deviation = tf.math.rsqrt(tf.nn.bias_add(variance, tf.constant([GROUP_NORM_EPSILON])))
    slope = per_channel(deviation) * gamma
    return tf.nn.relu(x * slope + tf.nn.bias_add(-means * slope, beta))


def pad(x: tf.Tensor, padding: int) -> tf.Tensor:
    """Pad (batch, height, width, channels) with `padding` zeros on all four sides."""
    return tf.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def convolve(x: tf.Tensor, kernel: tf.Tensor, stride: int = 1) -> tf.Tensor:
    """Convolve (batch, height, width, inputs) with a (size, size, inputs, outputs) kernel.

    Pads `size // 2` zeros on all four sides; `size` is odd. For a stride above 1, TensorFlow's
    `SAME` pads differently.
    """
    if stride == 1 or kernel.shape[0] == 1:
        return tf.nn.conv2d(x, kernel, stride, "SAME")
    return tf.nn.conv2d(pad(x, kernel.shape[0] // 2), kernel, stride, "VALID")


def max_pool(x: tf.Tensor) -> tf.Tensor:
    """Take 3x3 maxima at stride 2, after padding with zeros (not minus infinity)."""
    return tf.nn.max_pool2d(pad(x, 1), 3, 2, "VALID")

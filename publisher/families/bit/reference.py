"""The BiT forward pass in float64 NumPy, the reference for every SavedModel.

It follows the paper and the names of the arrays, and shares no code with `network`. It finds the
units by the names in the weights, so it cannot repeat a mistake that the TensorFlow form makes
about the layout.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = Mapping[str, npt.NDArray[np.float32]]

GROUPS = 32
GROUP_NORM_EPSILON = 1e-5
STANDARDIZATION_EPSILON = 1e-10
CLASSES_AT_ONCE = 2048


def standardize(kernel: npt.NDArray[np.float32]) -> Array:
    """Standardize a (height, width, inputs, outputs) kernel per output channel.

    Source: Qiao et al., "Weight Standardization", arXiv:1903.10520.
    """
    wide = kernel.astype(np.float64)
    wide -= wide.mean(axis=(0, 1, 2), keepdims=True)
    variance = (wide * wide).mean(axis=(0, 1, 2), keepdims=True)
    wide /= np.sqrt(variance + STANDARDIZATION_EPSILON)
    return np.asarray(wide)


def folded(name: str, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the array `name` as a folded model must hold it.

    Standardizes the kernel of a standardized convolution in float64 and rounds once to float32.
    Returns any other array unchanged.
    """
    if not name.endswith("/standardized_conv2d/kernel"):
        return array
    return standardize(array).astype(np.float32)


def convolve(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Convolve (batch, height, width, inputs) with `padding` zeros on all four sides."""
    height, width, inputs, outputs = kernel.shape
    if padding:
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]  # batch, rows, columns, inputs, height, width
    patches = windows.transpose(0, 1, 2, 4, 5, 3)
    flat = patches.reshape(-1, height * width * inputs)
    product = flat @ kernel.reshape(-1, outputs)
    return np.asarray(product.reshape(*patches.shape[:3], outputs))


def max_pool(x: Array) -> Array:
    """Take 3x3 maxima at stride 2, after padding with zeros (not minus infinity)."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    return np.asarray(windows[:, ::2, ::2].max(axis=(-2, -1)))


def normalize(x: Array, gamma: npt.NDArray[np.float32], beta: npt.NDArray[np.float32]) -> Array:
    """Apply group normalization (Wu and He, arXiv:1803.08494) and ReLU."""
    batch, height, width, channels = x.shape
    grouped = x.reshape(batch, height, width, GROUPS, channels // GROUPS)
    mean = grouped.mean(axis=(1, 2, 4), keepdims=True)
    variance = grouped.var(axis=(1, 2, 4), keepdims=True)
    normal = (grouped - mean) / np.sqrt(variance + GROUP_NORM_EPSILON)
    scaled = normal.reshape(x.shape) * gamma.astype(np.float64) + beta.astype(np.float64)
    return np.asarray(np.maximum(scaled, 0.0))


def _unit(xs: list[Array], weights: Weights, prefix: str, stride: int) -> list[Array]:
    def norm(values: list[Array], step: str) -> list[Array]:
        name = f"{prefix}/{step}/group_norm"
        gamma, beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]
        return [normalize(value, gamma, beta) for value in values]

    def convolved(values: list[Array], step: str, stride: int, padding: int) -> list[Array]:
        kernel = standardize(weights[f"{prefix}/{step}/standardized_conv2d/kernel"])
        return [convolve(value, kernel, stride, padding) for value in values]

    hidden = norm(xs, "a")
    if f"{prefix}/a/proj/standardized_conv2d/kernel" in weights:
        shortcuts = convolved(hidden, "a/proj", stride, 0)
    else:
        shortcuts = xs
    hidden = convolved(hidden, "a", 1, 0)
    hidden = convolved(norm(hidden, "b"), "b", stride, 1)
    hidden = convolved(norm(hidden, "c"), "c", 1, 0)
    return [shortcut + value for shortcut, value in zip(shortcuts, hidden, strict=True)]


def features(weights: Weights, images: npt.NDArray[np.floating]) -> Array:
    """Return the pooled features, (batch, features) float64.

    `images` is (batch, height, width, 3) with values in [-1, 1].
    """
    return features_of_each(weights, [images])[0]


def features_of_each(weights: Weights, batches: Iterable[npt.NDArray[np.floating]]) -> list[Array]:
    """Return the pooled features of several batches, which may differ in height and width.

    Equals `features` of each batch, but reads and standardizes every array only once.
    """
    root = standardize(weights["resnet/root_block/standardized_conv2d/kernel"])
    xs = [max_pool(convolve(images.astype(np.float64), root, 2, 3)) for images in batches]
    prefixes = sorted({"/".join(name.split("/")[:3]) for name in weights if "/unit" in name})
    for prefix in prefixes:
        first_of_later_block = prefix.endswith("unit01") and "/block1/" not in prefix
        xs = _unit(xs, weights, prefix, stride=2 if first_of_later_block else 1)
    gamma, beta = weights["resnet/group_norm/gamma"], weights["resnet/group_norm/beta"]
    return [np.asarray(normalize(x, gamma, beta).mean(axis=(1, 2))) for x in xs]


def logits(weights: Weights, pooled: npt.NDArray[np.floating]) -> Array:
    """Return the (batch, classes) float64 logits of (batch, features) pooled features.

    Computes them in blocks of classes, because the float64 kernel for the 21,843 classes of
    ImageNet-21k would take 1.4 GB.
    """
    kernel = weights["resnet/head/conv2d/kernel"][0, 0]
    bias = weights["resnet/head/conv2d/bias"].astype(np.float64)
    features = pooled.astype(np.float64)
    blocks = [
        features @ kernel[:, first : first + CLASSES_AT_ONCE].astype(np.float64)
        for first in range(0, kernel.shape[1], CLASSES_AT_ONCE)
    ]
    return np.asarray(np.concatenate(blocks, axis=1) + bias)

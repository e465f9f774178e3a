"""The truth needs a truth of its own: plain loops over the published formulas."""

import ast
import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from publisher.families import ARCHITECTURES
from publisher.families.bit import reference

Array = npt.NDArray[Any]


def looped_convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Multiply and add, one number at a time; outside the image there are zeros."""
    batch, rows, columns, inputs = x.shape
    height, width, _, outputs = kernel.shape
    result = np.zeros(
        (
            batch,
            (rows + 2 * padding - height) // stride + 1,
            (columns + 2 * padding - width) // stride + 1,
            outputs,
        )
    )
    for image, row, column, output in np.ndindex(result.shape):
        for i, j, channel in itertools.product(range(height), range(width), range(inputs)):
            y, z = row * stride + i - padding, column * stride + j - padding
            if 0 <= y < rows and 0 <= z < columns:
                result[image, row, column, output] += (
                    x[image, y, z, channel] * kernel[i, j, channel, output]
                )
    return result


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padding"),
    [
        ((5, 6), (3, 3), 1, 1),
        ((5, 6), (3, 3), 2, 1),
        ((6, 5), (1, 1), 1, 0),
        ((6, 5), (1, 1), 2, 0),
        ((8, 9), (7, 7), 2, 3),
        ((5, 5), (2, 3), 1, 0),
        ((1, 1), (3, 3), 2, 1),
    ],
)
def test_convolution_equals_loops(
    size: tuple[int, int], kernel_size: tuple[int, int], stride: int, padding: int
) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(2, *size, 3))
    kernel = random.normal(size=(*kernel_size, 3, 4))
    result = reference.convolve(x, kernel, stride, padding)
    expected = looped_convolution(x, kernel, stride, padding)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_standardizes_over_all_but_the_outputs() -> None:
    # Output 0 holds 1, 2, 3, 6: mean 3, population variance (4 + 1 + 0 + 9) / 4 = 3.5.
    # Output 1 holds 5 four times: nothing is left of it.
    kernel = np.array([[1, 5], [2, 5], [3, 5], [6, 5]], np.float32).reshape(2, 1, 2, 2)
    result = reference.standardize(kernel)
    deviation = math.sqrt(3.5 + 1e-10)
    np.testing.assert_allclose(
        result[..., 0].ravel(), [-2 / deviation, -1 / deviation, 0, 3 / deviation], rtol=1e-15
    )
    np.testing.assert_array_equal(result[..., 1], 0)
    assert result.dtype == np.float64


def test_a_folded_kernel_is_standardized_and_rounded_once() -> None:
    kernel = np.random.default_rng(9).normal(size=(3, 3, 8, 5)).astype(np.float32)
    wide = reference.standardize(kernel)
    result = reference.folded("resnet/block1/unit01/a/proj/standardized_conv2d/kernel", kernel)
    assert result.dtype == np.float32
    # No other float32 is nearer.
    error = np.abs(result - wide)
    for neighbour in (-np.inf, np.inf):
        other = np.nextafter(result, np.float32(neighbour)).astype(np.float64)
        assert (error <= np.abs(other - wide)).all()


@pytest.mark.parametrize("name", ["resnet/head/conv2d/kernel", "resnet/group_norm/gamma"])
def test_what_is_not_standardized_is_not_folded(name: str) -> None:
    array = np.random.default_rng(9).normal(size=(1, 1, 8, 5)).astype(np.float32)
    assert reference.folded(name, array) is array


def test_standardization_adds_its_epsilon_under_the_root() -> None:
    # Variance 1e-10 and epsilon 1e-10: 1e-5 becomes 1 / sqrt(2), where another place or
    # another size of the epsilon would give something else.
    kernel = np.array([-1e-5, 1e-5], np.float32).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(
        reference.standardize(kernel).ravel(), [-math.sqrt(0.5), math.sqrt(0.5)], rtol=1e-6
    )


def test_normalizes_each_group_of_each_image_by_itself() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(2, 2, 3, 64)) * 3 + 1
    gamma = random.normal(size=64).astype(np.float32)
    beta = random.normal(size=64).astype(np.float32)
    expected = np.empty_like(x)
    for image, group in np.ndindex(2, 32):
        channels = [2 * group, 2 * group + 1]  # neighbours, not 32 apart
        values = [x[image, i, j, k] for i in range(2) for j in range(3) for k in channels]
        mean = math.fsum(values) / 12
        variance = math.fsum((value - mean) ** 2 for value in values) / 12
        for i, j, k in itertools.product(range(2), range(3), channels):
            normal = (x[image, i, j, k] - mean) / math.sqrt(variance + 1e-5)
            expected[image, i, j, k] = max(normal * float(gamma[k]) + float(beta[k]), 0.0)
    result = reference.normalize(x, gamma, beta)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    assert (result == 0).any()


def test_normalization_adds_its_epsilon_under_the_root() -> None:
    x = np.zeros((1, 1, 2, 32))
    x[0, 0, 0], x[0, 0, 1] = math.sqrt(1e-5), -math.sqrt(1e-5)  # variance 1e-5 in each group
    one, zero = np.ones(32, np.float32), np.zeros(32, np.float32)
    result = reference.normalize(x, one, zero)
    np.testing.assert_allclose(result[0, 0, 0], math.sqrt(0.5), rtol=1e-12)
    np.testing.assert_array_equal(result[0, 0, 1], 0)


def test_pools_with_zeros_at_the_border() -> None:
    x = np.full((1, 4, 5, 1), -1.0)
    x[0, 1:3, 1:4] = -2.0
    # Windows that reach over the border see a zero there; the one window that does not
    # (rows 1-3, columns 1-3) sees its own maximum.
    np.testing.assert_array_equal(reference.max_pool(x)[0, :, :, 0], [[0, 0, 0], [0, -1, 0]])


@pytest.mark.parametrize("at_once", [1, 2, 3, 2048])
def test_the_head_is_a_matrix_and_a_bias(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "CLASSES_AT_ONCE", at_once)
    weights = {
        "resnet/head/conv2d/kernel": np.array([[1, 2, 3], [4, 5, 6]], np.float32)[None, None],
        "resnet/head/conv2d/bias": np.array([0.5, -0.5, 0], np.float32),
    }
    pooled = np.array([[1.0, 10.0], [0.0, 1.0]])
    np.testing.assert_array_equal(
        reference.logits(weights, pooled), [[41.5, 51.5, 63], [4.5, 4.5, 6]]
    )


def test_a_whole_pass_equals_loops() -> None:
    """The smallest network: one unit a block, 32 channels, an image of 8 x 12 pixels."""
    shapes = {
        name: shape
        for name, shape in ARCHITECTURES["R20x0.5"].arrays(3).items()
        if not any(part in name for part in ("block1/unit03", "block3", "block4", "head"))
    }
    shapes["resnet/group_norm/gamma"] = shapes["resnet/group_norm/beta"] = (256,)
    random = np.random.default_rng(2)
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    image = random.uniform(-1, 1, size=(1, 8, 12, 3)).astype(np.float32)

    def kernel(name: str) -> Array:
        raw = weights[f"{name}/standardized_conv2d/kernel"].astype(np.float64)
        flat = raw.reshape(-1, raw.shape[-1])
        centred = flat - flat.sum(0) / len(flat)
        variance = (centred**2).sum(0) / len(flat)
        return np.reshape(centred / (variance + 1e-10) ** 0.5, raw.shape)

    def norm(x: Array, name: str) -> Array:
        out = np.empty_like(x)
        for group in np.split(np.arange(x.shape[-1]), 32):
            part = x[..., group]
            centred = part - part.sum() / part.size
            out[..., group] = centred / ((centred**2).sum() / part.size + 1e-5) ** 0.5
        gamma, beta = (weights[f"{name}/group_norm/{which}"] for which in ("gamma", "beta"))
        out = out * gamma.astype(np.float64) + beta.astype(np.float64)
        return np.where(out > 0, out, 0)

    def convolution(x: Array, name: str, stride: int = 1) -> Array:
        """Sum over the kernel's positions; padding keeps the size at stride 1."""
        k = kernel(name)
        pad = k.shape[0] // 2
        wide = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        rows, columns = x.shape[1:3]
        out = sum(
            wide[:, i : i + rows, j : j + columns] @ k[i, j]
            for i in range(k.shape[0])
            for j in range(k.shape[1])
        )
        return np.asarray(out)[:, ::stride, ::stride]

    x = convolution(image.astype(np.float64), "resnet/root_block", 2)
    assert x.shape == (1, 4, 6, 32)
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = np.stack(
        [
            np.stack([wide[:, i : i + 3, j : j + 3].max((1, 2)) for j in (0, 2, 4)], 1)
            for i in (0, 2)
        ],
        1,
    )
    for unit, stride, projected in (
        ("resnet/block1/unit01", 1, True),
        ("resnet/block1/unit02", 1, False),
        ("resnet/block2/unit01", 2, True),
    ):
        hidden = norm(x, f"{unit}/a")
        shortcut = convolution(hidden, f"{unit}/a/proj", stride) if projected else x
        hidden = norm(convolution(hidden, f"{unit}/a"), f"{unit}/b")
        hidden = norm(convolution(hidden, f"{unit}/b", stride), f"{unit}/c")
        x = shortcut + convolution(hidden, f"{unit}/c")
    assert x.shape == (1, 1, 2, 256)
    x = norm(x, "resnet")
    expected = x.sum((1, 2)) / (x.shape[1] * x.shape[2])

    result = reference.features(weights, image)
    assert result.shape == (1, 256)
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12)


def test_an_images_result_does_not_depend_on_its_batch(
    arrays: dict[str, npt.NDArray[np.float32]],
) -> None:
    images = np.random.default_rng(3).uniform(-1, 1, size=(3, 32, 40, 3))
    together = reference.features(arrays, images)
    alone = np.concatenate([reference.features(arrays, image[None]) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-10)


def test_batches_of_several_sizes_are_answered_together_and_each_array_is_asked_for_once(
    arrays: dict[str, npt.NDArray[np.float32]],
) -> None:
    asked: Counter[str] = Counter()

    class Counted(dict[str, npt.NDArray[np.float32]]):
        def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
            asked[name] += 1
            return super().__getitem__(name)

    random = np.random.default_rng(3)
    batches = [random.uniform(-1, 1, size=(count, 32, 40 * count, 3)) for count in (1, 2)]
    together = reference.features_of_each(Counted(arrays), batches)
    assert set(asked.values()) == {1}
    assert set(asked) == {name for name in arrays if "head" not in name}
    for batch, found in zip(batches, together, strict=True):
        np.testing.assert_array_equal(found, reference.features(arrays, batch))


def test_shares_no_code_with_the_tensorflow_form() -> None:
    tree = ast.parse(Path(reference.__file__).read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or ".")
    assert imported == {"collections.abc", "numpy", "numpy.typing"}

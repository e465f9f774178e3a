"""The JAX form against formulas in float64, and as a whole against the reference."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from publisher.families import ARCHITECTURES
from publisher.families.bit import BitArchitecture, reference
from publisher.weights import synthetic_array

pytestmark = pytest.mark.clients
pytest.importorskip("jax", reason="needs the extra `jax`")

from publisher.families.bit import jax_form  # noqa: E402

Array = npt.NDArray[Any]
Weights = dict[str, npt.NDArray[np.float32]]
RANGE = (-1.0, 1.0)


def images(*shape: int, low: float = -1, high: float = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(low, high, (*shape, 3)).astype(np.float32)


def truth(arrays: Weights, batch: Array, *, head: bool = True) -> Array:
    features = reference.features(arrays, batch)
    return reference.logits(arrays, features) if head else features


# --- the pieces ---


def test_standardize_follows_its_formula() -> None:
    kernel = (np.random.default_rng(1).normal(size=(3, 3, 8, 5)) + 2).astype(np.float32)
    result = np.asarray(jax_form.standardize(kernel))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference.standardize(kernel), rtol=1e-5, atol=1e-6)


def test_standardize_adds_its_epsilon_under_the_root() -> None:
    kernel = np.array([-1e-5, 1e-5], np.float32).reshape(1, 1, 2, 1)
    result = np.asarray(jax_form.standardize(kernel)).ravel()
    np.testing.assert_allclose(result, [-np.sqrt(0.5), np.sqrt(0.5)], rtol=1e-5)


@pytest.mark.parametrize("channels", [32, 64])
def test_group_norm_relu_follows_its_formula(channels: int) -> None:
    random = np.random.default_rng(2)
    x = (random.normal(size=(3, 4, 6, channels)) * 3 + 1).astype(np.float32)
    gamma, beta = (random.normal(size=channels).astype(np.float32) for _ in "gb")
    result = np.asarray(jax_form.group_norm_relu(x, gamma, beta))
    expected = reference.normalize(x.astype(np.float64), gamma, beta)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padding"),
    [((5, 6), 3, 1, 1), ((5, 6), 3, 2, 1), ((6, 5), 1, 2, 0), ((9, 8), 7, 2, 3)],
)
def test_convolution_follows_its_formula(
    size: tuple[int, int], kernel_size: int, stride: int, padding: int
) -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=(2, *size, 3)).astype(np.float32)
    kernel = random.normal(size=(kernel_size, kernel_size, 3, 4)).astype(np.float32)
    wide = x.astype(np.float64)
    expected = reference.convolve(wide, reference.standardize(kernel), stride, padding)
    result = np.asarray(jax_form.convolve(x, kernel, stride, padding))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    plain = reference.convolve(wide, kernel.astype(np.float64), stride, padding)
    folded = np.asarray(jax_form.convolve(x, kernel, stride, padding, folded=True))
    np.testing.assert_allclose(folded, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
def test_the_pool_pads_with_zeros(size: tuple[int, int]) -> None:
    """Of values that are all negative, the border's maximum is 0."""
    x = -1 - np.random.default_rng(4).random((2, *size, 3)).astype(np.float32)
    result = np.asarray(jax_form.max_pool(x))
    np.testing.assert_array_equal(result, reference.max_pool(x.astype(np.float64)))
    assert (result[:, 0] == 0).all()
    assert (result[:, 1:-1, 1:-1] < 0).all()


# --- the whole ---


@pytest.mark.parametrize("head", [True, False], ids=["classifier", "feature_extractor"])
@pytest.mark.parametrize("size", [(32, 32), (40, 56)])
def test_outputs_are_those_of_the_float64_reference(
    size: tuple[int, int], head: bool, architecture: BitArchitecture, arrays: Weights
) -> None:
    kept = arrays if head else {name: arrays[name] for name in architecture.backbone(arrays)}
    batch = images(2, *size)
    result = np.asarray(jax_form.compiled(architecture, kept, RANGE)(batch))
    expected = truth(arrays, batch, head=head)
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1


def test_one_array_more_or_less_standardized_is_seen(
    architecture: BitArchitecture, arrays: Weights
) -> None:
    """The comparison above could fail: the network with its kernels as they are is another."""
    batch = images(1, 32, 32)
    wrong = np.asarray(jax_form.compiled(architecture, arrays, RANGE, folded=True)(batch))
    assert np.abs(wrong - truth(arrays, batch)).max() > 1e-2


def test_folded_kernels_are_not_standardized_again(
    architecture: BitArchitecture, arrays: Weights
) -> None:
    folded = {name: reference.folded(name, array) for name, array in arrays.items()}
    batch = images(1, 32, 32)
    result = np.asarray(jax_form.compiled(architecture, folded, RANGE, folded=True)(batch))
    np.testing.assert_allclose(result, truth(arrays, batch), atol=1e-4)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0)])
def test_an_input_range_is_scaled(
    bounds: tuple[float, float], architecture: BitArchitecture, arrays: Weights
) -> None:
    low, high = bounds
    batch = images(1, 32, 32, low=low, high=high)
    scaled = (batch.astype(np.float64) - low) * (2 / (high - low)) - 1
    result = np.asarray(jax_form.compiled(architecture, arrays, bounds)(batch))
    np.testing.assert_allclose(result, truth(arrays, scaled), atol=1e-4)


def test_a_wider_and_deeper_network_is_the_same_code() -> None:
    """R50x1 has repeated units in every block."""
    architecture = ARCHITECTURES["R50x1"]
    shapes = architecture.arrays(10)
    arrays = {name: synthetic_array(name, shape) for name, shape in shapes.items()}
    batch = images(1, 32, 32)
    result = np.asarray(jax_form.compiled(architecture, arrays, RANGE)(batch))
    expected = truth(arrays, batch)
    np.testing.assert_allclose(result, expected, atol=2e-4, rtol=1e-4)


# --- the SavedModel ---


@pytest.fixture(scope="module")
def exported(
    architecture: BitArchitecture, arrays: Weights, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    directory = tmp_path_factory.mktemp("jax") / "saved_model"
    jax_form.export(architecture, arrays, RANGE, "logits", directory)
    return directory


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 40, 56), (2, 65, 33)])
def test_the_saved_model_takes_any_batch_and_size(
    shape: tuple[int, int, int], exported: Path, arrays: Weights
) -> None:
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    batch = images(*shape)
    result = signature(images=tf.constant(batch))
    assert list(result) == ["logits"]
    np.testing.assert_allclose(result["logits"].numpy(), truth(arrays, batch), atol=1e-4)


def test_the_saved_model_holds_the_weights_as_variables(exported: Path, arrays: Weights) -> None:
    variables = tf.saved_model.load(str(exported)).variables
    found = {variable.name.partition(":")[0]: variable.numpy() for variable in variables}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_it_shares_no_code_with_the_other_forms() -> None:
    tree = ast.parse(Path(jax_form.__file__).read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [module for module in modules if module and module.startswith("publisher")] == [
        "publisher.families.bit.layout"
    ]

import math
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from publisher.families.bit import BitArchitecture, network, reference
from publisher.families.bit.folding import Folded, fold

Array = npt.NDArray[Any]
Weights = dict[str, npt.NDArray[np.float32]]


def test_a_kernel_follows_the_formula_and_is_rounded_once() -> None:
    kernel = (np.random.default_rng(6).normal(size=(3, 3, 8, 5)) + 2).astype(np.float32)
    kernel[..., 4] = 0.25  # a constant output channel: nothing to divide by but the epsilon
    wide = kernel.astype(np.longdouble)
    mean = wide.mean((0, 1, 2))
    expected = (wide - mean) / np.sqrt(((wide - mean) ** 2).mean((0, 1, 2)) + 1e-10)
    result = fold(kernel)
    assert result.dtype == np.float32
    # Half a step of float32, and what float64 may be off.
    step = np.spacing(np.abs(result))
    assert (np.abs(result - expected) <= 0.5 * step + 1e-14).all()


def test_the_epsilon_is_added_under_the_root() -> None:
    kernel = np.array([-1e-5, 1e-5], np.float32).reshape(1, 1, 2, 1)
    expected = [-math.sqrt(0.5), math.sqrt(0.5)]
    np.testing.assert_allclose(fold(kernel).ravel(), expected, rtol=1e-6)


def test_the_same_bits_come_out_whatever_the_order_in_memory_is() -> None:
    # Large weights that cancel each other and small ones: in what order float64 adds shows.
    random = np.random.default_rng(7)
    large, small = random.normal(size=(2, 192, 48))
    kernel = random.permutation(np.concatenate([large, -large, 1e-9 * small]))
    kernel = kernel.reshape(3, 3, 64, 48).astype(np.float32)
    folded = fold(kernel)
    np.testing.assert_array_equal(fold(np.asfortranarray(kernel)), folded)
    np.testing.assert_array_equal(reference.folded("a/standardized_conv2d/kernel", kernel), folded)


def test_kernels_of_standardized_convolutions_are_folded_and_nothing_else(arrays: Weights) -> None:
    folded = Folded(arrays)
    assert list(folded) == list(arrays)
    assert len(folded) == len(arrays)
    kernels = [name for name in arrays if "standardized" in name]
    assert len(kernels) == 1 + 3 * 6 + 4  # the root, three a unit, and the projections
    for name in arrays:
        if name in kernels:
            expected = reference.standardize(arrays[name]).astype(np.float32)
            np.testing.assert_array_equal(folded[name], expected, err_msg=name)
        else:
            assert folded[name] is arrays[name]


def test_an_array_is_read_when_it_is_asked_for_and_not_kept(arrays: Weights) -> None:
    """The large networks have nearly a gigabyte of weights."""
    read: list[weakref.ref[Array]] = []

    class Recorded(Mapping[str, npt.NDArray[np.float32]]):
        def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
            array = arrays[name].copy()
            read.append(weakref.ref(array))
            return array

        def __iter__(self) -> Iterator[str]:
            return iter(arrays)

        def __len__(self) -> int:
            return len(arrays)

    folded = Folded(Recorded())
    assert read == []
    for count, name in enumerate(folded, start=1):
        result = weakref.ref(folded[name])
        assert len(read) == count
        assert read[-1]() is None, name
        assert result() is None, name


def test_a_network_for_folded_arrays_lists_its_variables_and_trains_none(
    architecture: BitArchitecture, arrays: Weights
) -> None:
    model, _ = network.build(architecture, Folded(arrays), (-1.0, 1.0), "logits", folded=True)
    assert model.trainable_variables == []
    assert [variable.name.removesuffix(":0") for variable in model.variables] == list(arrays)
    assert not any(variable.trainable for variable in model.variables)


def test_a_network_for_folded_arrays_agrees_with_the_float64_reference(
    architecture: BitArchitecture, arrays: Weights
) -> None:
    model, _ = network.build(architecture, Folded(arrays), (-1.0, 1.0), "logits", folded=True)
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 48, 40, 3)).astype(np.float32)
    expected = reference.logits(arrays, reference.features(arrays, batch))
    result = model.__call__(tf.constant(batch)).numpy()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

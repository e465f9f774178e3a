import tracemalloc
from typing import Any

import numpy as np
import pytest

from publisher.weights import WeightsError, WeightsFigures, check_weights
from publisher.weights.check import CHUNK

EXPECTED = {"net/kernel": (3, 4), "net/gamma": (4,), "net/bias": (1,)}


def good() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "net/kernel": np.arange(12, dtype="<f4").reshape(3, 4),
        "net/gamma": np.linspace(-2, 1, 4, dtype="<f4"),
        "net/bias": np.zeros(1, "<f4"),
    }


def complaint(arrays: dict[str, np.ndarray[Any, Any]]) -> str:
    with pytest.raises(WeightsError) as caught:
        check_weights(arrays, EXPECTED, "R1x1")
    message = str(caught.value)
    assert message.startswith("R1x1: ")
    assert "models.yaml" in message.splitlines()[-1]
    return message


def test_measures_weights_that_fit() -> None:
    assert check_weights(good(), EXPECTED, "R1x1") == WeightsFigures(3, 17, -2.0, 11.0)


def test_does_not_mind_another_order() -> None:
    arrays = dict(reversed(good().items()))
    assert check_weights(arrays, EXPECTED, "R1x1").arrays == 3


def test_names_what_is_missing() -> None:
    arrays = good()
    del arrays["net/gamma"]
    assert "  missing: net/gamma\n" in complaint(arrays)


def test_names_what_is_extra_and_what_it_may_have_been_meant_for() -> None:
    arrays = good()
    arrays["net/gama"] = arrays.pop("net/gamma")
    assert "  not expected: net/gama (nearest expected name: net/gamma)\n" in complaint(arrays)


def test_gives_both_shapes() -> None:
    arrays = good() | {"net/kernel": np.arange(12, dtype="<f4").reshape(4, 3)}
    assert "  wrong shape: net/kernel: (4, 3), expected (3, 4)\n" in complaint(arrays)


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4", "<i4"])
def test_takes_only_little_endian_float32(dtype: str) -> None:
    arrays = good()
    arrays["net/gamma"] = arrays["net/gamma"].astype(dtype)
    assert f"  wrong dtype: net/gamma: {dtype}, expected <f4\n" in complaint(arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_counts_and_locates_what_is_not_finite(value: float, order: Any) -> None:
    arrays = good()
    kernel = arrays["net/kernel"].copy(order=order)
    kernel[2, 1] = kernel[1, 3] = value
    arrays["net/kernel"] = kernel
    line = "  not finite: net/kernel: 2 of 12 elements, the first at (1, 3)\n"
    assert line in complaint(arrays)


def test_finds_one_bad_element_far_into_a_large_array() -> None:
    array = np.arange(3 * CHUNK, dtype="<f4")
    array[2 * CHUNK + 5] = np.nan
    with pytest.raises(WeightsError, match=rf"1 of {array.size} elements, .* \({2 * CHUNK + 5},\)"):
        check_weights({"x": array}, {"x": array.shape}, "R1x1")


def test_refuses_an_array_of_one_value_unless_it_has_one_element() -> None:
    arrays = good() | {"net/gamma": np.ones(4, "<f4")}
    message = complaint(arrays)
    assert "  constant: net/gamma: all 1.0\n" in message
    assert "net/bias" not in message


def test_lists_all_kinds_in_one_error() -> None:
    message = complaint(
        {
            "net/kernel": np.full((4, 3), np.inf, "<f4"),
            "net/gamma": np.ones(4, "<f8"),
            "other": np.ones(1, "<f4"),
        }
    )
    kinds = ("missing", "not expected", "wrong shape", "wrong dtype", "not finite")
    for kind in kinds:
        assert f"  {kind}: " in message


def test_cuts_long_lists() -> None:
    expected = {f"a{number:02d}": (2,) for number in range(50)}
    with pytest.raises(WeightsError) as caught:
        check_weights({}, expected, "R1x1")
    lines = str(caught.value).splitlines()
    assert lines[20] == "  missing: a19"
    assert lines[21] == "  missing: and 30 more"
    assert len(lines) == 23


@pytest.mark.parametrize("order", ["C", "F", "unaligned"])
def test_makes_no_copy_of_a_whole_array(order: str) -> None:
    array = np.zeros((64, CHUNK), "<f4")  # 64 MB
    array[5, 5] = 1
    if order == "F":
        array = array.T
    if order == "unaligned":
        shifted = np.zeros(array.nbytes + 1, np.uint8)
        array = shifted[1:].view("<f4").reshape(64, CHUNK)
        array[5, 5] = 1
        assert not array.flags.aligned
    tracemalloc.start()
    figures = check_weights({"x": array}, {"x": array.shape}, "R1x1")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert figures.largest == 1
    assert peak < 8 << 20

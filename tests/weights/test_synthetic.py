import io
import math
from pathlib import Path

import numpy as np
import pytest

from publisher.families import ARCHITECTURES
from publisher.families.bit import reference
from publisher.weights import (
    check_weights,
    digest_file,
    is_synthetic,
    open_npz,
    synthetic_array,
    write_synthetic,
)

SMALL = ARCHITECTURES["R20x0.5"].arrays(10)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synthetic") / "small.npz"
    write_synthetic(path, SMALL)
    return path


def savez_size(shapes: dict[str, tuple[int, ...]]) -> int:
    """The size of an uncompressed `.npz` by the formats' descriptions alone."""
    size = 22  # end of the central directory
    for name, shape in shapes.items():
        file_name = len(name) + len(".npy")
        dictionary = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        header = 64 * math.ceil((10 + len(dictionary) + 1) / 64)
        local = 30 + file_name + 20  # with the zip64 field that NumPy always asks for
        size += local + header + 4 * math.prod(shape) + 46 + file_name
    return size


def test_is_the_same_file_on_every_machine(small_file: Path) -> None:
    digest = digest_file(small_file)
    assert digest.size == 8_232_528
    assert digest.sha256 == "c242411cd0a94070e2122f50c78bd93a8b262d747738521e5f140057a13e7361"


def test_has_the_names_and_shapes_asked_for(small_file: Path) -> None:
    arrays = open_npz(small_file)
    assert list(arrays) == list(SMALL)
    assert check_weights(arrays, SMALL, "R20x0.5").arrays == len(SMALL)


def test_has_the_size_that_savez_gives(small_file: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.npz"
    np.savez(saved, allow_pickle=False, **open_npz(small_file))
    assert small_file.stat().st_size == saved.stat().st_size == savez_size(SMALL)


def test_would_have_the_size_of_the_published_r152x2() -> None:
    assert savez_size(ARCHITECTURES["R152x2"].arrays(1000)) == 945_485_848


def test_differs_by_seed_name_and_shape() -> None:
    base = synthetic_array("a/kernel", (4, 4))
    for other in (
        synthetic_array("a/kernel", (4, 4), seed=1),
        synthetic_array("b/kernel", (4, 4)),
        synthetic_array("a/kernel", (16,)),
    ):
        assert not np.isclose(base.ravel(), other.ravel()).any()


@pytest.mark.parametrize(
    ("name", "shape", "mean", "deviation", "low", "high"),
    [
        ("a/kernel", (3, 3, 50, 200), 0.0, math.sqrt(2 / 450), -0.116, 0.116),
        ("net/head/conv2d/kernel", (1, 1, 400, 300), 0.0, 1 / 20, -0.087, 0.087),
        ("a/gamma", (90_000,), 1.0, 1 / math.sqrt(12), 0.5, 1.5),
        ("a/beta", (90_000,), 0.0, 0.4 / math.sqrt(12), -0.2, 0.2),
        ("a/bias", (90_000,), 0.0, 0.2 / math.sqrt(12), -0.1, 0.1),
    ],
)
def test_spreads_as_described(
    name: str, shape: tuple[int, ...], mean: float, deviation: float, low: float, high: float
) -> None:
    array = synthetic_array(name, shape)
    assert array.dtype == np.dtype("<f4") and array.shape == shape
    wide = array.astype(np.float64)
    assert wide.mean() == pytest.approx(mean, abs=0.02 * deviation)
    assert wide.std() == pytest.approx(deviation, rel=0.02)
    span = np.float32(high - low)
    assert low <= array.min() < low + 0.01 * span
    assert high - 0.01 * span < array.max() <= high


def test_keeps_activations_alive_and_bounded(small_file: Path) -> None:
    arrays = open_npz(small_file)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    features = reference.features(arrays, images)
    logits = reference.logits(arrays, features)
    assert np.isfinite(features).all() and np.isfinite(logits).all()
    assert 0.05 < features.std() < 5
    assert 0.05 < logits.std() < 20
    assert (features > 0).any(axis=0).mean() > 0.8  # few units are dead
    assert features.std(axis=0).mean() > 0.01  # and they tell images apart


def test_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="negative"):
        write_synthetic(path, {"good/kernel": (4, 4), "bad/kernel": (-4,)})
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.npz"]


def test_makes_the_folders_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "distill" / "w.npz"
    write_synthetic(path, {"a/kernel": (4, 4)})
    assert list(open_npz(path)) == ["a/kernel"]


def test_recognizes_its_own(small_file: Path) -> None:
    assert is_synthetic(open_npz(small_file))


def test_recognizes_its_own_however_they_were_saved_again(small_file: Path) -> None:
    arrays = open_npz(small_file)
    stream = io.BytesIO()
    reordered = {name: np.asfortranarray(arrays[name]) for name in reversed(arrays)}
    np.savez_compressed(stream, allow_pickle=False, **reordered)
    stream.seek(0)
    with np.load(stream) as again:
        assert is_synthetic(dict(again))


def test_one_array_of_its_own_is_enough(small_file: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype("<f4") for name, shape in SMALL.items()}
    assert not is_synthetic(arrays)
    name = "resnet/block1/unit01/b/group_norm/beta"
    assert is_synthetic(arrays | {name: open_npz(small_file)[name]})


def test_too_few_elements_tell_nothing() -> None:
    assert not is_synthetic({"a/bias": synthetic_array("a/bias", (8,))})
    assert is_synthetic({"a/bias": synthetic_array("a/bias", (9,))})

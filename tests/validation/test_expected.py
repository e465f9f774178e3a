import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from publisher.build.workers import expect
from publisher.families import Architecture
from publisher.families.bit import reference
from publisher.validation.expected import (
    BATCH,
    expected_features,
    images,
    load_features,
    noise,
    save_features,
)
from publisher.weights import Arrays

Weights = dict[str, npt.NDArray[np.float32]]


@pytest.mark.parametrize("input_range", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-2.5, 3.0)])
def test_noise_is_all_over_the_input_range(input_range: tuple[float, float]) -> None:
    low, high = input_range
    values = noise(input_range, 2, 40, 24, seed=0)
    assert values.shape == (2, 40, 24, 3)
    assert values.dtype == np.float32
    assert low <= values.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < values.max() <= high
    assert abs(values.mean() - (low + high) / 2) < 0.05 * (high - low)


def test_noise_follows_from_its_seed() -> None:
    first, again = (noise((0.0, 1.0), 1, 4, 4, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (noise((0.0, 1.0), 1, 4, 4, seed=8) != first).all()


def test_the_images_are_the_same_on_every_machine() -> None:
    """NumPy promises this of the generator's stream for whole releases."""
    np.testing.assert_array_equal(
        images((0.0, 1.0), 48)[0, 0, 0],
        np.array([0.13000577688217163, 0.38769984245300293, 0.4997975826263428], np.float32),
    )


def test_each_resolution_has_images_of_its_own() -> None:
    small, large = images((-1.0, 1.0), 32), images((-1.0, 1.0), 48)
    assert (small.shape, large.shape) == ((BATCH, 32, 32, 3), (BATCH, 48, 48, 3))
    assert (small[0, 0] != large[0, 0, :32]).any()
    assert (small[0] != small[1]).any()


def test_the_truth_is_the_reference_s_answer_to_the_first_image(
    architecture: Architecture, arrays: Weights
) -> None:
    found = expected_features(architecture, arrays, (-1.0, 1.0), (32, 40))
    assert list(found) == [32, 40]
    for resolution, features in found.items():
        assert features.dtype == np.float64
        assert features.shape == (1, architecture.features)
        first = images((-1.0, 1.0), resolution)[:1]
        np.testing.assert_allclose(features, reference.features(arrays, first), rtol=1e-12)


def test_the_reference_gets_what_the_input_range_means(
    architecture: Architecture, arrays: Weights
) -> None:
    found = expected_features(architecture, arrays, (0.0, 255.0), (32,))[32]
    scaled = images((0.0, 255.0), 32)[:1].astype(np.float64) / 127.5 - 1.0
    assert -1.0 <= scaled.min() < -0.9
    np.testing.assert_allclose(found, reference.features(arrays, scaled), rtol=1e-9)


class Counted(Mapping[str, npt.NDArray[np.float32]]):
    """Arrays that tell which of them were read."""

    def __init__(self, arrays: Weights) -> None:
        self._arrays = arrays
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        found = self._arrays[name]
        self.read.add(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def test_the_truth_follows_from_all_arrays_but_the_head(
    architecture: Architecture, arrays: Weights
) -> None:
    counted = Counted(arrays)
    expected_features(architecture, counted, (-1.0, 1.0), (32,))
    assert counted.read == set(architecture.backbone(arrays))


def test_streamed_arrays_give_the_same_truth(
    architecture: Architecture,
    arrays: Weights,
    checkpoint: Arrays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("publisher.weights.npz.LARGEST_HELD", 0)  # give back after each array
    streamed = expected_features(architecture, checkpoint.streamed(checkpoint), (-1.0, 1.0), (32,))[
        32
    ]
    direct = expected_features(architecture, arrays, (-1.0, 1.0), (32,))[32]
    np.testing.assert_array_equal(streamed, direct)


def test_features_are_kept_as_they_are(tmp_path: Path) -> None:
    features: dict[int, Any] = {
        64: np.random.default_rng(0).normal(size=(1, 8)),
        48: np.zeros((1, 8), np.float32),
    }
    path = tmp_path / "deeper" / "features.npz"
    save_features(path, features)
    found = load_features(path)
    assert list(found) == [64, 48]
    for resolution, values in features.items():
        assert found[resolution].dtype == values.dtype
        np.testing.assert_array_equal(found[resolution], values)
    assert [file.name for file in path.parent.iterdir()] == ["features.npz"]


def test_no_features_are_kept_too(tmp_path: Path) -> None:
    save_features(tmp_path / "features.npz", {})
    assert load_features(tmp_path / "features.npz") == {}


def test_features_appear_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "features.npz"
    save_features(path, {48: np.ones((1, 8))})
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_features(path, {48: np.zeros((1, 8))})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_features_are_the_same_bytes(tmp_path: Path) -> None:
    """The pipeline tells by them whether a classifier has to be looked at again."""
    for name in "ab":
        save_features(tmp_path / name, {48: np.ones((1, 8))})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_worker_writes_the_truth_of_the_file(
    architecture: Architecture, weights_file: Path, arrays: Weights, tmp_path: Path
) -> None:
    target = tmp_path / "expected.npz"
    expect(weights_file, architecture, input_range=(-1.0, 1.0), resolutions=(32, 40), target=target)
    written = load_features(target)
    for resolution, values in expected_features(
        architecture, arrays, (-1.0, 1.0), (32, 40)
    ).items():
        np.testing.assert_array_equal(written.pop(resolution), values)
    assert not written


def test_the_truth_needs_no_tensorflow() -> None:
    """It is to share nothing with what it is the measure of."""
    program = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import numpy as np\n"
        "from publisher.families import ARCHITECTURES\n"
        "from publisher.validation.expected import expected_features\n"
        "architecture = ARCHITECTURES['R20x0.5']\n"
        "arrays = {n: np.ones(s, 'f4') for n, s in architecture.arrays(2).items()}\n"
        "print(expected_features(architecture, arrays, (-1.0, 1.0), (32,))[32].shape)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.stdout == "(1, 1024)\n", result.stderr

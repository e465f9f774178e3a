"""A baseline that computes something else would be easy to beat."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from benchmarks import baseline
from publisher.families.bit import ARCHITECTURES, reference

ARCHITECTURE = ARCHITECTURES["R20x0.5"]
Arrays = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (2, 64, 48, 3)).astype(np.float32)


@pytest.mark.parametrize("classes", [10, None])
def test_network_agrees_with_the_reference(
    arrays: Arrays, weights_file: Path, images: npt.NDArray[np.float32], classes: int | None
) -> None:
    model = baseline.build(ARCHITECTURE, classes)
    baseline.assign(model, weights_file)
    expected = reference.features(arrays, images)
    if classes:
        expected = reference.logits(arrays, expected)
    np.testing.assert_allclose(model(images).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_every_weight_is_assigned(arrays: Arrays, weights_file: Path) -> None:
    model = baseline.build(ARCHITECTURE, 10)
    assigned = dict(baseline._variables(model.layers[-1]))
    assert assigned.keys() == arrays.keys()
    assert len(model.weights) == len(arrays)


@pytest.mark.exhaustive
def test_saved_model_takes_any_size_and_is_trainable(
    arrays: Arrays, weights_file: Path, images: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    directory = tmp_path / "saved_model"
    baseline.convert(weights_file, ARCHITECTURE, classes=10, directory=directory)
    loaded = tf.saved_model.load(str(directory))
    for size in (64, 33):
        some = images[:, :size, :size]
        expected = reference.logits(arrays, reference.features(arrays, some))
        result = loaded(tf.constant(some), training=False).numpy()
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    assert len(loaded.trainable_variables) == len(arrays)

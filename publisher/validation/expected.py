"""Seeded images, and the float64 features that a checkpoint should compute from them.

The logits follow from the features, so features are enough for both heads. Imports no
TensorFlow.
"""

import importlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from publisher.families import Architecture
from publisher.util.files import write_whole

BATCH = 3

Array = npt.NDArray[Any]


def noise(
    input_range: tuple[float, float], batch: int, height: int, width: int, seed: int
) -> npt.NDArray[np.float32]:
    """Return seeded noise that covers the input range, (batch, height, width, 3) float32."""
    low, high = input_range
    values = np.random.default_rng(seed).random((batch, height, width, 3), dtype=np.float32)
    return np.asarray(values * np.float32(high - low) + np.float32(low))


def images(input_range: tuple[float, float], resolution: int) -> npt.NDArray[np.float32]:
    """Return the `BATCH` images of a resolution. Expected features exist for the first one."""
    return noise(input_range, BATCH, resolution, resolution, seed=resolution)


def expected_features(
    architecture: Architecture,
    arrays: Mapping[str, npt.NDArray[np.float32]],
    input_range: tuple[float, float],
    resolutions: Iterable[int],
) -> dict[int, Array]:
    """Return the float64 features of each resolution's first image, (1, features)."""
    reference = importlib.import_module(f"{architecture.package}.reference")
    low, high = input_range
    sizes = tuple(resolutions)
    firsts = [images(input_range, resolution)[:1].astype(np.float64) for resolution in sizes]
    scaled = [(first - low) * (2.0 / (high - low)) - 1.0 for first in firsts]
    return dict(zip(sizes, reference.features_of_each(arrays, scaled), strict=True))


def save_features(path: Path, features: Mapping[int, Array]) -> None:
    """Write features by resolution. Equal features give equal bytes."""
    content = io.BytesIO()
    named: dict[str, Any] = {str(resolution): value for resolution, value in features.items()}
    np.savez(content, allow_pickle=False, **named)
    write_whole(path, content.getvalue())


def load_features(path: Path) -> dict[int, Array]:
    """Return what `save_features` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return {int(key): archive[key] for key in archive.files}

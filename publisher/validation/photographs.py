"""Photographs that a model with real weights must recognize. They ship with scikit-image."""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True)
class Photograph:
    """A file of `skimage.data` and the ImageNet-1k classes that a person could assign to it."""

    file: str
    labels: frozenset[str]


PHOTOGRAPHS = (
    Photograph("chelsea.png", frozenset({"tabby, tabby_cat", "tiger_cat", "Egyptian_cat"})),
    Photograph("coffee.png", frozenset({"espresso", "cup", "coffee_mug"})),
)


def load(
    photograph: Photograph, resolution: int, input_range: tuple[float, float]
) -> npt.NDArray[np.float32]:
    """Return the photograph as (1, resolution, resolution, 3) float32 in `input_range`.

    Resizes with bicubic interpolation and takes the centre crop: 0.95 of the short side, or all
    of it from 384 pixels up. These weights are evaluated this way.
    """
    with files("skimage.data").joinpath(photograph.file).open("rb") as file:
        image = Image.open(file).convert("RGB")
    crop_fraction = 1.0 if resolution >= 384 else 0.95
    short = round(resolution / crop_fraction)
    scale = short / min(image.size)
    width, height = (max(short, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - resolution) // 2, (height - resolution) // 2
    image = image.crop((left, top, left + resolution, top + resolution))
    low, high = input_range
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    return np.asarray(pixels * np.float32(high - low) + np.float32(low))[np.newaxis]

import socket
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image

from publisher.util.resources import distributed
from publisher.validation import photographs
from publisher.validation.photographs import PHOTOGRAPHS, Photograph, load

NAMES = distributed("data/ilsvrc2012_wordnet_lemmas.txt")


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda photograph: photograph.file)
def test_ships_in_the_wheel_of_scikit_image(photograph: Photograph) -> None:
    shipped = {str(path) for path in metadata.files("scikit-image") or ()}
    assert f"skimage/data/{photograph.file}" in shipped


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda photograph: photograph.file)
def test_is_read_without_network(photograph: Photograph, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load(photograph, 64, (-1.0, 1.0)).std() > 0.1


def test_every_label_is_an_imagenet_class() -> None:
    names = set(NAMES.read_text(encoding="utf-8").splitlines())
    for photograph in PHOTOGRAPHS:
        assert photograph.labels
        assert photograph.labels <= names


def test_there_is_a_cat() -> None:
    assert any("tabby, tabby_cat" in photograph.labels for photograph in PHOTOGRAPHS)


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda photograph: photograph.file)
@pytest.mark.parametrize("resolution", [160, 224, 384])
@pytest.mark.parametrize("input_range", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_is_one_square_image_in_the_input_range(
    photograph: Photograph, resolution: int, input_range: tuple[float, float]
) -> None:
    low, high = input_range
    images = load(photograph, resolution, input_range)
    assert images.shape == (1, resolution, resolution, 3)
    assert images.dtype == np.float32
    assert low <= images.min() < low + 0.2 * (high - low)
    assert high - 0.2 * (high - low) < images.max() <= high


def test_the_range_is_a_scale_of_the_same_pixels() -> None:
    pixels = load(PHOTOGRAPHS[0], 64, (0.0, 255.0))
    np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-4)
    for low, high in ((-1.0, 1.0), (0.0, 1.0)):
        scaled = pixels / 255 * (high - low) + low
        np.testing.assert_allclose(load(PHOTOGRAPHS[0], 64, (low, high)), scaled, atol=1e-6)


@pytest.fixture
def ramp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Photograph:
    """A photograph whose red rises from left to right and green from top to bottom."""
    width, height = 1200, 800
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.rint(np.linspace(0, 255, width))
    pixels[..., 1] = np.rint(np.linspace(0, 255, height))[:, np.newaxis]
    pixels[..., 2] = 128
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    monkeypatch.setattr(photographs, "files", lambda package: tmp_path)
    return Photograph("ramp.png", frozenset())


def spans(images: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return which part of the photograph's width and height is seen, at the centre lines."""
    size = images.shape[1]
    red, green = images[0, size // 2, :, 0], images[0, :, size // 2, 1]
    return float(red[-1] - red[0]), float(green[-1] - green[0])


@pytest.mark.parametrize(
    ("resolution", "fraction"), [(160, 0.95), (224, 0.95), (383, 0.95), (384, 1.0), (480, 1.0)]
)
def test_the_crop_is_0_95_of_the_short_side_below_384_pixels(
    ramp: Photograph, resolution: int, fraction: float
) -> None:
    wide, tall = spans(load(ramp, resolution, (0.0, 1.0)))
    assert tall == pytest.approx(fraction, abs=0.015)
    assert wide == pytest.approx(fraction * 800 / 1200, abs=0.015)


def test_the_crop_is_central_upright_and_in_rgb(ramp: Photograph) -> None:
    image = load(ramp, 224, (0.0, 1.0))[0]
    assert image.mean(axis=(0, 1)) == pytest.approx([0.5, 0.5, 128 / 255], abs=0.005)
    assert image[0, 0, 0] < image[0, -1, 0]
    assert image[0, 0, 1] < image[-1, 0, 1]


def test_resizes_with_bicubic_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    methods: Counter[Any] = Counter()
    resize = Image.Image.resize

    def watched(image: Image.Image, size: Any, resample: Any = None, **more: Any) -> Image.Image:
        methods[resample] += 1
        return resize(image, size, resample, **more)

    monkeypatch.setattr(Image.Image, "resize", watched)
    load(PHOTOGRAPHS[0], 224, (-1.0, 1.0))
    assert methods == {Image.Resampling.BICUBIC: 1}


def test_a_photograph_with_alpha_or_grey_becomes_rgb(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (50, 40), 90).save(tmp_path / f"{mode}.png")
    monkeypatch.setattr(photographs, "files", lambda package: tmp_path)
    for mode in ("L", "RGBA", "P"):
        assert load(Photograph(f"{mode}.png", frozenset()), 32, (0.0, 1.0)).shape == (1, 32, 32, 3)


def test_closes_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[IO[bytes]] = []
    real = Path.open

    def watched(path: Path, mode: str) -> IO[bytes]:
        opened.append(real(path, mode))
        return opened[-1]

    monkeypatch.setattr(Path, "open", watched)
    load(PHOTOGRAPHS[0], 32, (0.0, 1.0))
    assert [file.closed for file in opened] == [True]

"""A small registry to break, one edit at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.registry import Registry, RegistryError, load_registry

GOOD = """\
upstream: https://storage.googleapis.com/bit_models/
asset_base: https://storage.googleapis.com/bit-resnet-models/
publisher:
  name: sayakpaul
  full_name: Sayak Paul
  url: https://github.com/sayakpaul
  description: Vision networks.
collection:
  handle: sayakpaul/collections/bit-resnet/1
  title: BiT-ResNet
  description: Classifiers and feature extractors.
validation:
  tolerance: {absolute: 1.0e-4, relative: 2e-4}
checkpoints:
  small:
    path: distill/small.npz
    architecture: R20x0.5
    classes: 3
    class_names: names.txt
    resolution: 64
    input_range: [-1, 1]
    parity_resolutions: [64, 32]
    training: Made up.
    datasets: [other]
    network_architectures: [bit]
    reported:
      - metric: top-1
        value: 80.5
        source: nobody
        url: https://example.org/
variants:
  - handle: sayakpaul/small_classification/1
    checkpoint: small
    head: classifier
    aliases: [sayakpaul/old_small]
  - handle: sayakpaul/small_features/1
    checkpoint: small
    head: feature_extractor
"""

Load = Callable[[str], Registry]
Problems = Callable[[str | bytes], list[str]]


def edited(*edits: tuple[str, str]) -> str:
    """Return the good registry with each text replaced, which must be there once."""
    text = GOOD
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which holds the class names."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "names.txt").write_text("cat\ndog\nIndian_elephant, Elephas_maximus\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def load(folder: Path) -> Load:
    def write_and_load(text: str) -> Registry:
        (folder / "models.yaml").write_text(text, encoding="utf-8")
        return load_registry(Path("models.yaml"))

    return write_and_load


@pytest.fixture
def problems(folder: Path) -> Problems:
    def lines_of_the_message(text: str | bytes) -> list[str]:
        content = text if isinstance(text, bytes) else text.encode()
        (folder / "models.yaml").write_bytes(content)
        with pytest.raises(RegistryError) as caught:
            load_registry(Path("models.yaml"))
        return str(caught.value).split("\n")

    return lines_of_the_message

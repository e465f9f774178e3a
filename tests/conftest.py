"""Small models of the same code path as the published ones, made once a session."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from publisher.build.workers import convert, run_alone
from publisher.families import ARCHITECTURES, Architecture
from publisher.formats.archive import pack
from publisher.weights import synthetic_array, write_synthetic
from tests.builds import inline, published

__all__ = ["inline", "published"]  # fixtures

CLASSES = 10


@pytest.fixture(scope="session")
def architecture() -> Architecture:
    """The stand-in: every kind of unit, in a hundredth of the size."""
    return ARCHITECTURES["R20x0.5"]


@pytest.fixture(scope="session")
def arrays(architecture: Architecture) -> dict[str, npt.NDArray[np.float32]]:
    """A checkpoint's arrays, float32, by name."""
    shapes = architecture.arrays(CLASSES)
    return {name: synthetic_array(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def weights_file(architecture: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same arrays in an `.npz`."""
    path = tmp_path_factory.mktemp("weights") / "small.npz"
    write_synthetic(path, architecture.arrays(CLASSES))
    return path


@pytest.fixture(scope="session")
def class_names_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One class name a line, in class-index order."""
    path = tmp_path_factory.mktemp("classes") / "class_names.txt"
    path.write_text("".join(f"class {index}\n" for index in range(CLASSES)))
    return path


Convert = Callable[..., Path]


@pytest.fixture(scope="session")
def converted(
    architecture: Architecture, weights_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Convert:
    """Makes a SavedModel folder as the convert stage leaves it."""

    def run(name: str, output: str, assets: Sequence[Path] = (), *, folded: bool = False) -> Path:
        directory = tmp_path_factory.mktemp(name) / "saved_model"
        run_alone(
            convert,
            weights_file,
            architecture,
            classes=CLASSES,
            head="classifier" if output == "logits" else "feature_extractor",
            output=output,
            input_range=(-1.0, 1.0),
            assets=list(assets),
            directory=directory,
            folded=folded,
        )
        return directory

    return run


@pytest.fixture(scope="session")
def classifier(converted: Convert, class_names_file: Path) -> Path:
    """A SavedModel folder. Not to be changed: copy it."""
    return converted("classifier", "logits", [class_names_file])


@pytest.fixture(scope="session")
def feature_extractor(converted: Convert) -> Path:
    """The SavedModel folder of the same checkpoint without its head. Copy it to change it."""
    return converted("feature_extractor", "features")


@pytest.fixture(scope="session")
def folded_classifier(converted: Convert, class_names_file: Path) -> Path:
    """The classifier with weight standardization folded into its kernels. Copy it to change it."""
    return converted("folded_classifier", "logits", [class_names_file], folded=True)


@pytest.fixture(scope="session")
def classifier_archive(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classifier_archive") / "model.tar.gz"
    pack(classifier, path)
    return path


@pytest.fixture(scope="session")
def feature_extractor_archive(
    feature_extractor: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("feature_extractor_archive") / "model.tar.gz"
    pack(feature_extractor, path)
    return path

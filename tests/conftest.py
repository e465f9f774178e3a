"""Small models of the same code path as the published ones, made once a session."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from publisher.build.workers import convert, run_alone
from publisher.families import ARCHITECTURES, Architecture
from publisher.formats.archive import pack
from publisher.weights import synthetic_array, write_synthetic
from tests.builds import graphs, inline, published
from tests.shared import once

__all__ = ["graphs", "inline", "published"]  # fixtures

MEMORY = "/dev/shm"
ROOM = 2 << 30  # bytes
APART = ("browser", "clients")  # folders named after the marker of all their tests

CLASSES = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-tensorflow", action="store_true", help="let no test import TensorFlow"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary files in memory where there is room: tests wait most for fsync.

    `--basetemp` and pytest's own PYTEST_DEBUG_TEMPROOT have their way.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background jobs so, and the processes that tests interrupt inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(OSError):
        found = os.statvfs(MEMORY)
        usable = os.access(MEMORY, os.W_OK) and not found.f_flag & os.ST_NOEXEC
        if usable and found.f_bavail * found.f_frsize >= ROOM:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)
    if config.getoption("--without-tensorflow"):
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # so that an import fails


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out folders whose every test is deselected: what they import takes seconds."""
    left_out = collection_path.parent.name == "tests" and collection_path.name in APART
    return (left_out and f"not {collection_path.name}" in config.option.markexpr) or None


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

    def make(folder: Path) -> None:
        write_synthetic(folder / "small.npz", architecture.arrays(CLASSES))

    return once(tmp_path_factory, "weights", make)[0] / "small.npz"


@pytest.fixture(scope="session")
def class_names_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One class name a line, in class-index order."""

    def make(folder: Path) -> None:
        names = "".join(f"class {index}\n" for index in range(CLASSES))
        (folder / "names.txt").write_text(names)

    return once(tmp_path_factory, "classes", make)[0] / "names.txt"


Convert = Callable[..., Path]


@pytest.fixture(scope="session")
def converted(
    architecture: Architecture, weights_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Convert:
    """Makes a SavedModel folder as the convert stage leaves it."""

    def run(name: str, output: str, assets: Sequence[Path] = (), *, folded: bool = False) -> Path:
        def make(folder: Path) -> None:
            run_alone(
                convert,
                weights_file,
                architecture,
                classes=CLASSES,
                head="classifier" if output == "logits" else "feature_extractor",
                output=output,
                input_range=(-1.0, 1.0),
                assets=list(assets),
                directory=folder / "saved_model",
                folded=folded,
            )

        return once(tmp_path_factory, name, make)[0] / "saved_model"

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
    def make(folder: Path) -> None:
        pack(classifier, folder / "model.tar.gz")

    return once(tmp_path_factory, "classifier_archive", make)[0] / "model.tar.gz"


@pytest.fixture(scope="session")
def feature_extractor_archive(
    feature_extractor: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    def make(folder: Path) -> None:
        pack(feature_extractor, folder / "model.tar.gz")

    return once(tmp_path_factory, "feature_extractor_archive", make)[0] / "model.tar.gz"

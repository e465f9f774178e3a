"""One release, built by the pipeline and served, and what its models have to answer."""

import importlib
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow_hub

from publisher.families.bit import reference
from publisher.validation.client import hub_cache
from publisher.weights import open_npz
from tests.builds import Project, checkpoint, project, publisher, variant
from tests.clients.agreement import ALIAS, CLASSIFIER, EXTRACTOR, FOLDED, HANDLES
from tests.hub.releases import ask, served
from tests.releases import HEADER

# Its narrowest norm has groups of two channels, as a published network of width 1 has.
ARCHITECTURE = "R20x1"
REGISTRY = (
    f"{HEADER}{checkpoint('small', architecture=ARCHITECTURE)}variants:\n"
    f"{variant(CLASSIFIER, 'small', 'classifier')}    aliases: [{ALIAS}]\n"
    f"{variant(EXTRACTOR, 'small', 'feature_extractor')}"
    f"{variant(FOLDED, 'small', 'classifier')}    weight_standardization: folded\n"
)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A classifier, its feature extractor and its folded form. Not to be changed."""
    folder = tmp_path_factory.mktemp("clients")
    project(folder, REGISTRY)
    finished = publisher(folder, "publish", "--weights", "synthetic", "--json", "--jobs", "2")
    assert finished.status == 0, finished.stderr
    return Project(folder, finished)


@pytest.fixture(scope="session")
def hub(built: Project) -> Iterator[str]:
    """The address of a server for that release, without a slash."""
    with served(built.release) as base:
        yield base


@pytest.fixture(scope="session")
def images() -> npt.NDArray[np.float32]:
    return np.random.default_rng(4).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def truth(built: Project, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
    """What each model should answer to the images: the float64 reference."""
    arrays = open_npz(built.build / "weights" / "synthetic" / "distill" / "small.npz")
    features = reference.features(arrays, images)
    logits = reference.logits(arrays, features)
    return {CLASSIFIER: logits, EXTRACTOR: features, FOLDED: logits}


@pytest.fixture(scope="session")
def answers(
    hub: str, images: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, npt.NDArray[np.float32]]:
    """What `hub.load` gives for the images, which every other client is held to as well."""
    cache = tmp_path_factory.mktemp("answers") / "cache"
    with hub_cache(cache):
        return {
            handle: tensorflow_hub.load(f"{hub}/{handle}")(images).numpy() for handle in HANDLES
        }


@pytest.fixture(scope="session")
def unpacked(hub: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The archives as somebody without `tensorflow_hub` has them: downloaded and unpacked."""
    folders = {}
    for handle in HANDLES:
        folders[handle] = tmp_path_factory.mktemp("unpacked")
        answer = ask(hub, f"/{handle}?tf-hub-format=compressed")
        assert answer.status == 200
        with tarfile.open(fileobj=BytesIO(answer.body)) as archive:
            archive.extractall(folders[handle], filter="data")
    return folders


@pytest.fixture(autouse=True)
def clean_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each client begin with an empty cache, and keep to loopback, subprocesses too."""
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    with hub_cache(tmp_path / "cache"):
        yield


@pytest.fixture
def openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """OpenVINO, reporting to nobody that it is used: tests keep to this machine."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("HOME", str(tmp_path))  # where it would note who uses it
    return importlib.import_module("openvino")

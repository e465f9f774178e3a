"""One classifier and one feature extractor, loaded and validated once a session."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow_hub as hub

from publisher.documents.report import Tolerance
from publisher.families import Architecture
from publisher.validation.checks import Subject
from publisher.validation.expected import expected_features, save_features
from publisher.validation.report import Check, Report
from publisher.validation.request import Request
from publisher.validation.validate import validate
from publisher.weights import Arrays, open_npz
from tests.builds import Project
from tests.shared import once

Features = dict[int, npt.NDArray[Any]]

RESOLUTIONS = (48, 64)
WEIGHTS_CHECK = Check("weights_fit_the_architecture", "passed", "63 arrays", {"arrays": 63})


@pytest.fixture(scope="session")
def class_names(class_names_file: Path) -> tuple[str, ...]:
    return tuple(class_names_file.read_text().splitlines())


@pytest.fixture(scope="session")
def checkpoint(weights_file: Path) -> Arrays:
    """The arrays as validation has them: mapped from their file."""
    return open_npz(weights_file)


@pytest.fixture(scope="session")
def expected(architecture: Architecture, checkpoint: Arrays) -> Features:
    """The float64 features by resolution."""
    return expected_features(architecture, checkpoint, (-1.0, 1.0), RESOLUTIONS)


@pytest.fixture(scope="session")
def expected_file(expected: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:

    def make(folder: Path) -> None:
        save_features(folder / "small.npz", expected)

    return once(tmp_path_factory, "expected", make)[0] / "small.npz"


@pytest.fixture(scope="session")
def requests(
    architecture: Architecture,
    classifier_archive: Path,
    feature_extractor_archive: Path,
    class_names_file: Path,
    class_names: tuple[str, ...],
    expected_file: Path,
    published: Project,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Request]:
    """What to validate of the two good archives, by head.

    Their graphs are those of the models that were really built, and were tried there.
    """
    folder = tmp_path_factory.mktemp("validated")
    (graph_cache,) = (published.build / "graphs").iterdir()
    common: dict[str, Any] = {
        "architecture": architecture,
        "folded": False,
        "input_range": (-1.0, 1.0),
        "resolution": 64,
        "parity_resolutions": RESOLUTIONS,
        "tolerance": Tolerance(absolute=1e-4, relative=2e-4),
        "synthetic": True,
        "expected": expected_file,
        "features": folder / "features.npz",
        "weights_check": WEIGHTS_CHECK,
        "failures": folder / "failures",
        "scratch": folder / "hub-cache",
        "graph_cache": graph_cache,
    }
    extractor = Request(
        handle="someone/small_feature_extraction/1",
        archive=feature_extractor_archive,
        head="feature_extractor",
        output="features",
        output_size=architecture.features,
        class_names_file=None,
        class_names=None,
        **common,
    )
    classifier = Request(
        handle="someone/small_classification/1",
        archive=classifier_archive,
        head="classifier",
        output="logits",
        output_size=len(class_names),
        class_names_file=class_names_file.name,
        class_names=class_names,
        **common,
    )
    # In this order: the classifier is held to what the feature extractor returned.
    return {request.head: request for request in (extractor, classifier)}


@pytest.fixture(scope="session")
def reports(requests: dict[str, Request], checkpoint: Arrays) -> dict[str, Report]:
    """The reports of the two good archives, by head."""
    return {head: validate(request, checkpoint) for head, request in requests.items()}


@pytest.fixture
def request_for(requests: dict[str, Request], tmp_path: Path) -> Callable[..., Request]:
    """Make the request for the good classifier, with what the caller wants otherwise."""

    def make(head: str = "classifier", **changes: Any) -> Request:
        own = {"failures": tmp_path / "failures", "scratch": tmp_path / "hub-cache"}
        own["features"] = tmp_path / "features.npz"
        return Request(**{**vars(requests[head]), **own, **changes})

    return make


@pytest.fixture(scope="session")
def model(classifier: Path) -> Any:
    """The loaded classifier. Not to be changed: load another."""
    return hub.load(str(classifier))


@pytest.fixture(scope="session")
def loaded(
    architecture: Architecture,
    checkpoint: Arrays,
    expected: Features,
    classifier: Path,
    class_names_file: Path,
    class_names: tuple[str, ...],
    model: Any,
) -> Subject:
    return Subject(
        architecture=architecture,
        head="classifier",
        folded=False,
        output="logits",
        output_size=len(class_names),
        input_range=(-1.0, 1.0),
        resolution=64,
        parity_resolutions=RESOLUTIONS,
        tolerance=Tolerance(absolute=1e-4, relative=2e-4),
        synthetic=True,
        arrays=checkpoint,
        class_names_file=class_names_file.name,
        class_names=class_names,
        directory=classifier,
        expected=expected,
        extractor_features={r: values.astype(np.float32) for r, values in expected.items()},
        model=model,
    )


@pytest.fixture
def subject(loaded: Subject) -> Subject:
    """The good classifier. `dataclasses.replace` makes a bad one of it.

    It remembers no answers, which would be those of another model.
    """
    return Subject(**{**vars(loaded), "answers": {}})

"""One classifier and one feature extractor, loaded and validated once a session."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow_hub as hub

from publisher.architectures import Architecture
from publisher.validation.checks import Subject
from publisher.validation.report import Check, Report, Tolerance
from publisher.validation.request import Request
from publisher.validation.validate import validate

Arrays = dict[str, npt.NDArray[np.float32]]

WEIGHTS_CHECK = Check("weights_fit_the_architecture", "passed", "63 arrays", {"arrays": 63})


@pytest.fixture(scope="session")
def class_names(class_names_file: Path) -> tuple[str, ...]:
    return tuple(class_names_file.read_text().splitlines())


@pytest.fixture
def request_for(
    architecture: Architecture,
    classifier_archive: Path,
    feature_extractor_archive: Path,
    class_names_file: Path,
    class_names: tuple[str, ...],
    tmp_path: Path,
) -> Callable[..., Request]:
    """Make the request for the good classifier, with what the caller wants otherwise."""

    def make(**changes: Any) -> Request:
        fields: dict[str, Any] = {
            "handle": "someone/small_classification/1",
            "archive": classifier_archive,
            "architecture": architecture,
            "head": "classifier",
            "output": "logits",
            "output_size": len(class_names),
            "input_range": (-1.0, 1.0),
            "resolution": 64,
            "parity_resolutions": (48, 64),
            "tolerance": Tolerance(1e-4, 1e-4),
            "synthetic": True,
            "class_names_file": class_names_file.name,
            "class_names": class_names,
            "feature_extractor": feature_extractor_archive,
            "weights_check": WEIGHTS_CHECK,
            "failures": tmp_path / "failures",
            "scratch": tmp_path / "hub-cache",
        }
        return Request(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def model(classifier: Path) -> Any:
    """The loaded classifier. Not to be changed: load another."""
    return hub.load(str(classifier))


@pytest.fixture(scope="session")
def subject(
    architecture: Architecture,
    arrays: Arrays,
    classifier: Path,
    feature_extractor: Path,
    class_names_file: Path,
    class_names: tuple[str, ...],
    model: Any,
) -> Subject:
    """The good classifier. `dataclasses.replace` makes a bad one of it."""
    return Subject(
        architecture=architecture,
        head="classifier",
        output="logits",
        output_size=len(class_names),
        input_range=(-1.0, 1.0),
        resolution=64,
        parity_resolutions=(48, 64),
        tolerance=Tolerance(1e-4, 1e-4),
        synthetic=True,
        arrays=arrays,
        class_names_file=class_names_file.name,
        class_names=class_names,
        address=str(classifier),
        directory=classifier,
        model=model,
        feature_extractor=str(feature_extractor),
    )


@pytest.fixture(scope="session")
def reports(
    architecture: Architecture,
    arrays: Arrays,
    classifier_archive: Path,
    feature_extractor_archive: Path,
    class_names_file: Path,
    class_names: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Report]:
    """The reports of the two good archives, by head."""
    folder = tmp_path_factory.mktemp("validated")
    common: dict[str, Any] = {
        "architecture": architecture,
        "input_range": (-1.0, 1.0),
        "resolution": 64,
        "parity_resolutions": (48, 64),
        "tolerance": Tolerance(1e-4, 1e-4),
        "synthetic": True,
        "weights_check": WEIGHTS_CHECK,
        "failures": folder / "failures",
        "scratch": folder / "hub-cache",
    }
    classifier = Request(
        handle="someone/small_classification/1",
        archive=classifier_archive,
        head="classifier",
        output="logits",
        output_size=len(class_names),
        class_names_file=class_names_file.name,
        class_names=class_names,
        feature_extractor=feature_extractor_archive,
        **common,
    )
    extractor = Request(
        handle="someone/small_feature_extraction/1",
        archive=feature_extractor_archive,
        head="feature_extractor",
        output="features",
        output_size=architecture.features,
        class_names_file=None,
        class_names=None,
        feature_extractor=None,
        **common,
    )
    return {request.head: validate(request, arrays) for request in (classifier, extractor)}

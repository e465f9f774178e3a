"""Older TensorFlow reads what ours wrote, each in an environment that the Makefile makes."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow_hub

from publisher.families.bit import reference
from publisher.weights import open_npz
from tests.builds import ROOT, Project
from tests.clients.agreement import EXTRACTOR, agrees

PROGRAM = Path(__file__).parent / "programs" / "other_tensorflow.py"

pytestmark = pytest.mark.clients

Images = npt.NDArray[np.float32]
Answers = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def wide() -> Images:
    return np.random.default_rng(5).uniform(-1, 1, (2, 40, 56, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=["2.16", "2.18"])
def found(
    request: pytest.FixtureRequest,
    unpacked: dict[str, Path],
    images: Images,
    wide: Images,
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    """What that version of TensorFlow answers in each way of using a model."""
    python = ROOT / f".venv-tensorflow-{request.param}" / "bin" / "python"
    assert python.exists(), "`make test-clients` makes this environment"
    folder = tmp_path_factory.mktemp("older")
    np.save(folder / "images.npy", images)
    np.save(folder / "wide.npy", wide)
    names = ("images.npy", "wide.npy", "answers.npz")
    done = subprocess.run(
        [python, PROGRAM, unpacked[EXTRACTOR], *(folder / name for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "answers.npz") as answers:
        read = dict(answers)
    assert str(read["version"]).startswith(f"{request.param}.")
    return read


def test_older_tensorflow_calls_a_model(found: Answers, truth: Answers, answers: Answers) -> None:
    for way in ("call", "signature", "endpoint default"):
        agrees(
            f"TensorFlow {found['version']}, {way}",
            found[way],
            float64=truth[EXTRACTOR],
            hub_load=answers[EXTRACTOR],
        )


def test_older_tensorflow_gives_the_endpoints_that_ours_gives(
    found: Answers, unpacked: dict[str, Path], images: Images
) -> None:
    ours = tensorflow_hub.load(str(unpacked[EXTRACTOR]))(images, return_endpoints=True)
    assert {name for name in found if name.startswith("endpoint ")} == {
        f"endpoint {name}" for name in ours
    }
    for name, value in ours.items():
        client = f"TensorFlow {found['version']}, {name}"
        agrees(client, found[f"endpoint {name}"], hub_load=value.numpy())


def test_older_tensorflow_trains_all_variables(found: Answers) -> None:
    assert found["moved"].all()
    assert found["loss after"] < found["loss before"]


def test_older_tensorflow_converts_a_trained_layer_to_tensorflow_lite(found: Answers) -> None:
    client = f"TensorFlow Lite {found['version']}, trained"
    agrees(client, found["lite of keras"], keras=found["keras"])


def test_older_tensorflow_lite_is_right_at_another_size_of_images(
    found: Answers, wide: Images, built: Project
) -> None:
    arrays = open_npz(built.build / "weights" / "synthetic" / "distill" / "small.npz")
    agrees(
        f"TensorFlow Lite {found['version']}, 40x56",
        found["lite resized"],
        float64=reference.features(arrays, wide),
    )

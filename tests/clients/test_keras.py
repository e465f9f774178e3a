"""Keras 3, in a process that never sees Keras 2."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.clients.agreement import HANDLES, OUTPUTS, agrees

Answers = dict[str, npt.NDArray[Any]]

PROGRAM = """
import sys

import keras
import numpy as np

folder, images, answers = sys.argv[1:]
assert keras.__version__.startswith("3."), keras.__version__
inputs = keras.Input((None, None, 3))
outputs = keras.layers.TFSMLayer(folder, call_endpoint="serving_default")(inputs)
model = keras.Model(inputs, outputs)
np.savez(answers, **model.predict(np.load(images), verbose=0))
assert "tf_keras" not in sys.modules
"""


@pytest.mark.clients
@pytest.mark.parametrize("handle", HANDLES)
def test_keras_3_takes_the_unpacked_archive_as_a_layer(
    unpacked: dict[str, Path],
    images: npt.NDArray[np.float32],
    truth: Answers,
    answers: Answers,
    tmp_path: Path,
    handle: str,
) -> None:
    np.save(tmp_path / "images.npy", images)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            unpacked[handle],
            tmp_path / "images.npy",
            tmp_path / "answers.npz",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "answers.npz") as found:
        assert list(found) == [OUTPUTS[handle]]
        agrees(
            f"Keras 3 TFSMLayer of {handle}",
            found[OUTPUTS[handle]],
            float64=truth[handle],
            hub_load=answers[handle],
        )

"""Converters of other makers, and their runtimes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.clients.agreement import HANDLES, OUTPUTS, agrees

pytestmark = [pytest.mark.clients, pytest.mark.parametrize("handle", HANDLES)]

Images = npt.NDArray[np.float32]
Answers = dict[str, npt.NDArray[Any]]


def test_openvino_converts_a_model_and_runs_it(
    unpacked: dict[str, Path],
    images: Images,
    truth: Answers,
    answers: Answers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    handle: str,
) -> None:
    # So that it reports to nobody that it was used: tests keep to this machine.
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("HOME", str(tmp_path))  # where it would note who uses it

    import openvino

    model = openvino.convert_model(unpacked[handle])
    assert [port.get_any_name() for port in model.inputs] == ["images"]
    # Left alone it would round to bfloat16 on processors that are fast at it.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled({"images": images})[OUTPUTS[handle]]
    agrees(f"OpenVINO of {handle}", answer, float64=truth[handle], hub_load=answers[handle])


def test_onnx_runtime_runs_what_tf2onnx_converts(
    unpacked: dict[str, Path],
    images: Images,
    truth: Answers,
    answers: Answers,
    tmp_path: Path,
    handle: str,
) -> None:
    import onnxruntime

    target = tmp_path / "model.onnx"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tf2onnx.convert"),
            *("--saved-model", unpacked[handle], "--tag", "serve"),
            *("--signature_def", "serving_default", "--output", target),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    [answer] = session.run([OUTPUTS[handle]], {"images": images})
    agrees(f"ONNX Runtime of {handle}", answer, float64=truth[handle], hub_load=answers[handle])

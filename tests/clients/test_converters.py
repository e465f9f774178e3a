"""Converters of other makers, and their runtimes."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.runtimes import to_onnx
from tests.clients.agreement import HANDLES, OUTPUTS, agrees

pytestmark = [pytest.mark.clients, pytest.mark.parametrize("handle", HANDLES)]

Images = npt.NDArray[np.float32]
Answers = dict[str, npt.NDArray[Any]]


def test_openvino_converts_a_model_and_runs_it(
    unpacked: dict[str, Path],
    images: Images,
    truth: Answers,
    answers: Answers,
    openvino: ModuleType,
    handle: str,
) -> None:
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

    to_onnx(unpacked[handle], tmp_path)
    model = tmp_path / "model.onnx"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    [answer] = session.run([OUTPUTS[handle]], {"images": images})
    agrees(f"ONNX Runtime of {handle}", answer, float64=truth[handle], hub_load=answers[handle])

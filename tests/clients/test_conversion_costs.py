"""What a converted model costs to run and to keep, and what is left of it when it is quantized."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from benchmarks.runtimes import lite_converter, to_onnx
from tests.clients import converted
from tests.clients.agreement import CLASSIFIER, FOLDED
from tests.clients.converted import CONVOLUTIONS, Converted

pytestmark = pytest.mark.clients

Images = npt.NDArray[np.float32]
Answers = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Files:
    """A model, and what it is without quantization in two formats."""

    saved_model: Path
    lite: bytes
    onnx: Path


def converted_files(saved_model: Path, folder: Path) -> Files:
    to_onnx(saved_model, folder)
    return Files(saved_model, lite_converter(saved_model).convert(), folder / "model.onnx")


@pytest.fixture(scope="module")
def plain(unpacked: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Files:
    return converted_files(unpacked[CLASSIFIER], tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def folded(unpacked: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Files:
    return converted_files(unpacked[FOLDED], tmp_path_factory.mktemp("folded"))


def costs_no_more(plain: Converted, folded: Converted) -> None:
    """Hold a model to its folded form: nothing is done for its kernels when it runs."""
    assert len(folded.constant_kernels) == CONVOLUTIONS
    assert plain.constant_kernels == folded.constant_kernels
    assert plain.operations == folded.operations
    assert plain.size <= 1.01 * folded.size


def test_tensorflow_lite_runs_nothing_for_kernels_that_are_not_folded(
    plain: Files, folded: Files
) -> None:
    costs_no_more(converted.lite(plain.lite), converted.lite(folded.lite))


def test_onnx_runs_nothing_for_kernels_that_are_not_folded(plain: Files, folded: Files) -> None:
    costs_no_more(converted.onnx(plain.onnx.read_bytes()), converted.onnx(folded.onnx.read_bytes()))


def test_openvino_runs_nothing_for_kernels_that_are_not_folded(
    plain: Files, folded: Files, openvino: ModuleType
) -> None:
    costs_no_more(
        converted.intermediate(openvino.convert_model(plain.saved_model)),
        converted.intermediate(openvino.convert_model(folded.saved_model)),
    )


def is_near(client: str, answer: npt.NDArray[Any], truth: npt.NDArray[Any], least: float) -> None:
    """Hold how the answers of a quantized model go up and down to what they should be."""
    found = float(np.corrcoef(answer.ravel(), truth.ravel())[0, 1])
    print(f"{client}: correlation {found:.4f} with float64, at least {least}")
    assert found > least, client


def examples() -> Iterator[dict[str, Images]]:
    """Yield images that show a converter which values are met."""
    random = np.random.default_rng(9)
    for _ in range(8):
        yield {"images": random.uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)}


@pytest.mark.parametrize(
    ("whole_numbers", "types", "least"),
    [(False, ("FLOAT32", "INT8"), 0.99), (True, ("INT8", "INT8"), 0.9)],
    ids=["weights", "whole numbers"],
)
def test_quantized_tensorflow_lite_is_small_and_near(
    plain: Files,
    images: Images,
    truth: Answers,
    whole_numbers: bool,
    types: tuple[str, str],
    least: float,
) -> None:
    converter = lite_converter(plain.saved_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if whole_numbers:
        converter.representative_dataset = examples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    model = converter.convert()
    assert len(model) < 0.3 * len(plain.lite)
    assert converted.lite_convolutions(model) == Counter({types: CONVOLUTIONS})
    answer = converted.lite(model).answer(images)
    is_near(f"TFLite, {' and '.join(types)}", answer, truth[CLASSIFIER], least)


def test_onnx_with_small_weights_is_near(
    plain: Files, images: Images, truth: Answers, tmp_path: Path
) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Processors without VNNI add products of bytes with saturation. Signed weights overflow there.
    quantize_dynamic(plain.onnx, tmp_path / "small.onnx", weight_type=QuantType.QUInt8)
    content = (tmp_path / "small.onnx").read_bytes()
    assert len(content) < 0.3 * plain.onnx.stat().st_size
    model = converted.onnx(content)
    assert model.operations["Conv"] == 0
    assert model.operations["ConvInteger"] == CONVOLUTIONS
    is_near("ONNX Runtime, weights", model.answer(images), truth[CLASSIFIER], 0.99)

"""Models that people made of a published one, and then convert for another runtime."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from tests.clients import converted
from tests.clients.agreement import EXTRACTOR, agrees
from tests.clients.converted import CONVOLUTIONS, Converted
from tests.clients.wrapped import Wrapped, frozen_layer, keras_3_layer, module, trained_layer

pytestmark = pytest.mark.clients

Images = npt.NDArray[np.float32]


@pytest.fixture(
    scope="module",
    params=[trained_layer, frozen_layer, keras_3_layer, module],
    ids=lambda make: make.__name__,
)
def wrapped(request: pytest.FixtureRequest, unpacked: dict[str, Path], images: Images) -> Wrapped:
    make: Callable[[Path, Images], Wrapped] = request.param
    return make(unpacked[EXTRACTOR], images)


def holds(client: str, model: Converted, wrapped: Wrapped, images: Images) -> None:
    """Hold a converted model to its maker's, and look for all kernels in its one graph."""
    agrees(client, model.answer(images), own_answers=wrapped.predict(images))
    assert model.functions == 0
    assert model.constant_kernels == [True] * CONVOLUTIONS


def test_a_model_with_a_layer_of_ours_converts_to_tensorflow_lite(
    wrapped: Wrapped, images: Images
) -> None:
    converter = wrapped.lite()
    assert converter.target_spec.supported_ops == {tf.lite.OpsSet.TFLITE_BUILTINS}
    holds("TFLite", converted.lite(converter.convert()), wrapped, images)


def test_a_model_with_a_layer_of_ours_converts_to_onnx(wrapped: Wrapped, images: Images) -> None:
    holds("ONNX Runtime", converted.onnx(wrapped.onnx()), wrapped, images)


def test_a_model_with_a_layer_of_ours_converts_to_openvino(
    wrapped: Wrapped, images: Images, openvino: ModuleType, tmp_path: Path
) -> None:
    # Of a model in memory, OpenVINO does not find the functions that training made.
    wrapped.export(tmp_path / "exported")
    model = openvino.convert_model(tmp_path / "exported")
    holds("OpenVINO", converted.intermediate(model), wrapped, images)

"""Third-party runtimes and their converters, installed in `.venv-clients`.

All use their default number of threads and optimizations, and accept images of any size. There is
one exception: OpenVINO may round to a lower precision for speed, so it is set to compute and store
float32, as the others do.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]
Answer = npt.NDArray[np.float32]
SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Runtime:
    """A runtime. `convert` converts a SavedModel into a folder, and `load` loads it from there.

    `load` returns a function that calls the model on images, (batch, height, width, 3). Without
    `load`, the benchmarks only measure the conversion.
    """

    convert: Callable[[Path, Path], None]
    load: Callable[[Path], Callable[[Images], Answer]] | None = None


def to_onnx(directory: Path, folder: Path) -> None:
    """Write `model.onnx` with tf2onnx's command."""
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(directory)]
    command += ["--tag", "serve", "--signature_def", SIGNATURE]
    subprocess.run([*command, "--output", str(folder / "model.onnx")], check=True)


def _load_onnx(folder: Path) -> Callable[[Images], Answer]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def lite_converter(directory: Path) -> Any:
    """Return TensorFlow's Lite converter for the signature of a SavedModel."""
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_saved_model(str(directory), signature_keys=[SIGNATURE])


def _to_tflite(directory: Path, folder: Path, quantized: bool = False) -> None:
    import tensorflow as tf

    converter = lite_converter(directory)
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (folder / "model.tflite").write_bytes(converter.convert())


def _load_tflite(folder: Path) -> Callable[[Images], Answer]:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=str(folder / "model.tflite"))
    run = interpreter.get_signature_runner(SIGNATURE)
    (name,) = run.get_input_details()

    def call(images: Images) -> Answer:
        (answer,) = run(**{name: images}).values()
        return answer

    return call


def _to_openvino(directory: Path, folder: Path) -> None:
    import openvino

    model = openvino.convert_model(directory)
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _load_openvino(folder: Path) -> Callable[[Images], Answer]:
    import openvino

    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(folder / "model.xml", "CPU", settings)
    return lambda images: compiled([images])[0]


RUNTIMES = {
    "onnx": Runtime(to_onnx, _load_onnx),
    "tflite": Runtime(_to_tflite, _load_tflite),
    "openvino": Runtime(_to_openvino, _load_openvino),
    "tflite-quantized": Runtime(lambda *paths: _to_tflite(*paths, quantized=True)),
}

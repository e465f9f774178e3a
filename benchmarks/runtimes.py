"""Runtimes of other makers, and the converters that lead to them.

They are in `.venv-clients`. Each is called as its users do who change none of its settings:
number of threads, optimizations, images of any size. Only OpenVINO is told something: to
compute and store float32, as the others do, also where it would round for the sake of speed.
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
    """A runtime: `convert` writes a SavedModel's form for it into a folder, `load` reads that.

    What `load` returns calls the model on (batch, height, width, 3) images. A form without it
    is only made.
    """

    convert: Callable[[Path, Path], None]
    load: Callable[[Path], Callable[[Images], Answer]] | None = None


def to_onnx(directory: Path, folder: Path) -> None:
    """Write `model.onnx`, with the command of tf2onnx."""
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
    """Return TensorFlow's converter to TensorFlow Lite, for the signature of a SavedModel."""
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

"""Use a feature extractor with the TensorFlow that runs this, and write down its answers.

`other_tensorflow.py FOLDER IMAGES.npy WIDE.npy ANSWERS.npz`, in an environment that has
TensorFlow, Keras 2 and TensorFlow Hub, and nothing of this project. WIDE are images of another
size.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_hub
import tf_keras

Answers = dict[str, npt.NDArray[Any]]


def called(folder: str, images: npt.NDArray[np.float32]) -> Answers:
    """Call a model in each of the ways that it has."""
    model = tensorflow_hub.load(folder)
    signature = model.signatures["serving_default"]
    endpoints = model(images, return_endpoints=True)
    return {
        "call": model(images).numpy(),
        "signature": signature(images=tf.constant(images))["features"].numpy(),
        **{f"endpoint {name}": value.numpy() for name, value in endpoints.items()},
    }


def stepped(folder: str, images: npt.NDArray[np.float32]) -> Answers:
    """Take a step against the gradient of a loss, in plain TensorFlow."""
    model = tensorflow_hub.load(folder)
    variables = list(model.trainable_variables)

    def loss() -> tf.Tensor:
        return tf.reduce_mean(tf.square(model(images)))

    with tf.GradientTape() as tape:
        before = loss()
    gradients = tape.gradient(before, variables)
    length = tf.linalg.global_norm(gradients)
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign_sub(1e-3 * gradient / length)
    return {
        "loss before": before.numpy(),
        "loss after": loss().numpy(),
        "moved": np.array([bool(np.any(gradient)) for gradient in gradients]),
    }


def lite_after_training(folder: str, images: npt.NDArray[np.float32]) -> Answers:
    """Train a layer and its head for a step, and convert both to TensorFlow Lite."""
    layer = tensorflow_hub.KerasLayer(folder, trainable=True)
    model = tf_keras.Sequential(
        [tf_keras.layers.InputLayer((32, 32, 3)), layer, tf_keras.layers.Dense(3)]
    )
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss=loss)
    model.fit(images, np.arange(len(images)), verbose=0)
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    return {
        "keras": model.predict(images, verbose=0),
        "lite of keras": interpreted(content, images),
    }


def lite_resized(folder: str, wide: npt.NDArray[np.float32]) -> Answers:
    """Convert the signature, which leaves sizes open, and interpret it at one."""
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    return {"lite resized": interpreted(converter.convert(), wide)}


def interpreted(content: bytes, images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Return what a model with one input and one output answers, resized to the images."""
    interpreter = tf.lite.Interpreter(model_content=content)
    [given], [answer] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(answer["index"]))


def main() -> None:
    folder, images, wide, target = sys.argv[1:]
    batch = np.load(images)
    np.savez(
        target,
        version=tf.__version__,
        **called(folder, batch),
        **stepped(folder, batch),
        **lite_after_training(folder, batch),
        **lite_resized(folder, np.load(wide)),
    )


if __name__ == "__main__":
    main()

"""Models that people make of a feature extractor, each with a head of its own for three kinds.

What can be trained is trained for one step, so that each holds other numbers than the archive.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_hub
import tf_keras

SIDE, KINDS = 32, 3  # pixels, and what the head tells apart
LABELS = np.arange(KINDS)  # one image of each
SIGNATURE = [tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, "images")]

Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Wrapped:
    """A model as its maker has it, and what each converter is given of it.

    `lite` makes a converter to TensorFlow Lite, `onnx` the bytes of a model in that format;
    `export` writes a SavedModel.
    """

    predict: Callable[[Images], npt.NDArray[Any]]
    lite: Callable[[], tf.lite.TFLiteConverter]
    onnx: Callable[[], bytes]
    export: Callable[[Path], object]


def keras_layer(folder: Path, images: Images, *, trainable: bool) -> Wrapped:
    """Put a head on `hub.KerasLayer` in a model of Keras 2, and take a training step."""
    layer = tensorflow_hub.KerasLayer(str(folder), trainable=trainable)
    model = tf_keras.Sequential(
        [
            tf_keras.layers.InputLayer((SIDE, SIDE, 3)),
            layer,
            tf_keras.layers.Dense(KINDS),
        ]
    )
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return _trained(model, loss, images)


def trained_layer(folder: Path, images: Images) -> Wrapped:
    """`hub.KerasLayer` that learns with its head."""
    return keras_layer(folder, images, trainable=True)


def frozen_layer(folder: Path, images: Images) -> Wrapped:
    """`hub.KerasLayer` that stays as it is: only its head learns."""
    return keras_layer(folder, images, trainable=False)


def keras_3_layer(folder: Path, images: Images) -> Wrapped:
    """`TFSMLayer` of Keras 3, which learns with its head."""
    import keras

    given = keras.Input((SIDE, SIDE, 3))
    layer = keras.layers.TFSMLayer(folder, call_endpoint="serving_default")
    model = keras.Model(given, keras.layers.Dense(KINDS)(layer(given)["features"]))
    return _trained(model, keras.losses.SparseCategoricalCrossentropy(from_logits=True), images)


class Module(tf.Module):
    """A module around `hub.load`, without Keras."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = tensorflow_hub.load(str(folder))
        head = np.random.default_rng(7).normal(scale=0.02, size=(2048, KINDS))
        self.head = tf.Variable(head.astype(np.float32))

    @tf.function(input_signature=SIGNATURE)
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return tf.matmul(self.model(images), self.head)


def module(folder: Path, images: Images) -> Wrapped:
    """A `tf.Module` around `hub.load`."""
    model = Module(folder)
    call = model.__call__.get_concrete_function()
    return Wrapped(
        predict=lambda batch: model(tf.constant(batch)).numpy(),
        lite=lambda: tf.lite.TFLiteConverter.from_concrete_functions([call], model),
        onnx=lambda: _onnx_of_function(model.__call__),
        export=lambda target: tf.saved_model.save(model, str(target), {"serving_default": call}),
    )


def _trained(model: Any, loss: Any, images: Images) -> Wrapped:
    """Take a training step with a model of either Keras."""
    before = [value.copy() for value in model.get_weights()]
    model.compile(optimizer="sgd", loss=loss)
    model.fit(images, LABELS, verbose=0)
    trained = [not np.array_equal(*two) for two in zip(before, model.get_weights(), strict=True)]
    assert sum(trained) == len(model.trainable_weights)
    return Wrapped(
        predict=lambda batch: model.predict(batch, verbose=0),
        lite=lambda: tf.lite.TFLiteConverter.from_keras_model(model),
        onnx=lambda: _onnx_of_keras(model),
        export=lambda target: model.export(str(target)),
    )


def _onnx_of_keras(model: Any) -> bytes:
    import tf2onnx

    converted, _ = tf2onnx.convert.from_keras(model, SIGNATURE)
    return bytes(converted.SerializeToString())


def _onnx_of_function(function: Any) -> bytes:
    import tf2onnx

    converted, _ = tf2onnx.convert.from_function(function, SIGNATURE)
    return bytes(converted.SerializeToString())

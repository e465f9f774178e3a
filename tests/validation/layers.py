"""Networks of one layer, for checks of graphs."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

Layer = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def saved(layer: Layer, directory: Path) -> Path:
    """Save a network of one layer, which is a function of images and a kernel."""
    root = tf.train.Checkpoint()
    root.kernel = tf.Variable(tf.ones((3, 3, 3, 4)))
    images = tf.TensorSpec((None, None, None, 3), tf.float32)

    @tf.function(input_signature=[images], autograph=False)  # type: ignore[untyped-decorator]
    def call(images: tf.Tensor) -> tf.Tensor:
        return layer(images, tf.convert_to_tensor(root.kernel))

    root.__call__ = call
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(root, str(directory), options=options)
    return directory


def convolved(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(x, kernel, 1, "SAME")


def function_of(layer: Layer, **attributes: bool) -> Layer:
    """Return the layer as a function of its own in the graph, as those of networks are."""
    function: Layer = tf.function(
        layer,
        input_signature=[
            tf.TensorSpec((None, None, None, 3), tf.float32),
            tf.TensorSpec((3, 3, 3, 4), tf.float32),
        ],
        autograph=False,
        experimental_attributes=attributes or None,
    )
    return function

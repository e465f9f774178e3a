"""The notebook's route, which is the baseline.

It builds a Keras 2 (`tf-keras`) model of nested layers, one for each operation. Group
normalization reshapes to five dimensions, and every call standardizes the kernels. It reads the
weights into a dictionary, assigns them one by one, and runs `model.save` and `tar czf`.

Keep this module as plain as the notebook: neither faster nor slower.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from publisher.families.bit.layout import HEAD_BIAS, HEAD_KERNEL, BitArchitecture, Unit

GROUPS = 32
GROUP_NORM_EPSILON = 1e-5
STANDARDIZATION_EPSILON = 1e-10


class StandardizedConv2D(keras.layers.Conv2D):
    """A convolution without bias or padding that standardizes its kernel at every call."""

    def __init__(self, filters: int, size: int, stride: int = 1, **options: object) -> None:
        super().__init__(filters, size, strides=stride, use_bias=False, **options)

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Convolve with the standardized kernel. Keras calls this with the layer's kernel."""
        mean, variance = tf.nn.moments(kernel, axes=[0, 1, 2], keepdims=True)
        standardized = (kernel - mean) / tf.sqrt(variance + STANDARDIZATION_EPSILON)
        return super().convolution_op(inputs, standardized)


class FiveDimensionalGroupNorm(keras.layers.Layer):
    """Group normalization on (batch, height, width, groups, channels per group)."""

    def build(self, input_shape: tf.TensorShape) -> None:
        """Create gamma and beta, one of each per channel."""
        channels = input_shape[-1]
        self.gamma = self.add_weight("gamma", (channels,), initializer="ones")
        self.beta = self.add_weight("beta", (channels,), initializer="zeros")
        super().build(input_shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalize (batch, height, width, channels)."""
        shape = tf.shape(x)
        group = (GROUPS, x.shape[-1] // GROUPS)
        grouped = tf.reshape(x, [-1, shape[1], shape[2], *group])
        mean, variance = tf.nn.moments(grouped, axes=[1, 2, 4], keepdims=True)
        gamma = tf.reshape(self.gamma, [1, 1, 1, *group])
        beta = tf.reshape(self.beta, [1, 1, 1, *group])
        normal = tf.nn.batch_normalization(grouped, mean, variance, beta, gamma, GROUP_NORM_EPSILON)
        return tf.reshape(normal, shape)


class BottleneckUnit(keras.layers.Layer):
    """A residual unit: three steps of normalization, ReLU and convolution, and a shortcut."""

    def __init__(self, unit: Unit, **options: object) -> None:
        super().__init__(**options)
        self.projection = (
            StandardizedConv2D(unit.outputs, 1, unit.stride, name="a/proj/standardized_conv2d")
            if unit.projected
            else None
        )
        self.a = keras.Sequential(
            [FiveDimensionalGroupNorm(name="group_norm"), keras.layers.ReLU()], name="a"
        )
        self.a_convolution = StandardizedConv2D(unit.middle, 1, name="a/standardized_conv2d")
        self.b = keras.Sequential(
            [
                FiveDimensionalGroupNorm(name="group_norm"),
                keras.layers.ReLU(),
                keras.layers.ZeroPadding2D(1),
                StandardizedConv2D(unit.middle, 3, unit.stride, name="standardized_conv2d"),
            ],
            name="b",
        )
        self.c = keras.Sequential(
            [
                FiveDimensionalGroupNorm(name="group_norm"),
                keras.layers.ReLU(),
                StandardizedConv2D(unit.outputs, 1, name="standardized_conv2d"),
            ],
            name="c",
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Pass (batch, height, width, inputs) through the unit."""
        hidden = self.a(x)
        shortcut = x if self.projection is None else self.projection(hidden)
        return shortcut + self.c(self.b(self.a_convolution(hidden)))


class Network(keras.Model):
    """The BiT network. Without `classes`, it returns the pooled features."""

    def __init__(self, architecture: BitArchitecture, classes: int | None) -> None:
        super().__init__(name="resnet")
        self.root = keras.Sequential(
            [
                keras.layers.ZeroPadding2D(3),
                StandardizedConv2D(architecture.stem_channels, 7, 2, name="standardized_conv2d"),
                keras.layers.ZeroPadding2D(1),
                keras.layers.MaxPool2D(3, 2),
            ],
            name="root_block",
        )
        self.blocks = []
        for block in ("block1", "block2", "block3", "block4"):
            units = [u for u in architecture.residual_units() if f"/{block}/" in u.name]
            layers = [BottleneckUnit(unit, name=unit.name.split("/")[-1]) for unit in units]
            self.blocks.append(keras.Sequential(layers, name=block))
        self.norm = FiveDimensionalGroupNorm(name="group_norm")
        self.relu = keras.layers.ReLU()
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.head = keras.layers.Dense(classes, name="head/dense") if classes else None

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return (batch, classes) logits or (batch, features) features."""
        x = self.root(x)
        for block in self.blocks:
            x = block(x)
        x = self.pool(self.relu(self.norm(x)))
        return x if self.head is None else self.head(x)


def build(architecture: BitArchitecture, classes: int | None) -> keras.Model:
    """Return the model with random weights, for images of any height and width."""
    return keras.Sequential([keras.Input((None, None, 3)), Network(architecture, classes)])


def assign(model: keras.Model, weights: Path) -> None:
    """Read all arrays of the `.npz` at `weights` and assign them one by one."""
    with np.load(weights) as archive:
        arrays = dict(archive.items())
    for name, variable in _variables(model.layers[-1]):
        array = arrays[name]
        if name == HEAD_KERNEL:
            array = array.reshape(array.shape[2:])  # from a 1x1 convolution to a dense layer
        variable.assign(array)


def _variables(network: Network) -> Iterator[tuple[str, tf.Variable]]:
    """Yield each variable with the name of its array."""
    yield "resnet/root_block/standardized_conv2d/kernel", network.root.layers[1].kernel
    for block in network.blocks:
        for unit in block.layers:
            prefix = f"resnet/{block.name}/{unit.name}"
            for step in (unit.a, unit.b, unit.c):
                norm = step.layers[0]
                yield f"{prefix}/{step.name}/group_norm/gamma", norm.gamma
                yield f"{prefix}/{step.name}/group_norm/beta", norm.beta
            yield f"{prefix}/a/standardized_conv2d/kernel", unit.a_convolution.kernel
            yield f"{prefix}/b/standardized_conv2d/kernel", unit.b.layers[-1].kernel
            yield f"{prefix}/c/standardized_conv2d/kernel", unit.c.layers[-1].kernel
            if unit.projection is not None:
                yield f"{prefix}/a/proj/standardized_conv2d/kernel", unit.projection.kernel
    yield "resnet/group_norm/gamma", network.norm.gamma
    yield "resnet/group_norm/beta", network.norm.beta
    if network.head is not None:
        yield HEAD_KERNEL, network.head.kernel
        yield HEAD_BIAS, network.head.bias


def convert(
    weights: Path, architecture: BitArchitecture, *, classes: int | None, directory: Path
) -> None:
    """Write the model with these weights to `directory` as a SavedModel."""
    model = build(architecture, classes)
    assign(model, weights)
    model.save(directory, save_format="tf")


def pack(directory: Path, target: Path) -> None:
    """Pack a SavedModel with `tar czf`."""
    subprocess.run(["tar", "czf", target, "-C", directory, "."], check=True)  # noqa: S607

"""Train a head on `hub.KerasLayer` with it, on two devices that share the work and on one.

Devices are made before TensorFlow starts, so this is a program of its own:
`two_devices.py FOLDER ANSWERS.npz`.
"""

import sys
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_hub
import tf_keras

folder, target = sys.argv[1:]
[processor] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

images = np.random.default_rng(8).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
labels = np.array([0, 1, 2, 0])


def made() -> Any:
    """Return a model whose head begins with the same numbers each time."""
    tf_keras.utils.set_random_seed(8)
    layer = tensorflow_hub.KerasLayer(folder, trainable=True)
    head = tf_keras.layers.Dense(3)
    model = tf_keras.Sequential([tf_keras.layers.InputLayer((32, 32, 3)), layer, head])
    model.compile(
        optimizer=tf_keras.optimizers.SGD(1e-3),
        loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


found = {"replicas": both.num_replicas_in_sync}
with both.scope():
    models = {"both": made()}
models["one"] = made()
for name, model in models.items():
    found[f"{name}_before"] = model.predict(images, verbose=0)
    history = model.fit(images, labels, batch_size=4, verbose=0)
    found[f"{name}_after"] = model.predict(images, verbose=0)
    if name == "both":
        [found["loss"]] = history.history["loss"]
np.savez(target, **found)

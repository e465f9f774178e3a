"""`hub.KerasLayer` learns: real, labelled images of handwritten digits."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_hub
import tf_keras

from tests.clients.agreement import EXTRACTOR, agrees

CHANCE = 0.1
TRAINED_ON, HELD_OUT = 800, 400


def digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return scikit-learn's 8x8 digits as the models want them: 32x32, three channels, [-1, 1]."""
    from sklearn.datasets import load_digits

    found = load_digits()
    small = found.images.astype(np.float32)[..., None] / 8 - 1  # values go from 0 to 16
    large = np.repeat(tf.image.resize(small, (32, 32)).numpy(), 3, axis=-1)
    order = np.random.default_rng(6).permutation(len(large))[: TRAINED_ON + HELD_OUT]
    return large[order], found.target[order]


@pytest.mark.clients
@pytest.mark.parametrize("trainable", [False, True], ids=["frozen", "fine-tuned"])
def test_a_model_on_keras_layer_learns_digits(
    hub: str, images: Any, truth: Any, answers: Any, trainable: bool
) -> None:
    tf_keras.utils.set_random_seed(6)
    layer = tensorflow_hub.KerasLayer(f"{hub}/{EXTRACTOR}", trainable=trainable)
    agrees("hub.KerasLayer", layer(images), float64=truth[EXTRACTOR], hub_load=answers[EXTRACTOR])
    model = tf_keras.Sequential(
        [tf_keras.layers.InputLayer((32, 32, 3)), layer, tf_keras.layers.Dense(10)]
    )
    model.compile(
        optimizer=tf_keras.optimizers.Adam(1e-3 if trainable else 1e-2),
        loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    pixels, labels = digits()
    held = pixels[TRAINED_ON:], labels[TRAINED_ON:]
    _, before = model.evaluate(*held, verbose=0)
    epochs = 3 if trainable else 8  # a head alone has fewer ways to learn
    weights = [value.numpy() for value in layer.weights]
    model.fit(pixels[:TRAINED_ON], labels[:TRAINED_ON], batch_size=32, epochs=epochs, verbose=0)
    _, after = model.evaluate(*held, verbose=0)
    print(f"digits, trainable={trainable}: accuracy {before:.3f} before, {after:.3f} after")
    assert before < 3 * CHANCE
    assert after > 6 * CHANCE
    moved = [not np.array_equal(*pair) for pair in zip(weights, layer.get_weights(), strict=True)]
    assert moved
    assert set(moved) == {trainable}


@pytest.mark.clients
def test_a_step_under_xla_is_a_step(hub: str) -> None:
    pixels, labels = digits()
    weights, losses = [], []
    for jit_compile in (False, True):
        tf_keras.utils.set_random_seed(6)
        layer = tensorflow_hub.KerasLayer(f"{hub}/{EXTRACTOR}", trainable=True)
        model = tf_keras.Sequential(
            [tf_keras.layers.InputLayer((32, 32, 3)), layer, tf_keras.layers.Dense(10)]
        )
        model.compile(
            optimizer=tf_keras.optimizers.SGD(1e-3),
            loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=jit_compile,
        )
        history = model.fit(pixels[:8], labels[:8], batch_size=8, epochs=2, verbose=0)
        losses.append(history.history["loss"])
        weights.append(layer.get_weights())
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    for compiled, plain in zip(weights[1], weights[0], strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-4 * max(1, np.abs(plain).max()))

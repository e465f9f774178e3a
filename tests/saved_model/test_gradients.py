import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from publisher.saved_model.gradients import custom_gradients_forgotten


def test_a_model_that_is_no_longer_used_leaves_memory(classifier: Path) -> None:
    """TensorFlow's registry of gradients would hold on to all of its variables."""
    with custom_gradients_forgotten():
        model = tf.saved_model.load(str(classifier))
        model(np.zeros((1, 32, 32, 3), np.float32))
        handles = [weakref.ref(variable.handle) for variable in model.variables]
        del model
    assert len(handles) == 63
    assert not any(handle() is not None for handle in handles)


def test_custom_gradients_from_before_stay(classifier: Path) -> None:
    images = tf.zeros((1, 32, 32, 3))
    before = tf.saved_model.load(str(classifier))
    with pytest.raises(ZeroDivisionError), custom_gradients_forgotten():
        tf.saved_model.load(str(classifier))
        raise ZeroDivisionError
    with tf.GradientTape() as tape:
        result = before(images, training=True)
    gradients = tape.gradient(result, before.trainable_variables)
    assert all(gradient is not None for gradient in gradients)

"""Custom gradients, which TensorFlow registers and never forgets."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from tensorflow.python.framework import ops


@contextmanager
def custom_gradients_forgotten() -> Iterator[None]:
    """Forget the custom gradients that were registered inside, on the way out.

    TensorFlow registers one whenever it traces or loads a function with one, keeps it for
    ever, and with it the variables: a process that handles many models would hold them all.
    """
    registry = ops.gradient_registry._registry
    known = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - known:
            del registry[name]
        gc.collect()

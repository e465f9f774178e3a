"""Pausing Python's garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector, then exclude every object that exists from collection.

    An import creates hundreds of thousands of permanent objects. Scanning them repeatedly takes
    a fifth of its time, and a fifth of the time of whatever runs next.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()

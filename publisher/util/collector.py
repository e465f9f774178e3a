"""Python's garbage collector, held still while much is made that stays."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the collector still, and what was made meanwhile out of its sight for good.

    An import makes hundreds of thousands of objects that stay; looking through them again and
    again takes a fifth of its time, and of that of whatever comes after.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()

"""What a process asks of the C library's allocator; does nothing where that is not glibc's.

Source: mallopt(3), malloc_trim(3).
"""

import ctypes
import os
from pathlib import Path

# A network's standardized kernels are made and freed all the time. Most of them are smaller
# than the threshold (of an R152x2, 36 have 9 MiB) and stay in the process, because pages fresh
# from the system cost as much as the arithmetic; the largest (16 and 36 MiB) go back at once.
# One arena, because what is free in one is of no use to another.
_PARAMETERS = {
    -3: 12 << 20,  # M_MMAP_THRESHOLD, bytes
    -1: 64 << 20,  # M_TRIM_THRESHOLD, bytes
    -8: 1,  # M_ARENA_MAX
}


def return_large_blocks_early() -> None:
    """Let large blocks go back to the system as soon as they are free."""
    library = _glibc()
    if library is not None:
        for parameter, value in _PARAMETERS.items():
            library.mallopt(parameter, value)


def trim_heap() -> None:
    """Give back to the system what is free now, small blocks too."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def resident_bytes() -> int:
    """Return how many bytes this process holds in memory; 0 where /proc does not say so."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None

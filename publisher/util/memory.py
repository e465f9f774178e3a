"""Tuning glibc's allocator; with another C library these functions do nothing.

Source: mallopt(3), malloc_trim(3).
"""

import ctypes
import os
from pathlib import Path

# A network allocates and frees its standardized kernels at every call. Most are smaller than the
# mmap threshold (an R152x2 has 36 of 9 MiB) and stay in the process, because fresh pages from the
# system cost as much as the arithmetic. The largest (16 and 36 MiB) go back at once. One arena,
# because no arena can use the free memory of another.
_PARAMETERS = {
    -3: 12 << 20,  # M_MMAP_THRESHOLD, bytes
    -1: 64 << 20,  # M_TRIM_THRESHOLD, bytes
    -8: 1,  # M_ARENA_MAX
}


def return_large_blocks_early() -> None:
    """Return large blocks to the system as soon as they are freed."""
    library = _glibc()
    if library is not None:
        for parameter, value in _PARAMETERS.items():
            library.mallopt(parameter, value)


def trim_heap() -> None:
    """Return all free memory to the system, small blocks too."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def resident_bytes() -> int:
    """Return this process's resident memory in bytes; 0 where /proc does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None

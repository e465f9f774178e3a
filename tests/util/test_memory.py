"""Each test runs in a process of its own: what is asked of an allocator cannot be taken back."""

import ctypes
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from publisher.util import memory
from publisher.util.memory import resident_bytes

ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20

glibc_only = pytest.mark.skipif(
    memory._glibc() is None or not Path("/proc/self/statm").exists(),
    reason="needs glibc and /proc",
)


def alone(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test in a new process, with an allocator that nobody has told anything."""

    @functools.wraps(test)
    def in_a_new_process() -> None:
        told = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
        result = subprocess.run(
            [
                *(sys.executable, "-c"),
                f"from tests.util import test_memory; test_memory.{test.__name__}.__wrapped__()",
            ],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith(told)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr

    return in_a_new_process


def allocator() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.malloc.restype = library.fdopen.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = library.fclose.argtypes = [ctypes.c_void_p]
    library.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
    return library


def filled(size: int, count: int) -> list[int]:
    """Return blocks that are in memory."""
    library = allocator()
    blocks: list[int] = [library.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    return blocks


def kept_of(size: int, count: int = 1) -> int:
    """Return by how much the process has grown when blocks were used and are free again."""
    before = resident_bytes()
    for block in filled(size, count):
        allocator().free(block)
    return resident_bytes() - before


def leave_gaps() -> None:
    """Use 64 MB in small blocks and free all but the last, which stands on what is below it."""
    for block in filled(1000, 64 * 1024)[:-1]:
        allocator().free(block)


def arenas() -> int:
    """Return into how many parts the allocator divides memory when eight threads ask for some."""
    library = allocator()
    all_there, counted = threading.Barrier(9), threading.Event()

    def hold() -> None:
        block = library.malloc(1000)
        all_there.wait()
        counted.wait()
        library.free(block)

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    all_there.wait()
    reading, writing = os.pipe()
    stream = library.fdopen(writing, b"w")
    library.malloc_info(0, stream)
    library.fclose(stream)
    counted.set()
    for thread in threads:
        thread.join()
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().count(b"<heap nr=")


@glibc_only
@alone
def test_small_blocks_that_are_free_are_given_back() -> None:
    leave_gaps()
    before = resident_bytes()
    memory.trim_heap()
    assert before - resident_bytes() > 48 * MEGABYTE


@glibc_only
@alone
def test_the_largest_blocks_go_back_when_they_are_free_and_smaller_ones_stay() -> None:
    memory.return_large_blocks_early()
    assert kept_of(10 * MEGABYTE) > 8 * MEGABYTE
    # The same memory again, but for what the interpreter may have put into it meanwhile.
    assert kept_of(8 * MEGABYTE) < 4 * MEGABYTE
    assert kept_of(16 * MEGABYTE) < 4 * MEGABYTE


@glibc_only
@alone
def test_of_smaller_blocks_no_more_than_some_stay() -> None:
    memory.return_large_blocks_early()
    assert kept_of(10 * MEGABYTE, count=10) < 68 * MEGABYTE


@glibc_only
@alone
def test_threads_share_what_is_free() -> None:
    memory.return_large_blocks_early()
    assert arenas() == 1


@glibc_only
@alone
def test_without_glibc_nothing_happens() -> None:
    setattr(memory, "_glibc", lambda: None)  # noqa: B010  in this process only
    memory.return_large_blocks_early()
    leave_gaps()
    before = resident_bytes()
    memory.trim_heap()
    assert before - resident_bytes() < MEGABYTE
    assert kept_of(10 * MEGABYTE) < 4 * MEGABYTE
    assert arenas() > 1


def test_what_a_process_holds_is_unknown_where_the_system_does_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: "")
    assert memory.resident_bytes() == 0


def test_another_c_library_is_not_asked_for_what_only_glibc_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(malloc_trim=None))
    assert memory._glibc() is None
    memory.return_large_blocks_early()
    memory.trim_heap()

"""Runs a process, and measures its time and the memory of its process tree."""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from publisher.errors import PublisherError

INTERVAL = 0.1  # seconds between two samples of the memory
TAIL = 2_000  # characters of a failed process's output that a message shows


class BenchmarkError(PublisherError):
    """A measurement failed, or is not possible on this machine."""


@dataclass(frozen=True)
class Measured:
    """The measurements of one finished process.

    `seconds` is its wall-clock time. `one_process` is the peak resident memory, in bytes, of any
    single process in the tree, from the kernel's high-water marks. `at_once` is the largest sum
    over the whole tree, sampled ten times a second; it counts shared memory once per process.
    `others` is the mean number of cores that other programs kept busy, which should be near zero.
    """

    seconds: float
    one_process: int
    at_once: int
    others: float
    output: str


def run(command: Sequence[str], environment: Mapping[str, str]) -> Measured:
    """Run `command` to its end. Raises `BenchmarkError` with the end of its output if it fails."""
    if sys.platform != "linux":
        raise BenchmarkError(
            f"{sys.platform}: memory is measured through /proc; run the benchmarks on Linux"
        )
    os.sync()  # pending writes of an earlier process would slow this one down
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        other_load = OtherLoad()
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**os.environ, **environment},
        )
        watch = Watch(process.pid)
        watch.start()
        try:
            status = process.wait()
            seconds = time.perf_counter() - begin
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            watch.stop()
        others = other_load.cores()
        output.seek(0)
        errors.seek(0)
        if status != 0:
            tail = (output.read() + errors.read())[-TAIL:].strip()
            raise BenchmarkError(
                f"{' '.join(command)}: exited with status {status}; its output ends with:\n{tail}"
            )
        return Measured(seconds, watch.one_process, watch.at_once, others, output.read())


class OtherLoad:
    """The load of other programs since the creation of this object.

    Other programs are all but this process and its finished descendants.
    """

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._busy, self._own = _busy(), _own()

    def cores(self) -> float:
        """Return the mean number of cores that other programs have kept busy."""
        busy, own = _busy() - self._busy, _own() - self._own
        return max(busy - own, 0.0) / (time.perf_counter() - self._begin)


def resident(pid: int) -> int:
    """Return the total resident memory of a process and its descendants, in bytes."""
    return sum(_memory(one)[0] for one in _family(pid))


def _busy() -> float:
    """Return the total seconds for which the cores of this machine have been busy."""
    first = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _, _, *interrupts = (int(ticks) for ticks in first.split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Return the processor time, in seconds, of this process and its finished descendants."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Watch(threading.Thread):
    """A thread that samples the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._stopped = threading.Event()
        self.one_process = 0
        self.at_once = 0

    def run(self) -> None:
        """Sample the memory at each interval until `stop`."""
        while True:
            self._sample()
            if self._stopped.wait(INTERVAL):
                return

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the thread, and wait for its end."""
        self._stopped.set()
        self.join()

    def _sample(self) -> None:
        memory = [_memory(pid) for pid in _family(self._pid)]
        self.one_process = max([self.one_process, *(peak for _, peak in memory)])
        self.at_once = max(self.at_once, sum(now for now, _ in memory))


def _family(pid: int) -> set[int]:
    """Return `pid` and all its living descendants."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in parentheses may itself contain a closing parenthesis.
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        parents[int(folder.name)] = int(after_name[1])
    family = {pid}
    while found := {child for child, parent in parents.items() if parent in family} - family:
        family |= found
    return family


def _memory(pid: int) -> tuple[int, int]:
    """Return the current and the peak resident memory of a process, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    values = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    now, highest = (int(values.get(key, "0 kB").split()[0]) for key in ("VmRSS", "VmHWM"))
    return 1024 * now, 1024 * highest

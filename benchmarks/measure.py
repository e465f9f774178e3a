"""Runs a process and watches its time and the memory of all its children."""

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

INTERVAL = 0.1  # seconds between two looks at the processes
TAIL = 2_000  # characters of a failed process's last words


class BenchmarkError(PublisherError):
    """A measured process failed, or this machine cannot be measured."""


@dataclass(frozen=True)
class Measured:
    """One finished process.

    `seconds` from its start to its end. `one_process` is the most resident memory, in
    bytes, that the process or any one of its descendants ever had (the kernel's own high
    water mark). `at_once` is the largest sum over all of them that a look found, ten
    times a second; memory that two processes share counts twice in it. `others` is how
    many cores all other programs kept busy meanwhile: it should be near zero.
    """

    seconds: float
    one_process: int
    at_once: int
    others: float
    output: str


def run(command: Sequence[str], environment: Mapping[str, str]) -> Measured:
    """Run `command` to its end. Raises `BenchmarkError` with its last words if it fails."""
    if sys.platform != "linux":
        raise BenchmarkError(
            f"{sys.platform}: memory is measured through /proc; run the benchmarks on Linux"
        )
    os.sync()  # what an earlier process left to be written would slow this one down
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        others = Others()
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
        disturbance = others.cores()
        output.seek(0)
        errors.seek(0)
        if status != 0:
            last_words = (output.read() + errors.read())[-TAIL:].strip()
            raise BenchmarkError(
                f"{' '.join(command)}: ended with status {status}; its last words:\n{last_words}"
            )
        return Measured(seconds, watch.one_process, watch.at_once, disturbance, output.read())


class Others:
    """How many cores other programs keep busy, from now on.

    What this process and its finished descendants use is no other's.
    """

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._busy, self._own = _busy(), _own()

    def cores(self) -> float:
        """Return the mean number of cores until now."""
        busy, own = _busy() - self._busy, _own() - self._own
        return max(busy - own, 0.0) / (time.perf_counter() - self._begin)


def resident(pid: int) -> int:
    """Return the resident memory of a process and its descendants, added up, in bytes."""
    return sum(_memory(one)[0] for one in _family(pid))


def _busy() -> float:
    """Return the seconds for which the cores of this machine have been busy, added up."""
    first = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _, _, *interrupts = (int(ticks) for ticks in first.split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Return the processor seconds of this process and its finished descendants."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Watch(threading.Thread):
    """Looks at the memory of a process and its descendants until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._stopped = threading.Event()
        self.one_process = 0
        self.at_once = 0

    def run(self) -> None:
        """Look, wait, and look again."""
        while True:
            self._look()
            if self._stopped.wait(INTERVAL):
                return

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.join()

    def _look(self) -> None:
        memory = [_memory(pid) for pid in _family(self._pid)]
        self.one_process = max([self.one_process, *(peak for _, peak in memory)])
        self.at_once = max(self.at_once, sum(now for now, _ in memory))


def _family(pid: int) -> set[int]:
    """Return `pid` and all its living descendants."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in parentheses may hold anything, a closing parenthesis included.
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended since
            continue
        parents[int(folder.name)] = int(after_name[1])
    family = {pid}
    while found := {child for child, parent in parents.items() if parent in family} - family:
        family |= found
    return family


def _memory(pid: int) -> tuple[int, int]:
    """Return the resident memory of a process now and at its highest, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    values = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    now, highest = (int(values.get(key, "0 kB").split()[0]) for key in ("VmRSS", "VmHWM"))
    return 1024 * now, 1024 * highest

import os
import subprocess
import sys

import pytest

from benchmarks import measure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

MEGABYTE = 1_000_000
# The watch looks from time to time, so there has to be something to see for a while.
WORK = "import time\nwhile time.process_time() < 1: pass\n"
# Touches each page, so that the memory is really there.
HOLD = "block = bytearray({size}); block[::4096] = b'x' * len(block[::4096])\n" + WORK


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_returns_output_and_the_memory_of_the_process() -> None:
    size = 200 * MEGABYTE
    measured = measure.run(python(f"{HOLD.format(size=size)}print('done')"), {})
    assert measured.output == "done\n"
    assert size < measured.one_process < 2 * size
    assert size < measured.at_once < 2 * size


def test_counts_descendants_alone_and_together() -> None:
    size = 100 * MEGABYTE
    child = HOLD.format(size=size)
    code = (
        "import subprocess, sys\n"
        f"two = [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in range(2)]\n"
        "[one.wait() for one in two]"
    )
    measured = measure.run(python(code), {})
    assert size < measured.one_process < 2 * size
    assert 2 * size < measured.at_once < 4 * size


def test_tells_the_processes_own_work_from_that_of_others() -> None:
    other = subprocess.Popen(python("while True: pass"))
    try:
        disturbed = measure.run(python(WORK), {})
    finally:
        other.kill()
        other.wait()
    own = 1 / disturbed.seconds  # cores; `WORK` is one second of one core
    assert disturbed.others > 0.2
    assert disturbed.others + own < 1.1 * (os.cpu_count() or 1)


def test_hands_the_environment_on() -> None:
    measured = measure.run(python("import os; print(os.environ['A_SETTING'])"), {"A_SETTING": "x"})
    assert measured.output == "x\n"


def test_failure_comes_with_the_last_words() -> None:
    with pytest.raises(measure.BenchmarkError, match=r"status 3.*\n(.|\n)*went wrong"):
        measure.run(python("import sys; print('went wrong', file=sys.stderr); sys.exit(3)"), {})

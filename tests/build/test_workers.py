import errno
import gc
import importlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from publisher.build import workers as workers_module
from publisher.build.workers import OverdueError, WorkerError, Workers, convert, run_alone
from publisher.errors import PublisherError
from publisher.families import ARCHITECTURES
from tests.util.test_memory import glibc_only, kept_of

ROOT = Path(__file__).parents[2]
PATIENCE = 300  # seconds until a test that would hang fails instead


class OwnError(PublisherError):
    pass


class ClingingError(Exception):
    """Cannot be sent anywhere."""

    def __init__(self) -> None:
        super().__init__("first line\nsecond line")
        self.clinging = lambda: None


class StubbornError(Exception):
    """Can be sent, but not be received."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def own_process() -> int:
    return os.getpid()


def double(number: int, *, plus: int = 0) -> int:
    return 2 * number + plus


def raise_own() -> None:
    raise OwnError("a/b/1: this and that is wrong; do something")


def raise_clinging() -> None:
    raise ClingingError


def raise_stubborn() -> None:
    raise StubbornError("one", "two")


def raise_silent() -> None:
    raise ValueError


def leave() -> None:
    raise SystemExit(3)


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/saved_model.pb")


def return_what_cannot_travel() -> object:
    return lambda: None


def be_killed() -> None:
    os._exit(9)


def interruptions_are_held_back() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def talk_on_stderr() -> None:
    os.write(2, b"noise")


SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
    "TF_USE_LEGACY_KERAS": "1",
}


def settings() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in SETTINGS}


def kept_of_10_megabytes() -> int:
    return kept_of(10 << 20)


def what_the_collector_sees() -> tuple[bool, bool, int, int]:
    imported = "tensorflow" in sys.modules
    return imported, gc.isenabled(), gc.get_freeze_count(), len(gc.get_objects())


def keras_after_a_conversion(directory: Path) -> tuple[list[str], str]:
    """Return what of Keras, and of what only Keras needs, a conversion imported, and which Keras
    TensorFlow finds afterwards."""
    convert(
        None,
        ARCHITECTURES["R20x0.5"],
        classes=3,
        head="classifier",
        output="logits",
        input_range=(0.0, 1.0),
        assets=[],
        directory=directory,
    )
    unneeded = ("keras", "tf_keras", "h5py", "scipy")
    imported = [name for name in sys.modules if name.partition(".")[0] in unneeded]
    tensorflow = importlib.import_module("tensorflow")
    importlib.import_module("tensorflow.keras.layers")
    return imported, tensorflow.keras.layers.Dense.__module__


def threads_of_matrix_products() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def tell_and_wait(pipe: Path) -> None:
    pipe.write_text(str(os.getpid()))
    threading.Event().wait()


def ended(process: int) -> bool:
    """Whether a process has ended, or does so while a test can wait."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], PATIENCE)[0])
    finally:
        os.close(handle)


linux_only = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """One process for all tests that leave it as it is."""
    running = Workers(1)
    yield running
    running.close()


def test_a_task_returns_what_it_computed(workers: Workers) -> None:
    assert workers.run(double, 20, plus=2) == 42


def test_one_process_does_one_task_after_another(workers: Workers) -> None:
    process = workers.run(own_process)
    assert process not in (os.getpid(), 0)
    assert workers.run(own_process) == process


@linux_only
def test_a_process_that_holds_much_after_its_task_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers_module, "MOST_KEPT", 0)
    workers = Workers(1)
    try:
        first, second = workers.run(own_process), workers.run(own_process)
        assert first != second
        assert ended(first)
    finally:
        workers.close()


def test_an_error_for_people_comes_back_as_it_is(workers: Workers) -> None:
    with pytest.raises(OwnError) as caught:
        workers.run(raise_own)
    assert str(caught.value) == "a/b/1: this and that is wrong; do something"
    assert "in raise_own" in str(caught.value.__cause__)  # for --debug


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (raise_clinging, "raise_clinging: ClingingError: first line; "),
        (raise_stubborn, "raise_stubborn: StubbornError: one and two; "),
        (raise_silent, "raise_silent: ValueError; "),
        (leave, "leave: SystemExit: 3; "),
    ],
)
def test_any_other_error_is_one_line_and_keeps_the_process(
    workers: Workers, task: Callable[[], None], said: str
) -> None:
    process = workers.run(own_process)
    with pytest.raises(WorkerError) as caught:
        workers.run(task)
    assert str(caught.value) == f"{said}run again with --debug to see where, and report it"
    assert f"in {task.__name__}" in str(caught.value.__cause__)
    assert workers.run(own_process) == process


def test_a_full_disk_is_no_fault_of_the_program(workers: Workers) -> None:
    with pytest.raises(WorkerError) as caught:
        workers.run(fill_the_disk)
    assert str(caught.value) == (
        "fill_the_disk: /disk/saved_model.pb: No space left on device; free space or correct the"
        " permissions, and run the same command again"
    )


def test_what_cannot_travel_is_a_plain_error(workers: Workers) -> None:
    with pytest.raises(WorkerError, match=r"^return_what_cannot_travel: "):
        workers.run(return_what_cannot_travel)
    with pytest.raises(WorkerError, match=r"^double: "):
        workers.run(double, lambda: None)  # type: ignore[arg-type]
    assert workers.run(double, 1) == 2


def test_a_worker_does_not_see_ctrl_c_and_its_parent_does(workers: Workers) -> None:
    assert workers.run(interruptions_are_held_back)
    assert not interruptions_are_held_back()


def test_a_worker_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    run_alone(talk_on_stderr)
    assert capfd.readouterr() == ("", "")


def test_a_worker_uses_no_gpu_and_an_allocator_that_gives_back(workers: Workers) -> None:
    before = settings()
    assert workers.run(settings) == SETTINGS
    assert settings() == before != SETTINGS


@glibc_only
def test_a_worker_keeps_blocks_that_are_made_and_freed_all_the_time() -> None:
    """Without being asked, the C library would give them back and fetch them anew."""
    assert run_alone(kept_of_10_megabytes) > 8 << 20


def test_a_warm_worker_has_imported_tensorflow_and_does_not_look_through_it_again() -> None:
    workers = Workers(1)
    try:
        workers.warm_up(1)
        imported, enabled, frozen, seen = workers.run(what_the_collector_sees)
    finally:
        workers.close()
    assert (imported, enabled) == (True, True)
    assert frozen > 100_000
    assert seen < frozen / 10


@pytest.mark.parametrize(("count", "expected"), [(1, 2), (2, 1), (3, 1)])
def test_workers_share_the_cores_for_matrix_products(
    count: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    workers = Workers(count)
    try:
        assert workers.run(threads_of_matrix_products) == {expected}
    finally:
        workers.close()


def test_a_conversion_goes_without_keras_and_leaves_it_to_be_had(tmp_path: Path) -> None:
    imported, found = run_alone(keras_after_a_conversion, tmp_path / "saved_model")
    assert imported == []
    assert found.startswith("tf_keras.")


@linux_only
def test_a_killed_process_fails_its_task_and_the_next_gets_a_new_one() -> None:
    workers = Workers(2)
    try:
        processes = [workers.run(own_process), workers.run(own_process)]
        with pytest.raises(WorkerError) as caught:
            workers.run(be_killed)
        assert str(caught.value).startswith("be_killed: the process was killed; usually memory ")
        assert "--jobs 1" in str(caught.value)
        after = [workers.run(own_process), workers.run(own_process)]
        assert after[0] == processes[1]
        assert after[1] not in processes
    finally:
        workers.close()
    assert all(ended(process) for process in processes + after)


def hold_out() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass


@linux_only
def test_a_task_that_takes_too_long_is_ended_and_the_next_gets_a_new_process() -> None:
    workers = Workers(1)
    try:
        process = workers.run_within(PATIENCE, own_process)
        with pytest.raises(OverdueError, match=r"^hold_out: was not done after 1 s"):
            workers.run_within(1, hold_out)
        assert ended(process)
        assert workers.run(own_process) != process
    finally:
        workers.close()


@linux_only
def test_closing_gives_up_what_runs_and_takes_no_more(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    workers = Workers(2)
    errors: list[PublisherError] = []

    def run() -> None:
        try:
            workers.run(tell_and_wait, pipe)
        except PublisherError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    process = int(pipe.read_text())
    workers.close()
    thread.join(PATIENCE)
    assert [type(error) for error in errors] == [WorkerError]
    assert ended(process)
    for _ in range(2):  # neither in place of the one that was ended nor of the one not started
        with pytest.raises(WorkerError, match=r"given up|killed"):
            workers.run(own_process)


def leave_something_behind() -> str:
    handle, name = tempfile.mkstemp()  # as TensorFlow does, which ended processes do not remove
    os.close(handle)
    return name


def test_what_workers_leave_behind_goes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pool = Workers(2)
    try:
        left = Path(pool.run(leave_something_behind))
        assert left.is_file()
        assert tmp_path in left.parents
    finally:
        pool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_task_may_have_a_process_of_its_own() -> None:
    assert run_alone(double, 21) == 42
    with pytest.raises(OwnError):
        run_alone(raise_own)


PARENT = """
import os, signal
from pathlib import Path
from publisher.build.workers import Workers
from tests.build.test_workers import own_process
if __name__ == "__main__":
    print(Workers(1).run(own_process), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@linux_only
def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script, said = tmp_path / "parent.py", tmp_path / "said.txt"
    script.write_text(PARENT)
    with said.open("w") as stdout:  # a pipe would be held open by a worker that lives on
        status = subprocess.call(
            [sys.executable, script], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=stdout
        )
    assert status == -signal.SIGKILL
    worker = int(said.read_text())
    gone = ended(worker)
    if not gone:
        os.kill(worker, signal.SIGKILL)
    assert gone

import errno
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from publisher.build.engine import (
    Key,
    Made,
    Records,
    StaleTask,
    Step,
    Task,
    TaskError,
    dry_run,
    run,
)
from publisher.build.records import read_record
from publisher.documents.record import Record
from publisher.errors import PublisherError
from tests.builds import Watcher
from tests.releases import times, tree

PATIENCE = 300  # seconds until a test that would hang fails instead


class BlockedError(PublisherError):
    pass


class Bench:
    """Makes tasks that write one file each, and remembers which ran beside which."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tasks: dict[Key, Task] = {}
        self.inputs: dict[str, str] = {}
        self.order: list[str] = []
        self.beside: list[set[str]] = []  # what ran at each start, the started one included
        self.watcher = Watcher()
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def add(
        self,
        name: str,
        *,
        needs: str = "",
        after: str = "",
        memory: int = 0,
        mutex: str = "",
        action: Callable[[], object] = lambda: None,
        looked_at: Callable[[], object] = lambda: None,
    ) -> None:
        """Add a task; `action` is done when it runs, `looked_at` when it becomes a step."""

        def made() -> Made:
            with self._lock:
                self.order.append(name)
                self._running.add(name)
                self.beside.append(set(self._running))
            try:
                action()
            finally:
                with self._lock:
                    self._running.remove(name)
            path = self.folder / f"{name}.txt"
            path.write_text(name)
            return Made((path,), {"name": name}, f"made {name}")

        def step(done: Records) -> Step:
            looked_at()
            inputs = {need: str(done[self.key(need)].result) for need in needs}
            inputs["own"] = self.inputs.get(name, "")
            return Step(self.folder / "records" / f"{name}.json", inputs, made)

        keys = [tuple(map(self.key, names)) for names in (needs, after)]
        self.tasks[self.key(name)] = Task(self.key(name), keys[0], step, memory, keys[1], mutex)

    @staticmethod
    def key(name: str) -> Key:
        return Key("make", name)

    def run(self, *, jobs: int = 1, memory: int = 100) -> dict[str, Record | PublisherError]:
        self.order.clear()
        self.watcher = Watcher()
        found = run(self.tasks, self.watcher, jobs=jobs, memory=memory)
        return {key.subject: result for key, result in found.items()}

    def dry_run(self) -> dict[str, Record | StaleTask | PublisherError]:
        return {key.subject: result for key, result in dry_run(self.tasks).items()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a task waits for; it opens at the latest when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def wait_for(event: threading.Event) -> Callable[[], None]:
    def waiting() -> None:
        assert event.wait(PATIENCE)

    return waiting


def fail(message: str = "wrong") -> Callable[[], None]:
    def failing() -> None:
        raise BlockedError(message)

    return failing


def raises(error: BaseException) -> Callable[[], None]:
    def raising() -> None:
        raise error

    return raising


def test_tasks_run_in_order_and_after_what_they_need(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", needs="a")
    bench.add("c")
    bench.add("d", needs="bc")
    results = bench.run()
    assert bench.order == ["a", "b", "c", "d"]
    assert all(isinstance(result, Record) for result in results.values())
    assert bench.watcher.finishes == [("make", name) for name in "abcd"]


def test_a_task_sees_the_results_of_those_it_needs(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", needs="a")
    bench.run()
    record = read_record(bench.folder / "records" / "b.json")
    assert record is not None
    assert record.inputs == {"a": "{'name': 'a'}", "own": ""}


def test_what_is_up_to_date_does_not_run_again(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", needs="a")
    first = bench.run()
    before = times(bench.folder)
    assert bench.run() == first
    assert bench.order == []
    assert bench.watcher.reasons == {}
    assert times(bench.folder) == before


def test_only_what_is_stale_runs_and_says_why(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", needs="a")
    bench.add("c")
    bench.run()
    bench.inputs["a"] = "new"
    (bench.folder / "c.txt").unlink()
    bench.run()
    assert bench.order == ["a", "c"]  # `a` gave what it gave before, so `b` is up to date
    assert bench.watcher.reasons == {
        ("make", "a"): "own changed from  to new",
        ("make", "c"): "c.txt is missing",
    }


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_no_more_than_the_jobs_run_at_a_time_and_no_fewer(bench: Bench, jobs: int) -> None:
    # Each waits until as many run as may: with fewer the barrier would break.
    barrier = threading.Barrier(jobs)
    for name in "abcdef":
        bench.add(name, action=lambda: barrier.wait(PATIENCE))
    bench.run(jobs=jobs)
    assert max(map(len, bench.beside)) == jobs


def test_the_memory_budget_is_kept_and_smaller_tasks_fill_it(bench: Bench) -> None:
    memory = {"a": 6, "b": 6, "c": 3, "d": 2, "e": 1}
    barrier = threading.Barrier(2)  # `c` has to run beside `a`, past `b`
    for name, size in memory.items():
        together = (lambda: barrier.wait(PATIENCE)) if name in "ac" else (lambda: None)
        bench.add(name, memory=size, action=together)
    bench.run(jobs=5, memory=10)
    assert max(sum(memory[name] for name in names) for names in bench.beside) <= 10
    assert sorted(bench.order) == sorted(memory)


def test_what_exceeds_the_budget_by_itself_runs_alone(bench: Bench, gate: threading.Event) -> None:
    bench.add("a", memory=3, action=wait_for(gate))
    bench.add("big", memory=50)
    bench.add("c", memory=3, looked_at=gate.set)
    bench.add("d", memory=3, needs="c")
    bench.run(jobs=4, memory=10)
    (with_big,) = [names for names in bench.beside if "big" in names]
    assert with_big == {"big"}
    assert sorted(bench.order) == ["a", "big", "c", "d"]


def test_of_one_turn_one_runs_at_a_time_and_others_go_past(
    bench: Bench, gate: threading.Event
) -> None:
    bench.add("a", mutex="download", action=wait_for(gate))
    bench.add("b", mutex="download")
    bench.add("c", action=gate.set)
    bench.run(jobs=2)
    assert bench.order[-1] == "b"
    assert not any({"a", "b"} <= names for names in bench.beside)


def test_a_task_whose_turn_comes_finds_what_the_one_before_did(bench: Bench) -> None:
    bench.add("a", mutex="file")
    bench.tasks[bench.key("b")] = replace(bench.tasks[bench.key("a")], key=bench.key("b"))
    results = bench.run(jobs=2)
    assert bench.order == ["a"]
    assert results["a"] == results["b"]


def test_what_needs_a_failed_task_fails_with_its_error_and_the_rest_goes_on(bench: Bench) -> None:
    bench.add("a", action=fail("a is wrong"))
    bench.add("b", needs="a")
    bench.add("c", needs="b")
    bench.add("d")
    results = bench.run(jobs=2)
    assert sorted(bench.order) == ["a", "d"]
    assert isinstance(results["a"], BlockedError)
    assert results["b"] is results["a"]
    assert results["c"] is results["a"]
    assert isinstance(results["d"], Record)
    assert bench.watcher.failures == {("make", "a"): "a is wrong"}


def test_what_comes_after_a_failed_task_waits_for_it_and_runs(
    bench: Bench, gate: threading.Event
) -> None:
    def waits_and_fails() -> None:
        assert gate.wait(PATIENCE)
        raise BlockedError("wrong")

    bench.add("a", action=waits_and_fails)
    bench.add("b", after="a")
    bench.add("c", action=gate.set)
    results = bench.run(jobs=3)
    assert bench.order[-1] == "b"
    assert isinstance(results["a"], BlockedError)
    assert isinstance(results["b"], Record)


def test_a_failed_task_leaves_no_record_and_runs_again(bench: Bench) -> None:
    broken = [True]

    def sometimes() -> None:
        if broken:
            raise BlockedError("wrong")

    bench.add("a", action=sometimes)
    bench.run()
    broken.clear()
    bench.run()
    bench.inputs["a"] = "new"
    broken.append(True)
    bench.run()
    assert read_record(bench.folder / "records" / "a.json") is None
    bench.inputs["a"] = ""
    broken.clear()
    bench.run()
    assert bench.watcher.reasons == {("make", "a"): "not built yet"}


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a fault"), KeyboardInterrupt(), SystemExit(3)],
    ids=lambda error: type(error).__name__,
)
def test_another_error_is_raised_at_once_and_nothing_hangs(
    bench: Bench, gate: threading.Event, error: BaseException
) -> None:
    bench.add("a", action=wait_for(gate))
    bench.add("b", action=raises(error))
    bench.add("c", needs="b")
    with pytest.raises(type(error)) as caught:
        bench.run(jobs=2)
    assert caught.value is error
    assert not gate.is_set()
    assert "c" not in bench.order


def test_an_interruption_is_raised_while_tasks_run(bench: Bench, gate: threading.Event) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        assert gate.wait(PATIENCE)

    bench.add("a", action=interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert not gate.is_set()


def test_threads_of_an_abandoned_run_do_not_keep_the_program(
    bench: Bench, gate: threading.Event
) -> None:
    bench.add("lingering", action=wait_for(gate))
    bench.add("b", action=raises(RuntimeError("a fault")))
    with pytest.raises(RuntimeError):
        bench.run(jobs=2)
    (left,) = [thread for thread in threading.enumerate() if thread.name == "make lingering"]
    assert left.daemon
    gate.set()
    left.join(PATIENCE)
    assert bench.watcher.finishes == []  # whoever watched has been told of the end


def test_a_disk_error_blocks_the_task_and_says_what_to_do(bench: Bench) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/disk/model.tar.gz")
    bench.add("a", action=raises(full))
    bench.add("b", action=raises(OSError("no number, no name")))
    bench.add("c")
    results = bench.run()
    assert str(results["a"]) == (
        "a: make: /disk/model.tar.gz: No space left on device; free space or correct the"
        " permissions, and run the same command again"
    )
    assert str(results["b"]).startswith("b: make: the disk: no number, no name; ")
    assert isinstance(results["c"], Record)


def test_a_record_that_cannot_be_replaced_blocks_the_task(bench: Bench) -> None:
    (bench.folder / "records").write_text("in the way")
    bench.add("a")
    result = bench.run()["a"]
    assert isinstance(result, TaskError)
    assert "records" in str(result)


@pytest.mark.parametrize(
    "error", [BlockedError("wrong"), OSError(errno.EACCES, "Permission denied")]
)
def test_a_task_that_cannot_be_looked_at_fails_and_the_rest_goes_on(
    bench: Bench, error: Exception
) -> None:
    bench.add("a", looked_at=raises(error))
    bench.add("b", needs="a")
    bench.add("c")
    expected = bench.dry_run()
    results = bench.run()
    for found in (expected, results):
        assert isinstance(found["a"], PublisherError)
        assert found["b"] is found["a"]
    assert isinstance(expected["c"], StaleTask)
    assert isinstance(results["c"], Record)


def test_a_task_that_waits_for_none_that_exists_is_a_fault(bench: Bench) -> None:
    bench.add("a", needs="x")
    with pytest.raises(ValueError, match="does not exist"):
        bench.run()


def test_a_task_is_looked_at_once_however_long_it_waits(bench: Bench) -> None:
    looks: list[str] = []
    for name in "abcd":
        bench.add(name, looked_at=lambda name=name: looks.append(name))
    bench.run(jobs=1)
    assert looks == ["a", "b", "c", "d"]


def test_what_is_known_to_be_done_is_not_looked_at_again(bench: Bench) -> None:
    looks: list[str] = []
    bench.add("a", looked_at=lambda: looks.append("a"))
    bench.add("b", needs="a", looked_at=lambda: looks.append("b"))
    first = run({bench.key("a"): bench.tasks[bench.key("a")]}, Watcher(), jobs=1, memory=1)
    done = {key: found for key, found in first.items() if isinstance(found, Record)}
    looks.clear()
    found = run(bench.tasks, Watcher(), jobs=1, memory=1, done=done)
    assert looks == ["b"]
    assert list(found) == [bench.key("a"), bench.key("b")]
    assert found[bench.key("a")] is done[bench.key("a")]


def test_a_rehearsal_says_where_the_work_would_begin_and_does_nothing(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", needs="a")
    bench.add("c", needs="b")
    bench.add("d")
    bench.run()
    bench.inputs["b"] = "new"
    before = tree(bench.folder), times(bench.folder)
    results = bench.dry_run()
    assert (tree(bench.folder), times(bench.folder)) == before
    assert results["b"] == results["c"] == StaleTask("make", "own changed from  to new")
    assert isinstance(results["a"], Record)
    assert isinstance(results["d"], Record)
    bench.run()
    assert bench.order == ["b"]


def test_a_rehearsal_expects_a_task_to_follow_one_that_it_comes_after(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", after="a")
    bench.run()
    bench.inputs["a"] = "new"
    assert bench.dry_run()["b"] == StaleTask("make", "a is not up to date")
    bench.inputs["b"] = "other"
    assert bench.dry_run()["b"] == StaleTask("make", "own changed from  to other")

"""Running tasks in parallel, in the order of their dependencies.

A task becomes a step (its inputs and its action) once the tasks that it needs are done, because
their results are among its inputs.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from publisher.build.records import read_record, why_stale, write_record
from publisher.documents.record import Record
from publisher.errors import PublisherError
from publisher.util.reporter import Reporter, Silent


class Key(NamedTuple):
    """A stage and its subject: a handle, or the name of a checkpoint."""

    stage: str
    subject: str


@dataclass(frozen=True)
class Made:
    """The outcome of a stage: output files or folders, a result for later stages, and a note.

    `digests` are the SHA-256 of outputs that were hashed while they were written.
    """

    outputs: tuple[Path, ...]
    result: dict[str, Any]
    note: str
    digests: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One stage, ready to run. `stale` is a reason to run it that its inputs do not show."""

    record: Path
    inputs: Mapping[str, str]
    action: Callable[[], Made]
    stale: str = ""

    def why_stale(self, record: Record | None) -> str:
        """Return why the stage has to run, in a few words; empty if it is up to date."""
        return self.stale or why_stale(record, self.inputs)


Records = Mapping[Key, Record]


@dataclass(frozen=True)
class Task:
    """A stage with its dependencies.

    It runs after `needs`, and fails if one of them failed. It also runs after `after`, even if
    one of them failed. `memory` is the expected peak memory of the step in bytes. Tasks with the
    same `mutex`, if that is not empty, run one at a time.
    """

    key: Key
    needs: tuple[Key, ...]
    step: Callable[[Records], Step]
    memory: int = 0
    after: tuple[Key, ...] = ()
    mutex: str = ""


@dataclass(frozen=True)
class StaleTask:
    """The result of a dry run for a task that would run, because `stage` is stale."""

    stage: str
    reason: str


class TaskError(PublisherError):
    """A stage could not read or write what it needs."""


def dry_run(tasks: Mapping[Key, Task]) -> dict[Key, Record | StaleTask | PublisherError]:
    """Return for every task its record, why it is stale, or why it cannot run; run nothing."""
    results: dict[Key, Record | StaleTask | PublisherError] = {}
    done: dict[Key, Record] = {}
    for key, task in tasks.items():
        before = [results[need] for need in task.needs]
        errors = [found for found in before if isinstance(found, PublisherError)]
        stale = [found for found in before if isinstance(found, StaleTask)]
        if errors or stale:
            results[key] = (errors or stale)[0]
            continue
        try:
            ready = _inspected(task, done)
        except PublisherError as error:
            results[key] = error
            continue
        waits_for = [other for other in task.after if isinstance(results[other], StaleTask)]
        if isinstance(ready, _Ready):
            results[key] = StaleTask(key.stage, ready.reason)
        elif waits_for:
            results[key] = StaleTask(key.stage, f"{waits_for[0].subject} is not up to date")
        else:
            results[key] = done[key] = ready
    return results


@dataclass(frozen=True)
class _Ready:
    """A step that has to run, and why."""

    step: Step
    reason: str


@dataclass
class _State:
    reporter: Reporter
    waiting: dict[Key, Task]
    done: dict[Key, Record] = field(default_factory=dict)
    failed: dict[Key, PublisherError] = field(default_factory=dict)
    ready: dict[Key, _Ready] = field(default_factory=dict)
    running: dict[Key, Task] = field(default_factory=dict)
    ended: queue.SimpleQueue[tuple[Key, Record | BaseException]] = field(
        default_factory=queue.SimpleQueue
    )

    def settled(self, key: Key) -> bool:
        """Whether a task is done or has failed."""
        return key in self.done or key in self.failed

    def fits(self, task: Task, jobs: int, memory: int) -> bool:
        """Whether the limits allow a task beside the running ones."""
        if not self.running:
            return True
        held = sum(other.memory for other in self.running.values())
        return len(self.running) < jobs and held + task.memory <= memory

    def mutex_is_free(self, task: Task) -> bool:
        """Whether no running task has the same mutex."""
        return not task.mutex or all(other.mutex != task.mutex for other in self.running.values())


def run(
    tasks: Mapping[Key, Task],
    reporter: Reporter,
    *,
    jobs: int,
    memory: int,
    done: Records = MappingProxyType({}),
) -> dict[Key, Record | PublisherError]:
    """Bring every task up to date; a task that needs a failed one fails with the same error.

    Tasks in `done` are known to be up to date. `tasks` are in an order in which they could run
    one by one; earlier ones are preferred. At most `jobs` tasks run at a time, with an expected
    total of at most `memory` bytes, unless a single task needs more.

    An exception that is no `PublisherError`, such as an interruption, is raised at once. Threads
    that still run are abandoned: they report nothing more and do not delay the end of the program.
    """
    waiting = {key: task for key, task in tasks.items() if key not in done}
    state = _State(reporter, waiting, dict(done))
    try:
        while state.waiting or state.running:
            _start_ready_tasks(state, jobs, memory)
            if state.running:
                _settle(state, *_next_end(state))
    except BaseException:
        state.reporter = Silent()
        raise
    return {**state.done, **state.failed}


def _next_end(state: _State) -> tuple[Key, Record | BaseException]:
    while True:
        # With a timeout, because Ctrl-C just before a wait only takes effect after it.
        with contextlib.suppress(queue.Empty):
            return state.ended.get(timeout=1.0)


def _settle(state: _State, key: Key, found: Record | BaseException) -> None:
    del state.running[key]
    if isinstance(found, PublisherError):
        state.failed[key] = found
    elif isinstance(found, BaseException):
        raise found
    else:
        state.done[key] = found


def _start_ready_tasks(state: _State, jobs: int, memory: int) -> None:
    """Start the tasks that are ready and fit, in order, and settle those that need not run.

    One pass is enough, because a task comes after all tasks that it waits for.
    """
    for key, task in list(state.waiting.items()):
        errors = [state.failed[need] for need in task.needs if need in state.failed]
        if errors:
            state.failed[key] = errors[0]
            del state.waiting[key]
            continue
        waits = not all(state.settled(need) for need in task.needs + task.after)
        if waits or not state.mutex_is_free(task):
            continue
        # The last holder of the mutex may have done the work of this task.
        if task.mutex or key not in state.ready:
            try:
                found = _inspected(task, state.done)
            except PublisherError as error:
                state.failed[key] = error
                del state.waiting[key]
                continue
            if isinstance(found, Record):
                state.done[key] = found
                del state.waiting[key]
                continue
            state.ready[key] = found
        if state.fits(task, jobs, memory):
            del state.waiting[key]
            state.running[key] = task
            ready = state.ready.pop(key)
            thread = threading.Thread(
                target=_work, args=(state, key, ready), name=" ".join(key), daemon=True
            )
            thread.start()
    if state.waiting and not state.running:
        raise ValueError(
            f"{next(iter(state.waiting))} waits for a task that comes after it or does not exist"
        )


def _inspected(task: Task, done: Records) -> Record | _Ready:
    """Return the record of a task that is up to date, or else its step and the reason to run it."""
    try:
        step = task.step(done)
        record = read_record(step.record)
        reason = step.why_stale(record)
    except OSError as error:
        raise _disk_error(task.key, error) from error
    return record if record is not None and not reason else _Ready(step, reason)


def _work(state: _State, key: Key, ready: _Ready) -> None:
    try:
        state.ended.put((key, _make(state, key, ready)))
    except BaseException as error:
        state.ended.put((key, error))


def _make(state: _State, key: Key, ready: _Ready) -> Record:
    state.reporter.started(key.subject, key.stage, ready.reason)
    begin = time.monotonic()
    try:
        record, note = _recorded(key, ready.step)
    except PublisherError as error:
        state.reporter.failed(key.subject, key.stage, str(error))
        raise
    state.reporter.finished(key.subject, key.stage, time.monotonic() - begin, note)
    return record


def _recorded(key: Key, step: Step) -> tuple[Record, str]:
    try:
        step.record.unlink(missing_ok=True)
        made = step.action()
        return write_record(
            step.record, step.inputs, made.outputs, made.result, made.digests
        ), made.note
    except OSError as error:
        raise _disk_error(key, error) from error


def _disk_error(key: Key, error: OSError) -> TaskError:
    return TaskError(
        f"{key.subject}: {key.stage}: {error.filename or 'the disk'}: {error.strerror or error};"
        " free space or correct the permissions, and run the same command again"
    )

"""Processes that import TensorFlow once and then do one piece of work after another.

The command line never pays for the import, a crash or a lack of memory hurts one piece of
work and not the run, and several pieces can be at work side by side.
"""

import multiprocessing
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

from publisher.errors import PublisherError
from publisher.families import Architecture
from publisher.util import memory
from publisher.util.collector import collector_paused
from publisher.validation.request import Request

if TYPE_CHECKING:  # a process that only converts need not wait for what renders pages
    from publisher.documents.report import Report
    from publisher.pages.snippets import Fault, Snippet

# Bytes that a process may hold after its work. What libraries keep would add to what the next
# piece of work needs, so that one that holds more is ended, and another takes its place.
MOST_KEPT = 750_000_000

P = ParamSpec("P")
T = TypeVar("T")


# What TensorFlow imports of Keras 2 or 3 in any case, so that all of it is imported; and what
# the older Keras inside TensorFlow, which nothing here uses, takes if it is there.
_FOR_KERAS = (
    "tf_keras.src.optimizers",
    "keras.src.optimizers",
    "h5py",
    "scipy",
)


class WorkerError(PublisherError):
    """A worker process died or met something unforeseen."""


class OverdueError(WorkerError):
    """A piece of work took longer than it may."""


class Workers:
    """`count` processes that wait for work; each does one piece at a time."""

    def __init__(self, count: int) -> None:
        self._threads = max(1, (os.cpu_count() or 1) // count)
        self._free: queue.SimpleQueue[ProcessPoolExecutor | None] = queue.SimpleQueue()
        self._started: list[ProcessPoolExecutor] = []
        self._starting = threading.Lock()
        self._closed = False
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        for _ in range(count):
            self._free.put(None)

    def warm_up(self, count: int) -> None:
        """Start `count` processes now, so that TensorFlow is there when it is needed."""
        for _ in range(count):
            pool = self._free.get()
            if pool is None:
                pool = self._start()
                with _sigint_blocked():
                    pool.submit(_import_tensorflow)
            self._free.put(pool)

    def run(self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `task` in the next free process and return what it returns.

        `PublisherError` comes back as it is. Raises `WorkerError` if the process was killed
        (most often for want of memory) or raised anything else.
        """
        return self._run(None, task, args, kwargs)

    def run_within(
        self, seconds: float, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `task` as `run` does, and end its process after that time.

        The time counts from when the process is free, and includes its start if it is new.
        Raises `OverdueError` if the task is not done by then.
        """
        return self._run(seconds, task, args, kwargs)

    def _run(self, seconds: float | None, task: Callable[..., T], args: Any, kwargs: Any) -> T:
        replacement = self._free.get()
        try:
            replacement = pool = replacement or self._start()
            with _sigint_blocked():
                future: Future[tuple[T, int]] = pool.submit(_guarded, task, args, kwargs)
            result, kept = future.result(seconds)
            if kept > MOST_KEPT:
                _end(pool)
                replacement = None
            return result
        except PublisherError:
            raise
        except TimeoutError as error:  # its own, if it has one, comes back as a `WorkerError`
            _end(pool)
            replacement = None
            raise OverdueError(
                f"{task.__name__}: was not done after {seconds:g} s and was ended; run the same"
                " command again"
            ) from error
        except BrokenProcessPool as error:
            replacement = None
            raise WorkerError(
                f"{task.__name__}: the process was killed; usually memory ran out: close other"
                " programs, give --jobs 1 or take a machine with more, then run the same"
                " command again"
            ) from error
        except Exception as error:  # what was sent or came back cannot travel
            raise _unforeseen(task, error) from error
        finally:
            self._free.put(replacement)

    def close(self) -> None:
        """End all processes; work that still runs is given up, and no more is taken."""
        with self._starting:
            self._closed = True
        for pool in self._started:
            _end(pool)
        if self._scratch is not None:
            self._scratch.cleanup()

    def _start(self) -> ProcessPoolExecutor:
        with self._starting:
            if self._closed:
                raise WorkerError("the run was given up; run the same command again")
            if self._scratch is None:
                self._scratch = tempfile.TemporaryDirectory(
                    prefix="publisher-work-", ignore_cleanup_errors=True
                )
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(
                1,
                mp_context=context,
                initializer=_prepare,
                initargs=(self._scratch.name, self._threads),
            )
            self._started.append(pool)
            return pool


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()  # what runs there may hold back anything milder
    pool.shutdown(wait=True, cancel_futures=True)


def run_alone(task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `task` in a process of its own, as `Workers.run` does."""
    workers = Workers(1)
    try:
        return workers.run(task, *args, **kwargs)
    finally:
        workers.close()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Let a process that is started here never see Ctrl-C: its parent does, and ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _guarded(task: Callable[P, T], args: Any, kwargs: Any) -> tuple[T, int]:
    """Run in the worker: let nothing but a `PublisherError` travel back, others may not.

    Returns what the task did, and how many bytes the process holds then.
    """
    try:
        return task(*args, **kwargs), memory.resident_bytes()
    except PublisherError:
        raise
    except OSError as error:
        raise WorkerError(
            f"{task.__name__}: {error.filename or 'the disk'}: {error.strerror or error};"
            " free space or correct the rights, and run the same command again"
        ) from error
    except BaseException as error:
        raise _unforeseen(task, error) from error


def _unforeseen(task: Callable[..., Any], error: BaseException) -> WorkerError:
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return WorkerError(
        f"{task.__name__}: {said}; run again with --debug to see where, and report it"
    )


def _prepare(scratch: str, threads: int) -> None:
    # TensorFlow leaves files behind when its process is ended; what is left here is removed.
    tempfile.tempdir = scratch
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    # TensorFlow greets on stderr, which belongs to the progress display. Its native
    # messages carry no level that could be set before the import; only errors count here.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # figures must not depend on a GPU being there
    # Its own allocator never gives anything back, and this process is to live on.
    os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"] = "1"
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    memory.return_large_blocks_early()
    # Threads of NumPy's matrix products that wait for the next one keep a core busy, which
    # another process could use. What is not loaded yet cannot be limited.
    import numpy  # noqa: F401

    threadpool_limits(threads, user_api="blas")


def _end_with_the_parent() -> None:
    # Else a parent that was killed would leave its workers behind for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _import_tensorflow() -> None:
    with collector_paused():
        import tensorflow_hub  # noqa: F401  it imports TensorFlow


@contextmanager
def _without_keras() -> Iterator[None]:
    """Let an import of TensorFlow go on without Keras and what only Keras needs.

    TensorFlow takes what it can get. Whoever asks for Keras afterwards imports it then.
    """
    absent = [name for name in _FOR_KERAS if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # so that an import of it fails
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def convert(
    weights: Path | None,
    architecture: Architecture,
    *,
    classes: int,
    head: str,
    output: str,
    input_range: tuple[float, float],
    assets: list[Path],
    directory: Path,
    folded: bool = False,
) -> None:
    """Worker task: write the SavedModel of one variant to `directory`.

    Without a file of weights, they are synthetic.
    """
    from publisher.formats.saved_model.export import export
    from publisher.weights import open_npz, synthetic_array

    shapes = architecture.arrays(classes)
    kept = list(shapes) if head == "classifier" else architecture.backbone(shapes)
    arrays: Mapping[str, Any]
    with ThreadPoolExecutor(1) as beside:
        # Opening a file compares the checksums of all that is in it.
        opened = beside.submit(open_npz, weights) if weights else None
        with collector_paused(), _without_keras():
            import tensorflow  # noqa: F401  what is exported will need it
    if opened is None:
        arrays = {name: synthetic_array(name, shapes[name]) for name in kept}
    else:
        arrays = opened.result().streamed(kept)
    with collector_paused():
        export(
            architecture,
            arrays,
            output=output,
            input_range=input_range,
            assets=assets,
            directory=directory,
            folded=folded,
        )


def expect(
    weights: Path,
    architecture: Architecture,
    *,
    input_range: tuple[float, float],
    resolutions: tuple[int, ...],
    target: Path,
) -> None:
    """Worker task: write the float64 features of a checkpoint to `target`."""
    from publisher.validation.expected import expected_features, save_features
    from publisher.weights import open_npz

    arrays = open_npz(weights)
    features = expected_features(architecture, arrays.streamed(arrays), input_range, resolutions)
    save_features(target, features)


def validate(request: Request, weights: Path) -> "tuple[Report, str]":
    """Worker task: run the checks and return the report, and the complaint if any."""
    from publisher.validation.validate import validate as run_checks
    from publisher.weights import open_npz

    report = run_checks(request, open_npz(weights))
    return report.document(), report.failure_summary()


def try_snippet(snippet: "Snippet", archives: Mapping[str, Path]) -> "Fault | None":
    """Worker task: run one block of Python as a reader of its page does."""
    from publisher.validation.snippets import run_snippet

    return run_snippet(snippet, archives)

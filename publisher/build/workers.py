"""Worker processes that import TensorFlow once and then run one task after another.

The command line never pays for the import, a crash or a lack of memory fails one task instead of
the run, and several tasks can run in parallel.
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

if TYPE_CHECKING:  # a process that only converts should not import what renders pages
    from publisher.documents.report import Report
    from publisher.pages.snippets import Snippet, SnippetProblem

# Bytes that a process may hold after a task. Memory that libraries keep adds to the need of the
# next task, so a process that holds more is replaced.
MOST_KEPT = 750_000_000

P = ParamSpec("P")
T = TypeVar("T")


# The modules by which TensorFlow imports Keras 2 or 3, and the optional ones of the older Keras
# inside TensorFlow. Nothing here uses any of them.
_FOR_KERAS = (
    "tf_keras.src.optimizers",
    "keras.src.optimizers",
    "h5py",
    "scipy",
)


class WorkerError(PublisherError):
    """A worker process died or raised an unexpected exception."""


class OverdueError(WorkerError):
    """A task exceeded its timeout."""


class Workers:
    """A pool of `count` processes; each runs one task at a time."""

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
        """Start `count` processes now, and import TensorFlow in them."""
        for _ in range(count):
            pool = self._free.get()
            if pool is None:
                pool = self._start()
                with _sigint_blocked():
                    pool.submit(_import_tensorflow)
            self._free.put(pool)

    def run(self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `task` in the next free process and return its result.

        Raises the task's `PublisherError`. Raises `WorkerError` for any other exception of the
        task, and if the process was killed, usually because memory ran out.
        """
        return self._run(None, task, args, kwargs)

    def run_within(
        self, seconds: float, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `task` as `run` does, with a timeout after which its process is killed.

        The time includes the start of a new process, but no wait for a free one. Raises
        `OverdueError` after the timeout.
        """
        return self._run(seconds, task, args, kwargs)

    def _run(self, seconds: float | None, task: Callable[..., T], args: Any, kwargs: Any) -> T:
        replacement = self._free.get()
        try:
            replacement = pool = replacement or self._start()
            with _sigint_blocked():
                future: Future[tuple[T, int]] = pool.submit(_run_in_worker, task, args, kwargs)
            result, kept = future.result(seconds)
            if kept > MOST_KEPT:
                _end(pool)
                replacement = None
            return result
        except PublisherError:
            raise
        except TimeoutError as error:  # the task's own would be a `WorkerError`
            _end(pool)
            replacement = None
            raise OverdueError(
                f"{task.__name__}: was not done after {seconds:g} s and was killed; run the same"
                " command again"
            ) from error
        except BrokenProcessPool as error:
            replacement = None
            raise WorkerError(
                f"{task.__name__}: the process was killed; usually memory ran out: close other"
                " programs, give --jobs 1 or use a machine with more, then run the same"
                " command again"
            ) from error
        except Exception as error:  # arguments or result cannot be pickled
            raise _unforeseen(task, error) from error
        finally:
            self._free.put(replacement)

    def close(self) -> None:
        """Kill all processes, abandoning the tasks that still run; refuse new ones."""
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
        process.kill()  # native code may ignore a milder signal
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
    """Block SIGINT in processes that start here; their parent handles Ctrl-C and kills them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_in_worker(task: Callable[P, T], args: Any, kwargs: Any) -> tuple[T, int]:
    """Run a task in the worker; return its result, and the bytes that the process then holds.

    Raises only `PublisherError`, because other exceptions may not survive pickling.
    """
    try:
        return task(*args, **kwargs), memory.resident_bytes()
    except PublisherError:
        raise
    except OSError as error:
        raise WorkerError(
            f"{task.__name__}: {error.filename or 'the disk'}: {error.strerror or error};"
            " free space or correct the permissions, and run the same command again"
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
    # TensorFlow leaves temporary files when its process is killed; `close` removes this folder.
    tempfile.tempdir = scratch
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    # TensorFlow prints messages on stderr, which belongs to the progress display. Some have no
    # level that could be set before the import, so stderr is discarded as well.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # figures must not depend on a GPU
    # TensorFlow's own allocator never returns memory, and this process lives on.
    os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"] = "1"
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    memory.return_large_blocks_early()
    # Idle threads of NumPy's matrix products spin on cores that other processes could use. Only a
    # loaded library can be limited.
    import numpy  # noqa: F401

    threadpool_limits(threads, user_api="blas")


def _end_with_the_parent() -> None:
    # The workers of a killed parent would otherwise live forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _import_tensorflow() -> None:
    with collector_paused():
        import tensorflow_hub  # noqa: F401  it imports TensorFlow


@contextmanager
def _without_keras() -> Iterator[None]:
    """Let TensorFlow import without Keras and its dependencies, which are optional.

    Keras can still be imported afterwards.
    """
    absent = [name for name in _FOR_KERAS if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # makes its import fail
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

    Without a file, the weights are synthetic.
    """
    from publisher.formats.saved_model.export import export
    from publisher.weights import open_npz, synthetic_array

    shapes = architecture.arrays(classes)
    kept = list(shapes) if head == "classifier" else architecture.backbone(shapes)
    arrays: Mapping[str, Any]
    with ThreadPoolExecutor(1) as beside:
        # Opening a file verifies the checksums of its members, which takes time.
        opened = beside.submit(open_npz, weights) if weights else None
        with collector_paused(), _without_keras():
            import tensorflow  # noqa: F401  the export needs it
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
    """Worker task: run the checks; return the report and a summary of failures, if any."""
    from publisher.validation.validate import validate as run_checks
    from publisher.weights import open_npz

    report = run_checks(request, open_npz(weights))
    return report.document(), report.failure_summary()


def try_snippet(snippet: "Snippet", archives: Mapping[str, Path]) -> "SnippetProblem | None":
    """Worker task: run one block of Python as a reader of its page does."""
    from publisher.validation.snippets import run_snippet

    return run_snippet(snippet, archives)

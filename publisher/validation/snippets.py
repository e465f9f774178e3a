"""Runs a block of Python from a page as its reader would: alone, with the archives it names.

Every block runs in the same worker process, which saves three seconds or more for the import
of TensorFlow. The process first restores what a new one would see: the choice of Keras, the
names of layers, the environment, the arguments and the current folder. Afterwards it undoes
these changes.
"""

import gc
import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import walk_tb
from types import ModuleType

import tensorflow as tf
import tensorflow_hub  # noqa: F401  imported now, it takes the Keras that this program selects
from tensorflow.python.util.lazy_loader import KerasLazyLoader

from publisher.pages.snippets import Snippet, SnippetProblem, addresses, replaced, syntax_problem
from publisher.util import memory
from publisher.validation.client import hub_cache, served

LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
# Attributes of `tensorflow` that resolve to Keras at their first use.
_KERAS_ATTRIBUTES = ("keras", "losses", "metrics", "optimizers", "initializers")


def run_snippet(snippet: Snippet, archives: Mapping[str, Path]) -> SnippetProblem | None:
    """Run a block; return its fault, or `None` if it succeeds.

    `archives` maps each address that the block may name to an archive, served on loopback in
    place of that address. A block that does not compile or names another address is not run.
    """
    if fault := syntax_problem(snippet):
        return fault
    for line, address in addresses(snippet):
        if address not in archives:
            allowed = ", ".join(archives) or "none"
            return SnippetProblem(
                line,
                f"this Python names {address}, which is not where this page's model is; allowed:"
                f" {allowed}; correct the template",
            )
    keys = {f"archive/{number}": address for number, address in enumerate(archives)}
    with (
        TemporaryDirectory() as scratch,
        hub_cache(Path(scratch) / "hub-cache"),
        served({key: archives[address] for key, address in keys.items()}) as there,
    ):
        loopback = {keys[key]: address for key, address in there.items()}
        program = Path(scratch) / "program" / "snippet.py"
        program.parent.mkdir()
        program.write_bytes(replaced(snippet.code, loopback).encode())
        with _like_a_new_process(), chdir(program.parent):
            failure = _failure(program)
    gc.collect()
    memory.trim_heap()
    if failure is None:
        return None
    line, message = failure
    message = replaced(message, {local: address for address, local in loopback.items()})
    return SnippetProblem(
        snippet.line + line, f"this Python fails: {message}; correct the template"
    )


def _failure(program: Path) -> tuple[int, str] | None:
    """Run a program; return the failing line (0 if unknown) and the error, or `None`."""
    try:
        runpy.run_path(str(program), run_name="__main__")
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            return None
        # The last of these is the innermost line of the program; frames of libraries follow it.
        own = [
            number
            for frame, number in walk_tb(error.__traceback__)
            if frame.f_code.co_filename == str(program)
        ]
        lines = str(error).strip().splitlines()
        message = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return (own or [0])[-1], message
    return None


@contextmanager
def _like_a_new_process() -> Iterator[None]:
    environment, arguments = dict(os.environ), sys.argv
    os.environ.pop(LEGACY_KERAS, None)
    sys.argv = arguments[:1]
    try:
        with _unresolved_keras(), _silent_stdout():
            yield
    finally:
        sys.argv = arguments
        for name in set(os.environ) | set(environment):
            if name not in environment:
                del os.environ[name]
            elif os.environ.get(name) != environment[name]:
                os.environ[name] = environment[name]


@contextmanager
def _unresolved_keras() -> Iterator[None]:
    """Make TensorFlow and the client select Keras again, from the environment of the block.

    A new process selects Keras 3, but `hub.KerasLayer` needs Keras 2. A block that does not ask
    for Keras 2 in time fails for its reader, so it must fail here too. One difference remains:
    a block that imports a submodule of `tensorflow.keras` by name gets that of Keras 2.
    """
    resolved = {name: getattr(tf, name) for name in _KERAS_ATTRIBUTES}
    client = _modules("tensorflow_hub")
    for name in client:
        del sys.modules[name]
    for name in _KERAS_ATTRIBUTES:
        submodule = None if name == "keras" else name
        setattr(tf, name, KerasLazyLoader(vars(tf), submodule=submodule, name=name))
    try:
        yield
    finally:
        for name in _modules("tensorflow_hub"):
            del sys.modules[name]
        sys.modules.update(client)
        for name, module in resolved.items():
            setattr(tf, name, module)
        # Keras numbers layers by name and keeps the counts.
        for name in ("keras", "tf_keras"):
            if name in sys.modules:
                sys.modules[name].backend.clear_session()


def _modules(package: str) -> dict[str, ModuleType]:
    return {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] == package
    }


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Discard what Python and native code print: standard output belongs to `--json`."""
    original = os.dup(1)
    try:
        with Path(os.devnull).open("w") as null, redirect_stdout(null):
            os.dup2(null.fileno(), 1)
            yield
    finally:
        os.dup2(original, 1)
        os.close(original)

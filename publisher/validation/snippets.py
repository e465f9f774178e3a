"""Runs one block of Python as a reader of its page does: alone, from the archives it names.

It runs in a process that has imported TensorFlow before, which saves a reader's three or more
seconds for each block. What a new process would see otherwise (which Keras TensorFlow takes,
the names of layers, the environment, the arguments, the current folder) is made so, and put
back afterwards.
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
import tensorflow_hub  # noqa: F401  with the Keras that this program asks for
from tensorflow.python.util.lazy_loader import KerasLazyLoader

from publisher.pages.snippets import Fault, Snippet, addresses, replaced, syntax_fault
from publisher.util import memory
from publisher.validation.client import hub_cache, served

LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
# What `tensorflow` takes from the Keras that it finds at the first use.
_OF_KERAS = ("keras", "losses", "metrics", "optimizers", "initializers")


def run_snippet(snippet: Snippet, archives: Mapping[str, Path]) -> Fault | None:
    """Run a block and return what is wrong with it, if anything is.

    `archives` are the addresses that it may name, and what the client gets from there; they
    are served on loopback. A block that does not compile, or that names another address, is
    not run.
    """
    if fault := syntax_fault(snippet):
        return fault
    for line, address in addresses(snippet):
        if address not in archives:
            allowed = ", ".join(archives) or "none"
            return Fault(
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
        places = {keys[key]: place for key, place in there.items()}
        program = Path(scratch) / "program" / "snippet.py"
        program.parent.mkdir()
        program.write_bytes(replaced(snippet.code, places).encode())
        with _like_a_new_process(), chdir(program.parent):
            found = _failure(program)
    gc.collect()
    memory.give_back()
    if found is None:
        return None
    line, said = found
    said = replaced(said, {place: address for address, place in places.items()})
    return Fault(snippet.line + line, f"this Python fails: {said}; correct the template")


def _failure(program: Path) -> tuple[int, str] | None:
    """Run a program; return the line that it failed on (0 if unknown) and with what, if so."""
    try:
        runpy.run_path(str(program), run_name="__main__")
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            return None
        # Innermost last; frames of the libraries that it calls come after its own.
        own = [
            number
            for frame, number in walk_tb(error.__traceback__)
            if frame.f_code.co_filename == str(program)
        ]
        lines = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return (own or [0])[-1], said
    return None


@contextmanager
def _like_a_new_process() -> Iterator[None]:
    environment, arguments = dict(os.environ), sys.argv
    os.environ.pop(LEGACY_KERAS, None)
    sys.argv = arguments[:1]
    try:
        with _another_keras(), _nothing_on_stdout():
            yield
    finally:
        sys.argv = arguments
        for name in set(os.environ) | set(environment):
            if name not in environment:
                del os.environ[name]
            elif os.environ.get(name) != environment[name]:
                os.environ[name] = environment[name]


@contextmanager
def _another_keras() -> Iterator[None]:
    """Let TensorFlow and the client choose Keras anew inside, by the environment there.

    `hub.KerasLayer` needs Keras 2, and a new process takes Keras 3: whether a block asks for
    the right one before it is too late is part of whether it runs. Modules below
    `tensorflow.keras` that a block imports by that name stay those of Keras 2.
    """
    chosen = {name: getattr(tf, name) for name in _OF_KERAS}
    client = _modules("tensorflow_hub")
    for name in client:
        del sys.modules[name]
    for name in _OF_KERAS:
        part = None if name == "keras" else name
        setattr(tf, name, KerasLazyLoader(vars(tf), submodule=part, name=name))
    try:
        yield
    finally:
        for name in _modules("tensorflow_hub"):
            del sys.modules[name]
        sys.modules.update(client)
        for name, module in chosen.items():
            setattr(tf, name, module)
        # Layers are named by counting, and what was made is kept to count it.
        for name in ("keras", "tf_keras"):
            if name in sys.modules:
                sys.modules[name].backend.clear_session()


def _modules(package: str) -> dict[str, ModuleType]:
    return {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] == package
    }


@contextmanager
def _nothing_on_stdout() -> Iterator[None]:
    """Keep standard output, which belongs to `--json`, from Python and from native code."""
    own = os.dup(1)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(own, 1)
        os.close(own)

"""What every worker of pytest-xdist needs, made by the first that asks and read by the others."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

T = TypeVar("T")


def folder_of_all(factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the workers of this session share what they make."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker has a folder of its own in it
    folder = base / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> tuple[Path, T]:
    """Return a folder and what `make` returned when it filled that folder.

    `make` runs once a session, whatever the number of workers, and what it returns is pickled
    for the others. If it raises, the next worker that asks tries again. Nobody may change the
    folder afterwards.
    """
    folder = folder_of_all(factory) / name
    result = folder.with_name(f"{name}.pickle")
    with FileLock(folder.with_name(f"{name}.lock")):
        if not result.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            result.write_bytes(pickle.dumps(make(folder)))
    return folder, pickle.loads(result.read_bytes())  # noqa: S301  our own bytes

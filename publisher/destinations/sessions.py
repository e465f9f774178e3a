"""Stores unfinished upload sessions for the next run."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from publisher.destinations.base import DestinationError

LARGEST = 1 << 20  # bytes

M = TypeVar("M", bound=BaseModel)


class Sessions(Generic[M]):
    """Upload sessions by name, one file each.

    A session's address can grant write access, so only the owner can read the folder. `put`
    and `remove` raise `DestinationError` for file system errors.
    """

    def __init__(self, folder: Path, kind: type[M]) -> None:
        self._folder = folder
        self._kind = kind

    def get(self, name: str) -> M | None:
        """Return the stored session, or `None` if there is no readable one."""
        try:
            with self._path(name).open("rb") as file:
                return self._kind.model_validate_json(file.read(LARGEST))
        except (OSError, ValidationError):
            return None

    def put(self, name: str, session: M) -> None:
        """Store a session atomically."""
        with file_errors(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".session-", dir=self._folder)  # mode 0600
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(session.model_dump_json())
            Path(temporary).replace(self._path(name))

    def remove(self, name: str) -> None:
        """Forget a session."""
        with file_errors(self._folder):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '_')}.json"


@contextmanager
def file_errors(folder: Path) -> Iterator[None]:
    """Raise file system errors as `DestinationError`."""
    try:
        yield
    except OSError as error:
        raise DestinationError(
            f"{error.filename or folder}: {error.strerror or error}; check free space and"
            " permissions, and run again"
        ) from error

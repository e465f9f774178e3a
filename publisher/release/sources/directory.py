"""A release in a directory of this machine."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from publisher.release.errors import ReleaseError
from publisher.release.sources.base import LARGEST

# Publishing writes these last, so what they list is complete when they change.
_LAST = ("index.json", "SHA256SUMS", "index.sig")


class DirectorySource:
    """A release directory. No link in it is followed, because it could lead anywhere."""

    def __init__(self, root: Path) -> None:
        self._root = root
        if not root.is_dir():
            what = "is not a directory" if root.exists() else "there is no such directory"
            raise ReleaseError(
                f"{root}: {what}; give one that `publisher publish` wrote, or publish one first"
            )

    @property
    def name(self) -> str:
        """The directory's path."""
        return str(self._root)

    def stamp(self) -> object:
        """Return times, sizes and inodes of the files that publishing writes last."""
        stamps: list[tuple[int, int, int] | None] = []
        for name in _LAST:
            try:
                found = (self._root / name).lstat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return stamps

    def read(self, path: str) -> bytes:
        """Return a small file. Raises `ReleaseError`."""
        with self._open(path) as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ReleaseError(
                f"{self._root / path}: is larger than {LARGEST >> 20} MiB; restore it"
            )
        return content

    def size(self, path: str) -> int:
        """Return the size of a file. Raises `ReleaseError`."""
        with self._open(path) as file:
            return os.fstat(file.fileno()).st_size

    def open(self, path: str, size: int) -> BinaryIO:
        """Open a file for reading. Raises `ReleaseError` if it has another size."""
        file = self._open(path)
        there = os.fstat(file.fileno()).st_size
        if there != size:
            file.close()
            raise ReleaseError(
                f"{self._root / path}: has {there:,} bytes where the index states {size:,};"
                " restore it from a copy"
            )
        return file

    def _open(self, path: str) -> BinaryIO:
        place = self._root
        try:
            for name in path.split("/"):
                place /= name
                if place.is_symlink():
                    raise ReleaseError(
                        f"{place}: is a link, and a release holds files and folders only; put what"
                        " it leads to in its place"
                    )
            # Opening a named pipe would block.
            handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise ReleaseError(
                f"{place}: {error.strerror or error}; publish again, or restore it from a copy"
            ) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise ReleaseError(f"{place}: is not a file; put the release's own file in its place")
        return os.fdopen(handle, "rb", buffering=0)

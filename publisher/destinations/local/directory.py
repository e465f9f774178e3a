"""A release as a directory on this machine.

New content is written to a folder `.publisher-*` of the release and then renamed, so a file
is complete once it has its final name. The release holds plain files and folders only; a link
could lead anywhere, so none is followed.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from publisher.destinations.base import (
    ConflictError,
    DestinationError,
    NamedDestination,
    Style,
    checked_path,
)
from publisher.documents.errors import DocumentError
from publisher.documents.manifest import MANIFEST, Manifest, read_manifest
from publisher.registry.models import Target
from publisher.util.files import write_whole

_TEMPORARY = ".publisher-"


class Directory:
    """A release directory, which need not exist yet.

    Every method raises `DestinationError` for a file system error, a link, or a path that
    leads out of the release.
    """

    local = True
    style: Style = "tfhub"
    holds_versions = True
    holds_index = True
    shares_page = False
    seals_versions = False

    def __init__(self, root: Path) -> None:
        self._root = root
        with self._file_errors():
            if os.path.lexists(root) and not root.is_dir():
                raise DestinationError(
                    f"{root}: is not a directory; choose another release directory"
                )

    @property
    def name(self) -> str:
        """The directory's path."""
        return str(self._root)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory for this process, and delete what a killed run left.

        Raises `DestinationError` if another publisher holds the lock, or the directory is
        not writable.
        """
        with self._file_errors():
            self._make_folder(self._root)
            # Checked here, before the first variant is built.
            if not os.access(self._root, os.W_OK | os.X_OK):
                raise DestinationError(
                    f"{self._root}: cannot be written; check its permissions, or choose another"
                    " release directory"
                )
            lock = FileLock(self._lock, timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise DestinationError(
                    f"{self._root}: another publisher is writing here; wait for it and run again"
                ) from error
        try:
            with self._file_errors():
                for leftover in self._root.glob(f"{_TEMPORARY}*"):
                    if leftover.is_dir() and not leftover.is_symlink():
                        shutil.rmtree(leftover)
                    else:
                        leftover.unlink()
            yield
        finally:
            lock.release()

    def check(self) -> None:
        """Verify that the directory and its lock are writable, or can be created."""
        with self._file_errors():
            there = next(path for path in (self._root, *self._root.parents) if path.exists())
            needed = [there]
            if there == self._root:
                needed.append(self._lock if self._lock.exists() else self._lock.parent)
            for path in needed:
                if not os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0)):
                    raise DestinationError(
                        f"{path}: cannot be written; check its permissions, or choose another"
                        " release directory"
                    )
            if not there.is_dir():
                raise DestinationError(
                    f"{there}: is not a directory; choose another release directory"
                )

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every version, by handle.

        Raises `DestinationError` if a manifest is missing or invalid, or the archive does not
        have the size that it states. Digests are left to `sha256sum --check`.
        """
        found = {}
        with self._file_errors():
            for folder in sorted(self._root.glob("models/*/*/*")):
                handle = folder.relative_to(self._root / "models").as_posix()
                if not folder.is_dir() or any(part.startswith(".") for part in handle.split("/")):
                    continue
                found[handle] = self._manifest(folder, handle)
        return found

    def read(self, path: str) -> bytes | None:
        """Return the content of the file at `path`, or `None` if it does not exist."""
        with self._file_errors():
            place = self._path(path)
            return place.read_bytes() if place.is_file() else None

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Create `models/<handle>/` with `files` atomically.

        A file given as a path is hard-linked if the file system allows it, and copied
        otherwise; afterwards it must only be replaced, never changed in place. Raises
        `ConflictError` if the version exists.
        """
        with self._file_errors():
            folder = self._path(f"models/{handle}")
            if folder.exists():
                raise ConflictError(f"{folder}: exists; a published version never changes")
            with self._temporary_folder() as parent:
                temporary = parent / folder.name
                self._make_folder(temporary)
                for name, source in files.items():
                    if isinstance(source, bytes):
                        write_whole(temporary / name, source)
                    else:
                        _link_or_copy(source, temporary / name)
                _sync(temporary)
                self._move(temporary, folder)

    def write(self, path: str, content: bytes) -> None:
        """Replace the file at `path` atomically unless it has this content."""
        if self.read(path) == content:
            return
        with self._file_errors():
            place = self._path(path)
            with self._temporary_folder() as parent:
                temporary = parent / place.name
                write_whole(temporary, content)
                self._move(temporary, place)

    @property
    def _lock(self) -> Path:
        """The lock file, beside the directory: everything inside is part of the release."""
        real = self._root.resolve()
        return real.parent / f".{real.name}.lock"

    def _manifest(self, folder: Path, handle: str) -> Manifest:
        content = self.read(f"models/{handle}/{MANIFEST}")
        try:
            if content is None:
                raise DocumentError("it has no manifest.json")
            manifest = read_manifest(content)
            archive = self._path(f"models/{handle}/{manifest.archive.file}")
            size = archive.stat().st_size if archive.is_file() else None
            stated = manifest.archive.size
            if manifest.handle != handle:
                raise DocumentError(f"its manifest is that of {manifest.handle}")
            if size != stated:
                there = "is missing" if size is None else f"has {size:,} bytes"
                raise DocumentError(
                    f"the archive {there} where the manifest states {stated:,} bytes"
                )
        except DocumentError as error:
            raise DestinationError(
                f"{folder}: damaged: {error}; restore it from a copy, or remove this folder and"
                " publish again"
            ) from error
        return manifest

    def _path(self, path: str) -> Path:
        """Return the file system path of a path in the release. Raises for a link on the way."""
        place = self._root
        for name in checked_path(path).split("/"):
            place /= name
            if place.is_symlink():
                raise DestinationError(
                    f"{place}: is a link, and a release holds files and folders only; replace the"
                    " link by its target"
                )
        return place

    @contextmanager
    def _temporary_folder(self) -> Iterator[Path]:
        """Create a folder for this block, on the release's file system."""
        self._make_folder(self._root)
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self._root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _move(self, temporary: Path, place: Path) -> None:
        """Rename finished content to its final name, and sync."""
        self._make_folder(place.parent)
        temporary.replace(place)
        _sync(place.parent)

    def _make_folder(self, folder: Path) -> None:
        """Create a folder and its parents; those within the release are world-readable."""
        for path in reversed((folder, *folder.parents)):
            if path.exists():
                continue
            path.mkdir(exist_ok=True)
            if path.is_relative_to(self._root):
                path.chmod(0o755)
            _sync(path.parent)

    @contextmanager
    def _file_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename2 or error.filename or self._root
            raise DestinationError(
                f"{where}: {error.strerror or error}; check free space and permissions, or choose"
                " another release directory"
            ) from error


class NamedDirectory(NamedDestination):
    """A release directory that models.yaml names, relative to the current folder.

    The first write takes the lock and holds it for the lifetime of this object, so nobody else
    writes between two of its files. A file read before that must still be the same.
    """

    local = True
    holds_index = True

    def __init__(
        self, name: str, target: Target, environment: Mapping[str, str], folder: Path
    ) -> None:
        """Use the directory at `target.to`. `environment` and `folder` are unused."""
        super().__init__(name, target)
        self._directory = Directory(Path(target.to).absolute())
        self._holding = ExitStack()
        self._held = False
        weakref.finalize(self, self._holding.close)

    def check(self) -> None:
        """Verify that the directory is writable; see `Directory.check`."""
        self._directory.check()

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every version; see `Directory.manifests`."""
        return self._directory.manifests()

    def read(self, path: str) -> bytes | None:
        """Return the content of the file at `path`, or `None` if it does not exist."""
        self._last_read[path] = self._directory.read(path)
        return self._last_read[path]

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Create `models/<handle>/`; see `Directory.add_version`."""
        self._acquire_lock()
        self._directory.add_version(handle, files)

    def write(self, path: str, content: bytes) -> None:
        """Replace the file at `path` atomically unless it has this content.

        Raises `ConflictError` if the file has changed since `read` last returned it.
        """
        self._acquire_lock()
        now = self._directory.read(path)
        if now != content:
            self._require_unchanged(path, now)
        self._directory.write(path, content)
        self._last_read[path] = content

    def _acquire_lock(self) -> None:
        """Take the lock, once. Raises `DestinationError` if another publisher holds it."""
        if not self._held:
            self._holding.enter_context(self._directory.locked())
            self._held = True


def _link_or_copy(source: Path, target: Path) -> None:
    """Give `target` the content of `source`, world-readable and synced."""
    try:
        # Resolved: a hard link to a symbolic link would be a symbolic link.
        os.link(source.resolve(), target)
        target.chmod(0o644)
    except OSError:
        target.unlink(missing_ok=True)
        with source.open("rb") as reading, target.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1024 * 1024)
            os.fchmod(writing.fileno(), 0o644)
    _sync(target)


def _sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""SavedModel -> `model.tar.gz`, the same bytes for the same files.

Format: a gzip-compressed tar whose root is the SavedModel's root, which
`tensorflow_hub` reads as a stream (https://www.tensorflow.org/hub/model_formats).
"""

import hashlib
import io
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from isal import igzip_threaded

from publisher.errors import PublisherError

# float32 weights hardly compress; higher levels only take longer. At this level ISA-L also
# finds the same matches with whatever vector instructions a processor has (not so at 3).
COMPRESSION_LEVEL = 1
BLOCK = 1024 * 1024
# Fixed, like the size of a block: nothing of the machine may show in the bytes.
THREADS = 2
# USTAR writes a member's size as eleven octal digits: it must stay below 8 GiB. Larger ones
# need GNU's or pax's extensions, whose headers not every reader of a stream knows.
LARGEST_MEMBER = 8**11 - 1
# USTAR's field for a name without its prefix extension.
LONGEST_NAME = 100

# What a SavedModel is made of (https://www.tensorflow.org/guide/saved_model), and how its
# members are named in an archive (https://www.tensorflow.org/hub/model_formats).
_FILE = re.compile(
    r"saved_model\.pb|fingerprint\.pb|variables/variables\.(index|data-\d+-of-\d+)"
    r"|assets(\.extra)?(/\w[\w.-]*)+",
    re.ASCII,
)
_FOLDER = re.compile(r"variables|assets(\.extra)?(/\w[\w.-]*)*", re.ASCII)


class PackageError(PublisherError):
    """A SavedModel folder holds something that an archive must not have."""


@dataclass(frozen=True)
class Archive:
    """A written archive: sizes in bytes."""

    size: int
    sha256: str
    unpacked_size: int


def is_member(name: str, *, folder: bool) -> bool:
    """Whether an archive may hold a file, or a folder, of that name relative to its root."""
    return bool((_FOLDER if folder else _FILE).fullmatch(name))


def members(directory: Path) -> list[str]:
    """Return the files of a SavedModel, relative and sorted.

    Raises `PackageError` for links, special files, names that do not start with a word
    character, anything that is not part of a SavedModel (a stray `._saved_model.pb`), and
    files that the archive's format cannot hold.
    """
    found = []
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        name = relative.as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise PackageError(f"{path}: neither a file nor a folder; remove it and build again")
        named = is_member(name, folder=path.is_dir()) and len(name) <= LONGEST_NAME
        if not named and relative.parts[0] not in ("assets", "assets.extra"):
            raise PackageError(f"{path}: not part of a SavedModel; remove it and build again")
        if not named:
            raise PackageError(
                f"{path}: cannot be a name in an archive: up to {LONGEST_NAME} ASCII letters,"
                " digits, _ . and -, the first of them neither . nor -; rename the file it"
                " comes from and build again"
            )
        if path.is_file():
            size = path.stat().st_size
            if size > LARGEST_MEMBER:
                raise PackageError(
                    f"{path}: {size:,} bytes; a member of the archive (USTAR) has at most"
                    f" {LARGEST_MEMBER:,}; take an architecture with fewer parameters"
                )
            found.append(name)
    if "saved_model.pb" not in found:
        raise PackageError(f"{directory}: holds no saved_model.pb; build the variant again")
    return found


class _Hashed(io.RawIOBase):
    """Passes bytes on and hashes them, which saves reading the archive once more."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.sha256.update(data)
        self.size += len(data)
        return self._target.write(data)


def pack(directory: Path, target: Path) -> Archive:
    """Write the SavedModel in `directory` to `target` and return its digest.

    Owner, mode, time and order of the members are fixed, and the gzip header carries
    neither name nor time. `target` must not be visible to anyone else yet, and is not there
    after an error. It is not synced to disk: that is up to whoever publishes it.

    Raises `PackageError` for what `members` refuses, and for files that cannot be read or
    written.
    """
    names = members(directory)
    try:
        return _write(directory, names, target)
    except BaseException as error:
        # What lies there now may end like a whole archive: closing it has added the end.
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise PackageError(
                f"{directory}: cannot be packed into {target}: {error.strerror or error}; see to"
                " space and permissions, and run the same command again"
            ) from error
        raise


def _folders(names: list[str]) -> list[str]:
    """Return the folders that hold `names`, outer before inner.

    `tensorflow_hub` makes no folder that has not been a member of the archive before.
    """
    found = {parent.as_posix() for name in names for parent in PurePosixPath(name).parents}
    return sorted(found - {"."})


def _write(directory: Path, names: list[str], target: Path) -> Archive:
    unpacked = 0
    with target.open("wb") as file:
        hashed = _Hashed(file)
        with (
            igzip_threaded.open(  # type: ignore[no-untyped-call]
                hashed, "wb", compresslevel=COMPRESSION_LEVEL, threads=THREADS, block_size=BLOCK
            ) as compressed,
            tarfile.open(  # type: ignore[call-overload]  # typeshed has no copybufsize here
                fileobj=compressed,
                mode="w|",
                format=tarfile.USTAR_FORMAT,
                bufsize=BLOCK,
                copybufsize=BLOCK,  # of smaller pieces, the stream would move its buffer for each
            ) as tar,
        ):
            for folder in _folders(names):
                information = tarfile.TarInfo(folder)
                information.type = tarfile.DIRTYPE
                information.mode = 0o755
                tar.addfile(information)
            for name in names:
                with (directory / name).open("rb") as content:
                    information = tarfile.TarInfo(name)
                    information.size = os.fstat(content.fileno()).st_size
                    information.mode = 0o644
                    unpacked += information.size
                    tar.addfile(information, content)
    return Archive(hashed.size, hashed.sha256.hexdigest(), unpacked)

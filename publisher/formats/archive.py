"""Packs a SavedModel as `model.tar.gz`; the same files give the same bytes.

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

# float32 weights hardly compress, so higher levels only take longer. At level 1, unlike level 3,
# ISA-L also finds the same matches on every processor, whatever its vector instructions.
COMPRESSION_LEVEL = 1
BLOCK = 1024 * 1024
# Fixed, like the block size, because the bytes must not depend on the machine.
THREADS = 2
# USTAR writes a member's size as eleven octal digits, so it must stay below 8 GiB. Larger members
# need the GNU or pax extensions, which some readers of tar streams do not support.
LARGEST_MEMBER = 8**11 - 1
# The length of USTAR's name field, without the prefix field.
LONGEST_NAME = 100

# The types that USTAR itself defines: files, links, devices, folders and FIFOs (POSIX.1-1988).
_USTAR_TYPES = (b"\0", b"0", b"1", b"2", b"3", b"4", b"5", b"6")
_OCTAL_SIZE = re.compile(rb"[0-7]{11}[\0 ]")

# The files of a SavedModel (https://www.tensorflow.org/guide/saved_model), and their names in an
# archive (https://www.tensorflow.org/hub/model_formats).
_FILE = re.compile(
    r"saved_model\.pb|fingerprint\.pb|variables/variables\.(index|data-\d+-of-\d+)"
    r"|assets(\.extra)?(/\w[\w.-]*)+",
    re.ASCII,
)
_FOLDER = re.compile(r"variables|assets(\.extra)?(/\w[\w.-]*)*", re.ASCII)


class PackageError(PublisherError):
    """A SavedModel cannot be packed."""


@dataclass(frozen=True)
class Archive:
    """The digest of a written archive; sizes in bytes."""

    size: int
    sha256: str
    unpacked_size: int


class Header(tarfile.TarInfo):
    """A header as `pack` writes it: USTAR, and no extension of it (`tarfile.open(tarinfo=...)`).

    Extensions (pax, GNU) can name other members, sizes and holes than the header before them. They
    can also be larger than memory, and readers of tar differ in which they obey.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
        """Parse a header's 512 bytes. Raises `tarfile.ReadError` if it is not plain USTAR."""
        kind, size, magic = buf[156:157], buf[124:136], buf[257:265]
        if any(buf):  # else it ends the archive
            if magic != b"ustar\x0000" or kind not in _USTAR_TYPES:
                raise tarfile.ReadError(
                    "a header is not plain USTAR, but pax, GNU or another format"
                )
            if not _OCTAL_SIZE.fullmatch(size):
                raise tarfile.ReadError("the size in a header is not octal digits")
        return super().frombuf(buf, encoding, errors)


def is_member(name: str, *, folder: bool) -> bool:
    """Return whether an archive may contain a file (or a folder) of that relative name."""
    return bool((_FOLDER if folder else _FILE).fullmatch(name))


def members(directory: Path) -> list[str]:
    """Return the names of a SavedModel's files, relative to `directory` and sorted.

    Raises `PackageError` for a link, a special file, a name that does not start with a word
    character, a file that is not part of a SavedModel (such as `._saved_model.pb`), or a file
    that USTAR cannot hold.
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
                f"{path}: is not a valid name in an archive: up to {LONGEST_NAME} ASCII letters,"
                " digits, _ . and -, each part starting with neither . nor -; rename the source"
                " file and build again"
            )
        if path.is_file():
            size = path.stat().st_size
            if size > LARGEST_MEMBER:
                raise PackageError(
                    f"{path}: {size:,} bytes; a member of an archive (USTAR) may have at most"
                    f" {LARGEST_MEMBER:,}; choose an architecture with fewer parameters"
                )
            found.append(name)
    if "saved_model.pb" not in found:
        raise PackageError(f"{directory}: contains no saved_model.pb; build the variant again")
    return found


class _Hashed(io.RawIOBase):
    """A writable stream that hashes what it writes, so that nothing reads the archive again."""

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
    """Pack the SavedModel in `directory` as `target`; return the archive's digest.

    Fixes the owner, mode, time and order of the members, and writes neither a name nor a time
    into the gzip header. Writes `target` in place, so pass a temporary name; removes it after an
    error. Does not sync it to disk; publishing does.

    Raises `PackageError` for anything that `members` refuses, and for a file that cannot be read
    or written.
    """
    names = members(directory)
    try:
        return _write(directory, names, target)
    except BaseException as error:
        # Closing the streams wrote their trailers, so the partial archive may look complete.
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise PackageError(
                f"{directory}: cannot be packed into {target}: {error.strerror or error}; check"
                " the disk space and permissions, and run the same command again"
            ) from error
        raise


def _folders(names: list[str]) -> list[str]:
    """Return the folders that hold `names`, outer before inner.

    `tensorflow_hub` creates only folders that are members, so each must precede its files.
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
                copybufsize=BLOCK,  # the stream would move its buffer for each smaller piece
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

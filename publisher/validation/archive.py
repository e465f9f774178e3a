"""Decides whether an archive is safe to unpack. Imports no TensorFlow."""

import io
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from isal import igzip_lib

from publisher.formats.archive import Header, is_member
from publisher.validation.report import Check

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

REQUIRED = ("saved_model.pb", "variables/variables.index")
BLOCK = 128 * 1024  # bytes; small enough to stay in the processor's cache
GZIP = b"\x1f\x8b"
# Unpacked bytes. Weights hardly compress, unless they are as regular as new ones are.
LARGEST_RATIO = 16
ALWAYS_ALLOWED = 2 << 30


def archive_is_a_plain_saved_model(archive: Path) -> Check:
    """Check that the archive holds a SavedModel and nothing else. Unpacks nothing.

    Reads the archive as a stream, as `tensorflow_hub` does. The file must be one undamaged
    gzip stream. No data may follow the gzip stream or the tar inside it: the client stops
    reading there, so it would miss such data.

    Every member must be a file or folder of a SavedModel and may occur only once. Its name
    must be relative and without `..`, and each part must start with a word character (which
    rules out `._` files). Its folder must precede it, because the client creates only folders
    that are members.
    """
    name = "archive_is_a_plain_saved_model"
    seen: set[str] = set()
    findings: list[str] = []
    unpacked = 0
    try:
        with (
            archive.open("rb") as file,
            tarfile.open(
                fileobj=_Inflated(file, ALWAYS_ALLOWED + LARGEST_RATIO * archive.stat().st_size),
                mode="r|",
                bufsize=BLOCK,
                tarinfo=Header,
            ) as tar,
        ):
            for member in tar:
                problem = _problem(member, seen)
                if problem:
                    findings.append(f"{member.name!r} {problem}")
                seen.add(member.name)
                unpacked += member.size
            _read_to_the_end(tar)
    except (tarfile.TarError, OSError) as error:
        return Check(name, "failed", f"cannot be read as a compressed tar: {error}")
    findings += [f"{required!r} is missing" for required in REQUIRED if required not in seen]
    figures = {
        "members": len(seen),
        "bytes": archive.stat().st_size,
        "unpacked_bytes": unpacked,
        "findings": len(findings),
    }
    if findings:
        more = f", and {len(findings) - 5} more" if len(findings) > 5 else ""
        return Check(name, "failed", f"{', '.join(findings[:5])}{more}", figures)
    return Check(
        name,
        "passed",
        f"{len(seen)} members, {figures['bytes']:,} bytes, {unpacked:,} unpacked",
        figures,
    )


class _Inflated(io.RawIOBase):
    """A readable stream that inflates a gzip file once, from beginning to end.

    ISA-L inflates faster than zlib and, unlike `tarfile`, verifies the checksum.
    """

    def __init__(self, file: IO[bytes], largest: int) -> None:
        self._file = file
        self._left = largest
        self._begun = False
        self._inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill part of the buffer and return the number of bytes; 0 at the end.

        Raises `ReadError` if the stream is damaged or truncated, if it inflates to more than
        `largest` bytes, or if data follows it.
        """
        view = memoryview(buffer)
        while not self._inflater.eof:
            packed = self._file.read(BLOCK) if self._inflater.needs_input else b""
            if self._inflater.needs_input and not packed:
                raise tarfile.ReadError("the gzip stream breaks off")
            if not self._begun and not packed.startswith(GZIP):
                raise tarfile.ReadError("no gzip stream")
            self._begun = True
            try:
                piece = self._inflater.decompress(packed, len(view))
            except igzip_lib.IsalError as error:  # type: ignore[misc]
                raise tarfile.ReadError(f"no gzip stream, or a damaged one ({error})") from error
            self._left -= len(piece)
            if self._left < 0:
                raise tarfile.ReadError("unpacks to far more than weights could")
            if piece:
                view[: len(piece)] = piece
                return len(piece)
        if self._inflater.unused_data or self._file.read(1):
            raise tarfile.ReadError("there are bytes after the end of the gzip stream")
        return 0


def _read_to_the_end(tar: tarfile.TarFile) -> None:
    """Read past the last member. Raises `ReadError` if anything but zeros follows."""
    assert tar.fileobj is not None  # noqa: S101  it is open
    while rest := tar.fileobj.read(BLOCK):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("there are bytes after the end of the tar")


def _problem(member: tarfile.TarInfo, seen: set[str]) -> str:
    """Return what is wrong with a member; empty if nothing is. `seen` names earlier members."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
        return "is neither a file nor a folder"
    if not is_member(member.name, folder=member.isdir()):
        return "is not part of a SavedModel"
    if member.name in seen:
        return "is there twice"
    folder = PurePosixPath(member.name).parent.as_posix()
    if folder != "." and folder not in seen:
        return "has no folder before it"
    return ""

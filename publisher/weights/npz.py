"""Reads an untrusted `.npz` file without copying it.

An `.npz` is a zip archive of `.npy` members. Sources: the PKWARE application note
(APPNOTE 6.3, sections 4.3.7 and 4.4) for the archive, NEP 1 for the members.
"""

import io
import itertools
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from publisher.weights.errors import WeightsError

MOST_MEMBERS = 10_000
LARGEST_INFLATED = 1 << 30  # bytes of one compressed array, inflated
LARGEST_INFLATED_TOTAL = 8 << 30  # bytes of all compressed arrays; the largest BiT file has 4.5e9
# All compressed arrays together inflate to no more than ALWAYS_INFLATED and LARGEST_RATIO times the
# size of their file. Weights hardly compress, but a new head is zeros.
LARGEST_RATIO = 16
ALWAYS_INFLATED = 64 << 20  # bytes
LARGEST_HELD = 64 << 20  # bytes of the mapped file that stay in memory while it is streamed
HEADER_BYTES = 1 << 14  # more than the longest header that np.lib.format accepts (10,000)
CHUNK = 1 << 20

_LOCAL_HEADER = struct.Struct("<4sHHHHHLLLHH")
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # traditional, strong, masked central directory
_REMEDY = "Get the file again from where it is published, or point WEIGHTS at a whole one."


@dataclass(frozen=True)
class _Member:
    """The position of one array in the file; `start` and `end` bound its stored bytes."""

    name: str
    info: zipfile.ZipInfo
    start: int
    end: int


@dataclass(frozen=True)
class _Header:
    """A parsed `.npy` header; the elements begin at `offset`."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def size(self) -> int:
        """The size of all elements in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Arrays(dict[str, npt.NDArray[Any]]):
    """Arrays by name. Views of the mapped file take no memory until something reads them."""

    def __init__(self, mapped: mmap.mmap) -> None:
        super().__init__()
        self._mapped = mapped

    def release(self) -> None:
        """Release the memory that reading took. The next read loads from the file again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def streamed(self, names: Iterable[str]) -> "StreamedArrays":
        """Return these arrays for a caller that reads each one once and keeps none."""
        return StreamedArrays(self, tuple(names))


class StreamedArrays(Mapping[str, npt.NDArray[Any]]):
    """Some arrays of a file. Getting an array releases the memory of those before it."""

    def __init__(self, arrays: Arrays, names: tuple[str, ...]) -> None:
        self._arrays = arrays
        self._names = names
        self._read = 0

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Return one array."""
        if name not in self._names:
            raise KeyError(name)
        if self._read > LARGEST_HELD:
            self._arrays.release()
            self._read = 0
        array = self._arrays[name]
        self._read += array.nbytes
        return array

    def __iter__(self) -> Iterator[str]:
        """Yield the names in their order."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._names)


def open_npz(path: Path) -> Arrays:
    """Return the arrays of the `.npz` file at `path`, by name, in the file's order.

    Maps stored members, and inflates deflated ones into memory, up to `LARGEST_INFLATED`
    each, and together up to a bound that depends on the size of the file.
    Verifies every CRC-32 and unpickles nothing. All arrays are read-only. Mapped ones may be
    unaligned, because the format does not align members.

    Raises `WeightsError`, which names the file and the array, if the file is anything but an
    archive of plain numeric arrays.
    """
    try:
        with path.open("rb") as file:
            mapped = _mapped(path, file.fileno())
            members = _members(path, file, memoryview(mapped))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}). {_remedy(error)}") from None
    arrays = Arrays(mapped)
    largest = min(LARGEST_INFLATED_TOTAL, ALWAYS_INFLATED + LARGEST_RATIO * len(mapped))
    budget = largest
    read = 0
    for member in members:
        if read > LARGEST_HELD:
            arrays.release()
            read = 0
        read += member.end - member.start
        if member.info.compress_type == zipfile.ZIP_STORED:
            array = _view(path, member, mapped)
        else:
            array = _inflated(
                path, member, memoryview(mapped)[member.start : member.end], budget, largest
            )
            budget -= array.nbytes
        arrays[member.name] = array
    arrays.release()
    return arrays


def _remedy(error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return "Name an .npz file in it instead."
    if isinstance(error, PermissionError):
        return "Grant yourself permission to read it."
    return _REMEDY


def _mapped(path: Path, descriptor: int) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file cannot be mapped
        raise WeightsError(f"{path}: the file is empty. {_REMEDY}") from None


def _refuse(path: Path, name: str, problem: str) -> WeightsError:
    return WeightsError(f"{path}: array {name!r}: {problem}. {_REMEDY}")


def _members(path: Path, file: io.BufferedReader, content: memoryview) -> list[_Member]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            directory = archive.start_dir
    # A hostile central directory can make the parser raise nearly anything.
    except Exception as error:
        raise WeightsError(
            f"{path}: not a whole .npz (zip) file ({error or type(error).__name__}). {_REMEDY}"
        ) from None
    if not infos:
        raise WeightsError(f"{path}: holds no arrays. {_REMEDY}")
    if len(infos) > MOST_MEMBERS:
        raise WeightsError(
            f"{path}: holds {len(infos)} members, more than {MOST_MEMBERS}. {_REMEDY}"
        )
    members = [_member(path, info, content, min(directory, len(content))) for info in infos]
    seen: set[str] = set()
    for member in members:
        if member.name in seen:
            raise _refuse(path, member.name, "occurs twice")
        seen.add(member.name)
    in_place = sorted(members, key=lambda member: member.info.header_offset)
    for before, after in itertools.pairwise(in_place):
        if after.info.header_offset < before.end:
            raise _refuse(path, after.name, f"overlaps {before.name!r}")
    return members


def _member(path: Path, info: zipfile.ZipInfo, content: memoryview, limit: int) -> _Member:
    raw = info.orig_filename
    problem = _name_problem(raw)
    if problem or info.filename != raw:
        raise _refuse(path, raw, problem or "has a name that archivers read in two ways")
    name = raw.removesuffix(".npy")
    if info.flag_bits & _ENCRYPTED:
        raise _refuse(path, name, "is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refuse(
            path, name, f"is compressed by method {info.compress_type}, not stored or deflated"
        )
    start = info.header_offset + _LOCAL_HEADER.size
    if info.header_offset < 0 or start > limit:
        raise _refuse(path, name, "lies outside the file")
    signature, _, flags, method, *_, name_length, extra_length = _LOCAL_HEADER.unpack_from(
        content, info.header_offset
    )
    if signature != b"PK\x03\x04":
        raise _refuse(path, name, "has no local header where the directory says")
    encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
    if bytes(content[start : start + name_length]) != raw.encode(encoding):
        raise _refuse(path, name, "has another name in its local header")
    if flags & _ENCRYPTED or method != info.compress_type:
        raise _refuse(path, name, "has a local header that contradicts the directory")
    start += name_length + extra_length
    end = start + info.compress_size
    if end > limit:
        raise _refuse(path, name, "reaches beyond the end of the file")
    return _Member(name, info, start, end)


def _name_problem(name: str) -> str | None:
    if not name.endswith(".npy") or name == ".npy":
        return "is not an .npy member"
    if name.startswith("/") or "\\" in name:
        return "has an absolute path or a backslash in its name"
    if ".." in name.split("/"):
        return "has '..' in its name"
    return None


def _header(path: Path, name: str, beginning: bytes) -> _Header:
    """Parse the header at the start of a member. Raises `WeightsError` if it is not plain."""
    stream = io.BytesIO(beginning)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version} is not 1.0 or 2.0")
    # NumPy evaluates the header as a literal, so a hostile header can raise nearly anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise _refuse(path, name, f"has no valid .npy header ({reason})") from None
    if dtype.hasobject:
        raise _refuse(path, name, "holds Python objects, which are never unpickled here")
    if dtype.fields is not None or dtype.kind not in "biufc":
        raise _refuse(path, name, f"has dtype {str(dtype)[:80]}, which is not a plain number")
    # A length of zero must not hide absurd other lengths from the product.
    cells = math.prod(max(length, 1) for length in shape)
    if len(shape) > 32 or any(length < 0 for length in shape) or cells > 1 << 56:
        raise _refuse(path, name, f"declares the impossible shape {str(shape)[:80]}")
    return _Header(shape, fortran, dtype, stream.tell())


def _shaped(buffer: Any, header: _Header, offset: int) -> npt.NDArray[Any]:
    count = math.prod(header.shape)
    if count == 0:
        array = np.empty(header.shape, header.dtype)
    else:
        flat = np.frombuffer(buffer, header.dtype, count, offset)
        array = flat.reshape(header.shape, order="F" if header.fortran else "C")
    array.flags.writeable = False
    return array


def _view(path: Path, member: _Member, mapped: mmap.mmap) -> npt.NDArray[Any]:
    content = memoryview(mapped)[member.start : member.end]
    if member.info.compress_size != member.info.file_size:
        raise _refuse(path, member.name, "is stored but has two different sizes")
    header = _header(path, member.name, bytes(content[:HEADER_BYTES]))
    present = len(content) - header.offset
    if header.size != present:
        raise _refuse(
            path, member.name, f"declares {header.size} bytes of elements and has {present}"
        )
    if isal_zlib.crc32(content) != member.info.CRC:
        raise _refuse(path, member.name, "is damaged: its CRC-32 does not match")
    return _shaped(mapped, header, member.start + header.offset)


def _pieces(packed: memoryview) -> Iterator[bytes]:
    """Inflate a raw deflate stream; yield at most `CHUNK` bytes at a time."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for start in range(0, len(packed), CHUNK):
        block: bytes | memoryview = packed[start : start + CHUNK]
        while True:
            piece = inflater.decompress(block, CHUNK)
            block = inflater.unconsumed_tail
            if piece:
                yield piece
            if not block and len(piece) < CHUNK:
                break
        if inflater.eof:
            if inflater.unused_data or start + CHUNK < len(packed):
                raise zlib.error("bytes after the end of the stream")
            return
    raise zlib.error("the stream breaks off")


def _inflated(
    path: Path, member: _Member, packed: memoryview, budget: int, largest: int
) -> npt.NDArray[Any]:
    name = member.name
    try:
        pieces = _pieces(packed)
        beginning = b""
        while len(beginning) < HEADER_BYTES and (piece := next(pieces, b"")):
            beginning += piece
        header = _header(path, name, beginning[:HEADER_BYTES])
        if header.size > min(LARGEST_INFLATED, budget):
            raise _refuse(
                path,
                name,
                f"declares {header.size} bytes of compressed elements; the limit is "
                f"{LARGEST_INFLATED} for an array and {largest} for a file of this size",
            )
        total = header.offset + header.size
        content = bytearray()
        for piece in itertools.chain([beginning], pieces):
            if len(content) + len(piece) > total:
                raise _refuse(
                    path, name, f"holds more than the {header.size} bytes of elements it declares"
                )
            content += piece
    except zlib.error as error:
        raise _refuse(path, name, f"cannot be decompressed ({error})") from None
    if len(content) != total:
        raise _refuse(
            path,
            name,
            f"declares {header.size} bytes of elements and has {len(content) - header.offset}",
        )
    if len(content) != member.info.file_size or isal_zlib.crc32(content) != member.info.CRC:
        raise _refuse(path, name, "is damaged: its size or CRC-32 does not match")
    return _shaped(content, header, header.offset)

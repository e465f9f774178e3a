"""Writes the variables of a SavedModel, one array at a time.

TensorFlow's own writer needs every variable in memory, and a second copy to write it. This one
reads each array once, and needs TensorFlow only for the index. The data file can therefore be
written while another thread traces the graph.

Format: a tensor bundle, which consists of a data file and an index. Sources:
tensorflow/core/util/tensor_bundle/tensor_bundle.h and tensor_bundle.proto; the index is a
table of sorted keys (tensorflow/core/lib/io/table_format.txt, from LevelDB), uncompressed.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
import numpy.typing as npt

DATA = "variables.data-00000-of-00001"
INDEX = "variables.index"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

_BLOCK = 1 << 18  # bytes of a block of the index, about
_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_UNCOMPRESSED = b"\0"
_MASK_DELTA = 0xA282EAD8


@dataclass(frozen=True)
class Span:
    """The position of an array in the data file; `crc32c` is the unmasked checksum."""

    offset: int
    size: int
    crc32c: int
    shape: tuple[int, ...]


def write_data(path: Path, arrays: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Span]:
    """Write the arrays one after another, as little-endian float32 in C order.

    Gets each array once and releases it before the next. Imports no TensorFlow. Raises `OSError`
    if the disk fails.
    """
    spans: dict[str, Span] = {}
    with path.open("wb") as file:
        for name in arrays:
            array = arrays[name]
            content = _content(array, "<f4")
            spans[name] = Span(file.tell(), len(content), google_crc32c.value(content), array.shape)
            file.write(content.data)
            del array, content  # otherwise both stay in memory until the next is read
    return spans


def write_variables(
    folder: Path,
    data: Path,
    spans: Mapping[str, Span],
    keys: Mapping[str, str],
    others: Mapping[str, Any],
) -> None:
    """Complete the data file from `write_data`, and write the index, in `folder`.

    `keys` maps the arrays' names to their keys in TensorFlow's checkpoint. `others` maps the keys
    of its other entries to NumPy arrays, or to bytes for a string.
    """
    entries = {keys[name]: _entry("float32", span) for name, span in spans.items()}
    with data.open("ab") as file:
        for key, value in others.items():
            if isinstance(value, bytes):
                entries[key] = _entry("string", _append_string(file, value))
            else:
                entries[key] = _entry(value.dtype.name, _append(file, value))
    (folder / INDEX).write_bytes(_table({"": _header(), **entries}))
    data.replace(folder / DATA)


def _content(array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[np.uint8]:
    """Return the bytes of an array in C order. Copies only if the memory order differs.

    A copy would block the other threads of the process, because NumPy holds the interpreter's
    lock while it copies. The checksum and the disk release the lock.
    """
    return np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8)


def _append(file: IO[bytes], array: npt.NDArray[Any]) -> Span:
    """Append an array, little-endian in C order."""
    content = _content(array, array.dtype.newbyteorder("<"))
    offset = file.tell()
    return Span(offset, file.write(content.data), google_crc32c.value(content), array.shape)


def _append_string(file: IO[bytes], content: bytes) -> Span:
    """Append a scalar string: its length, a checksum of the length, and its bytes."""
    length = struct.pack("<I", len(content))
    rest = struct.pack("<I", _masked(google_crc32c.value(length))) + content
    offset = file.tell()
    size = file.write(_varint(len(content)) + rest)
    return Span(offset, size, google_crc32c.value(length + rest), ())


def _entry(dtype: str, span: Span) -> bytes:
    import tensorflow as tf
    from tensorflow.core.protobuf import tensor_bundle_pb2

    entry = tensor_bundle_pb2.BundleEntryProto(
        dtype=tf.as_dtype(dtype).as_datatype_enum,
        shape=tf.TensorShape(span.shape).as_proto(),
        offset=span.offset,
        size=span.size,
        crc32c=_masked(span.crc32c),
    )
    encoded: bytes = entry.SerializeToString(deterministic=True)
    return encoded


def _header() -> bytes:
    from tensorflow.core.protobuf import tensor_bundle_pb2

    header = tensor_bundle_pb2.BundleHeaderProto(num_shards=1)
    header.version.producer = 1
    encoded: bytes = header.SerializeToString(deterministic=True)
    return encoded


def _table(entries: Mapping[str, bytes]) -> bytes:
    """Return the entries as a table, sorted by the bytes of their keys."""
    content = bytearray()
    index: dict[bytes, bytes] = {}
    pending: dict[bytes, bytes] = {}
    for key, value in sorted((key.encode(), value) for key, value in entries.items()):
        pending[key] = value
        if sum(map(len, pending.values())) >= _BLOCK:
            index[key] = _append_block(content, pending)
            pending = {}
    if pending:
        index[max(pending)] = _append_block(content, pending)
    meta_index = _append_block(content, {})
    footer = meta_index + _append_block(content, index)
    return bytes(content + footer.ljust(_FOOTER - 8, b"\0") + struct.pack("<Q", _MAGIC))


def _append_block(content: bytearray, entries: Mapping[bytes, bytes]) -> bytes:
    """Append a block of sorted entries without prefix compression; return its block handle."""
    block = bytearray()
    restarts = [0]
    for key, value in entries.items():
        restarts += [len(block)] if block else []
        block += _varint(0) + _varint(len(key)) + _varint(len(value)) + key + value
    block += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    handle = _varint(len(content)) + _varint(len(block))
    checksum = _masked(google_crc32c.value(bytes(block) + _UNCOMPRESSED))
    content += block + _UNCOMPRESSED + struct.pack("<I", checksum)
    return handle


def _masked(crc32c: int) -> int:
    """Return a checksum as LevelDB stores it. A CRC over data that contains CRCs is weak."""
    return (((crc32c >> 15) | (crc32c << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)

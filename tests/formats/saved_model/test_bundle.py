"""The files are held to TensorFlow's own reader, and to what its own writer makes of the same."""

import shutil
import struct
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import tensor_bundle_pb2

from publisher.formats.saved_model import bundle
from publisher.formats.saved_model.bundle import write_data, write_variables
from tests.disks import disk_that_ends_at

Array = npt.NDArray[Any]
Arrays = Mapping[str, npt.NDArray[np.float32]]


def floats(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


SPECIAL = np.array([np.nan, -0.0, np.inf, 1e-45, 3.4e38], np.float32)
SPECIAL[0] = np.array(0x7FC01234, np.uint32).view(np.float32)  # a NaN with something in it

ARRAYS = {
    "net/kernel": floats(3, 2, 4, 5, seed=1),
    "net/bias": floats(7, seed=2),
    "alone": np.array(0.1, np.float32),
    "Zeta": SPECIAL,
    "net/empty": np.zeros((0, 3), np.float32),
}
OTHERS: dict[str, Any] = {  # their keys stand behind those of the arrays
    "x/counter": np.array(-(1 << 40), np.int64),
    "x/graph": b"\x0a\x00 any bytes at all \xff" * 20,  # its length takes two bytes
}


def key(name: str) -> str:
    return f"variables/{name}/.ATTRIBUTES/VARIABLE_VALUE"


def write(folder: Path, arrays: Arrays = ARRAYS, others: Mapping[str, Any] | None = None) -> Path:
    """Write a bundle, and return what its files' names begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data.tmp"
    spans = write_data(data, arrays)
    write_variables(folder, data, spans, {name: key(name) for name in arrays}, others or {})
    assert {path.name for path in folder.iterdir()} == {bundle.DATA, bundle.INDEX}
    return folder / "variables"


def restore(prefix: Path, name: str, dtype: Any) -> Any:
    """Read one tensor with the operation that every SavedModel reads its variables with."""
    (tensor,) = tf.raw_ops.RestoreV2(
        prefix=str(prefix), tensor_names=[name], shape_and_slices=[""], dtypes=[dtype]
    )
    return tensor.numpy()


def same_bits(measured: Array, expected: Array) -> None:
    assert (measured.dtype.name, measured.shape) == ("float32", expected.shape)
    assert measured.tobytes() == expected.astype("<f4").tobytes()


# What TensorFlow reads.


def test_the_checkpoint_reader_finds_every_array_bit_for_bit(tmp_path: Path) -> None:
    reader = tf.train.load_checkpoint(str(write(tmp_path, others=OTHERS)))
    shapes = {key(name): list(array.shape) for name, array in ARRAYS.items()}
    assert reader.get_variable_to_shape_map() == {**shapes, "x/graph": [], "x/counter": []}
    assert reader.get_variable_to_dtype_map() == {
        **dict.fromkeys(shapes, tf.float32),
        "x/graph": tf.string,
        "x/counter": tf.int64,
    }
    for name, array in ARRAYS.items():
        same_bits(np.asarray(reader.get_tensor(key(name))), array)


def test_what_saved_models_are_read_with_finds_every_array_bit_for_bit(tmp_path: Path) -> None:
    prefix = write(tmp_path, others=OTHERS)
    for name, array in ARRAYS.items():
        same_bits(restore(prefix, key(name), tf.float32), array)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 70_000])
def test_a_string_of_any_length_comes_back(length: int, tmp_path: Path) -> None:
    content = np.random.default_rng(3).bytes(length)
    prefix = write(tmp_path, others={"graph": content})
    assert restore(prefix, "graph", tf.string) == content
    same_bits(restore(prefix, key("Zeta"), tf.float32), SPECIAL)


@pytest.mark.parametrize(
    "value",
    [
        np.array(-(1 << 40), np.int64),
        np.array([3, -4], ">i4"),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.array([[True], [False]]),
    ],
    ids=["scalar", "big-endian", "Fortran order", "truth values"],
)
def test_what_else_is_in_the_checkpoint_comes_back(value: Array, tmp_path: Path) -> None:
    prefix = write(tmp_path, others={"counter": value})
    found = restore(prefix, "counter", tf.as_dtype(value.dtype.newbyteorder("=")))
    assert found.shape == value.shape
    np.testing.assert_array_equal(found, value)


def test_a_saved_model_loads_with_the_variables_that_were_put_there(tmp_path: Path) -> None:
    """TensorFlow's own SavedModel, whose variables are then written anew with other values."""
    root = tf.train.Checkpoint(
        kernel=tf.Variable(tf.zeros((3, 2, 4, 5)), name="kernel"),
        bias=tf.Variable(tf.zeros(7), name="bias"),
    )
    tf.saved_model.save(root, str(tmp_path / "saved_model"))
    folder = tmp_path / "saved_model" / "variables"
    own = tf.train.load_checkpoint(str(folder / "variables"))
    graph = own.get_tensor(bundle.OBJECT_GRAPH)
    names = {
        "kernel": "kernel/.ATTRIBUTES/VARIABLE_VALUE",
        "bias": "bias/.ATTRIBUTES/VARIABLE_VALUE",
    }
    (counter,) = set(own.get_variable_to_shape_map()) - {*names.values(), bundle.OBJECT_GRAPH}
    for path in folder.iterdir():
        path.unlink()

    data = folder / "data.tmp"
    arrays = {"kernel": ARRAYS["net/kernel"], "bias": ARRAYS["net/bias"]}
    others = {bundle.OBJECT_GRAPH: graph, counter: np.array(1, np.int64)}
    write_variables(folder, data, write_data(data, arrays), names, others)
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    for name, array in arrays.items():
        same_bits(getattr(loaded, name).numpy(), array)


# What TensorFlow writes.


def varint(content: bytes, start: int) -> tuple[int, int]:
    """Return the number at `start` and where the next one is."""
    value = shift = 0
    while True:
        byte = content[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value, start


def block(content: bytes, handle: bytes) -> dict[bytes, bytes]:
    """Return what the block of a table holds, by key; keys may begin as those before do."""
    offset, behind = varint(handle, 0)
    size, _ = varint(handle, behind)
    (restarts,) = struct.unpack_from("<I", content, offset + size - 4)
    place, end, name = offset, offset + size - 4 * (restarts + 1), b""
    found: dict[bytes, bytes] = {}
    while place < end:
        shared, place = varint(content, place)
        length, place = varint(content, place)
        extent, place = varint(content, place)
        name = name[:shared] + content[place : place + length]
        place += length
        found[name] = content[place : place + extent]
        place += extent
    return found


def blocks(index: Path) -> list[dict[bytes, bytes]]:
    """Return the entries of an index, block by block."""
    content = index.read_bytes()
    footer = content[-48:]
    _, behind = varint(footer, varint(footer, 0)[1])  # past the block of blocks about blocks
    return [block(content, handle) for handle in block(content, footer[behind:]).values()]


def entries(index: Path) -> dict[str, Any]:
    """Return what an index says of each tensor: type, shape, place, size and checksum."""
    found = {name: value for one in blocks(index) for name, value in one.items()}
    header = tensor_bundle_pb2.BundleHeaderProto.FromString(found.pop(b""))
    entry = tensor_bundle_pb2.BundleEntryProto.FromString
    return {"": header, **{name.decode(): entry(value) for name, value in found.items()}}


def write_with_tensorflow(folder: Path, tensors: Mapping[str, Any]) -> Path:
    folder.mkdir()
    keys = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "variables"),
        tensor_names=keys,
        shape_and_slices=[""] * len(keys),
        tensors=[tf.constant(tensors[name]) for name in keys],
    )
    return folder


def test_it_is_what_tensorflow_writes_of_the_same_tensors(tmp_path: Path) -> None:
    """Byte for byte, but for the index: TensorFlow's does not repeat what keys begin with."""
    arrays = dict(sorted(ARRAYS.items()))
    ours = write(tmp_path / "ours", arrays, OTHERS).parent
    tensors = {key(name): array for name, array in arrays.items()} | OTHERS
    assert list(tensors) == sorted(tensors)
    theirs = write_with_tensorflow(tmp_path / "theirs", tensors)
    assert (ours / bundle.DATA).read_bytes() == (theirs / bundle.DATA).read_bytes()
    found = entries(ours / bundle.INDEX)
    assert found == entries(theirs / bundle.INDEX)
    assert len(found) == 1 + len(tensors)


# The index.


@pytest.mark.parametrize(("size", "count"), [(1, 302), (300, 18), (1 << 18, 1)])
def test_an_index_of_many_blocks_is_read_whole(
    size: int, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_BLOCK", size)
    # Also names that go on where others end, and such as sort otherwise as text.
    endings = ("", "/b", "-b", "b", "B", "\u00e9")
    names = [f"a{number}{ending}" for number in range(50) for ending in endings]
    arrays = {name: floats(2, seed=number) for number, name in enumerate(reversed(names))}
    prefix = write(tmp_path, arrays, {"z": b"last"})
    found = blocks(prefix.with_name(bundle.INDEX))
    assert len(found) == pytest.approx(count, rel=0.1)
    keys = [name for one in found for name in one]
    assert keys == sorted(keys)
    assert len(keys) == 302  # with the header and "z"
    assert len(tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map()) == 301
    for name, array in arrays.items():
        same_bits(restore(prefix, key(name), tf.float32), array)
    assert restore(prefix, "z", tf.string) == b"last"


# Arrays that lie in memory in another way, or are not there yet.


def unaligned(array: Array) -> Array:
    moved = np.frombuffer(b"." + array.tobytes(), np.uint8)[1:].view(np.float32)
    assert not moved.flags.aligned
    return moved.reshape(array.shape)


def read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


@pytest.mark.parametrize(
    "laid_out",
    [
        lambda array: array.astype(">f4"),
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=1)[:, ::2],
        lambda array: array[::-1].copy()[::-1],
        unaligned,
        read_only,
    ],
    ids=["big-endian", "Fortran order", "with gaps", "backwards", "unaligned", "read-only"],
)
def test_the_bytes_do_not_follow_from_where_an_array_lies(
    laid_out: Callable[[Array], Array], tmp_path: Path
) -> None:
    plain = floats(5, 4, 3, seed=4)
    expected = write(tmp_path / "plain", {"array": plain, "behind": SPECIAL})
    found = write(tmp_path / "other", {"array": laid_out(plain), "behind": SPECIAL})
    for name in (bundle.DATA, bundle.INDEX):
        assert found.with_name(name).read_bytes() == expected.with_name(name).read_bytes()
    same_bits(restore(found, key("array"), tf.float32), plain)


def test_the_same_arrays_give_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, others=OTHERS) for name in ("first", "second"))
    for name in (bundle.DATA, bundle.INDEX):
        assert first.with_name(name).read_bytes() == second.with_name(name).read_bytes()


def test_each_array_is_asked_for_once_and_not_kept(tmp_path: Path) -> None:
    """The large networks have nearly a gigabyte of weights."""
    asked: list[str] = []
    read: list[weakref.ref[Array]] = []

    class Recorded(Mapping[str, npt.NDArray[np.float32]]):
        def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
            assert not any(reference() is not None for reference in read)
            asked.append(name)
            array = ARRAYS[name].copy()
            read.append(weakref.ref(array))
            return array

        def __iter__(self) -> Iterator[str]:
            return iter(ARRAYS)

        def __len__(self) -> int:
            return len(ARRAYS)

    spans = write_data(tmp_path / "data", Recorded())
    assert asked == list(spans) == list(ARRAYS)
    assert not any(reference() is not None for reference in read)


def test_the_spans_say_where_each_array_lies(tmp_path: Path) -> None:
    spans = write_data(tmp_path / "data", ARRAYS)
    content = (tmp_path / "data").read_bytes()
    for name, array in ARRAYS.items():
        span = spans[name]
        assert content[span.offset : span.offset + span.size] == array.tobytes(), name
        assert span.shape == array.shape
    assert sum(span.size for span in spans.values()) == len(content)


# Damage.


def restore_all(prefix: Path) -> list[Any]:
    names = [key(name) for name in ARRAYS] + list(OTHERS)
    dtypes = [tf.float32] * len(ARRAYS) + [tf.int64, tf.string]
    tensors = tf.raw_ops.RestoreV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), dtypes=dtypes
    )
    return [np.asarray(tensor.numpy()).tobytes() for tensor in tensors]


@pytest.mark.parametrize(
    ("file", "told"), [(bundle.DATA, 1.0), (bundle.INDEX, 0.85)], ids=["data", "index"]
)
def test_no_flipped_byte_is_read_as_a_value(file: str, told: float, tmp_path: Path) -> None:
    """Some bytes of an index mean nothing to a reader, like those that fill up its end."""
    prefix = write(tmp_path, others=OTHERS)
    place = prefix.with_name(file)
    good, expected = place.read_bytes(), restore_all(prefix)
    refused = 0
    positions = range(0, len(good), 5)
    for position in positions:
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        place.write_bytes(bad)
        try:
            assert restore_all(prefix) == expected, position
        except tf.errors.DataLossError:
            refused += 1
    assert refused >= told * len(positions)


@pytest.mark.parametrize("file", [bundle.DATA, bundle.INDEX], ids=["data", "index"])
def test_a_file_that_breaks_off_is_refused(file: str, tmp_path: Path) -> None:
    prefix = write(tmp_path, others=OTHERS)
    place = prefix.with_name(file)
    place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises((tf.errors.DataLossError, tf.errors.OutOfRangeError)):
        restore_all(prefix)


def test_a_saved_model_with_a_flipped_byte_does_not_load(classifier: Path, tmp_path: Path) -> None:
    copy = tmp_path / "saved_model"
    shutil.copytree(classifier, copy)
    data = copy / "variables" / bundle.DATA
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError, match=r"[Cc]hecksum"):
        tf.saved_model.load(str(copy))


def test_a_full_disk_is_an_error_wherever_it_strikes(tmp_path: Path) -> None:
    spans = write_data(tmp_path / "whole", ARRAYS)
    whole = (tmp_path / "whole").stat().st_size
    for size in (0, 100, whole - 1):
        with disk_that_ends_at(size), pytest.raises(OSError, match="too large"):
            write_data(tmp_path / "data", ARRAYS)
    with disk_that_ends_at(whole + 3), pytest.raises(OSError, match="too large"):
        keys = {name: key(name) for name in ARRAYS}
        write_variables(tmp_path, tmp_path / "whole", spans, keys, OTHERS)
    assert not (tmp_path / bundle.DATA).exists()

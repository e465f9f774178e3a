import gc
import io
import mmap
import os
import re
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from publisher.weights import WeightsError, npz, open_npz

VALUES = np.arange(6, dtype="<f4").reshape(2, 3)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npy_claiming(shape: str, descr: str = "'<f4'", body: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(path: Path, *members: tuple[str, bytes], deflated: bool = False) -> Path:
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return path


def patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return path


def ultimate_base(array: np.ndarray[Any, Any]) -> Any:
    base: Any = array
    while getattr(base, "base", None) is not None:
        base = base.base
    return base.obj if isinstance(base, memoryview) else base


def test_reads_what_numpy_wrote_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, **{"b/kernel": VALUES, "a/bias": VALUES[0], "scalar": np.float32(3)})
    arrays = open_npz(path)
    assert list(arrays) == ["b/kernel", "a/bias", "scalar"]
    np.testing.assert_array_equal(arrays["b/kernel"], VALUES)
    np.testing.assert_array_equal(arrays["a/bias"], VALUES[0])
    assert arrays["scalar"].shape == () and arrays["scalar"] == 3


def test_stored_arrays_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, x=np.zeros(8 << 20, np.float32))
    tracemalloc.start()
    array = open_npz(path)["x"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert type(ultimate_base(array)).__name__ == "mmap"


def test_arrays_stay_valid_when_the_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, x=VALUES)
    array = open_npz(path)["x"]
    path.unlink()
    np.testing.assert_array_equal(array, VALUES)


def test_reads_deflated_arrays_as_read_only(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    large = np.random.default_rng(0).normal(size=(700, 1000)).astype("<f4")
    np.savez_compressed(path, x=large, y=VALUES)
    arrays = open_npz(path)
    np.testing.assert_array_equal(arrays["x"], large)
    np.testing.assert_array_equal(arrays["y"], VALUES)
    assert not arrays["x"].flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_arrays_in_fortran_order(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "w.npz"
    save(path, x=np.asfortranarray(VALUES))
    np.testing.assert_array_equal(open_npz(path)["x"], VALUES)


def test_reads_arrays_without_elements(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, x=np.zeros((0, 3), np.float32))
    assert open_npz(path)["x"].shape == (0, 3)


def test_keeps_a_foreign_byte_order_for_the_check_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, x=VALUES.astype(">f4"))
    assert open_npz(path)["x"].dtype.str == ">f4"


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("deflated", [False, True])
def test_never_unpickles(tmp_path: Path, deflated: bool) -> None:
    sprung = tmp_path / "sprung"
    content = npy(np.array([Trap(sprung)], dtype=object))
    path = archive(tmp_path / "w.npz", ("x.npy", content), deflated=deflated)
    with pytest.raises(WeightsError, match=r"w\.npz: array 'x': holds Python objects"):
        open_npz(path)
    assert not sprung.exists()
    np.load(io.BytesIO(content), allow_pickle=True)  # the trap is a real one
    assert sprung.exists()


BAD_MEMBERS = {
    "parent directory": (("a/../../x.npy", npy(VALUES)), "has '..' in its name"),
    "absolute path": (("/etc/x.npy", npy(VALUES)), "absolute path"),
    "backslash": (("a\\x.npy", npy(VALUES)), "backslash"),
    "not npy": (("x.txt", b"hello"), "not an .npy member"),
    "no magic": (("x.npy", b"hello, this is no array"), "no valid .npy header"),
    "no bytes": (("x.npy", b""), "no valid .npy header"),
    "format 3": (("x.npy", b"\x93NUMPY\x03\x00" + bytes(100)), "not 1.0 or 2.0"),
    "nested header": (("x.npy", npy_claiming("(" * 5000)), "no valid .npy header"),
    "unclosed header": (("x.npy", npy_claiming("'")), "no valid .npy header"),
    "huge header": (
        ("x.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b" " * 20_000),
        "no valid .npy header",
    ),
    "absurd size": (("x.npy", npy_claiming("(1 << 40,)")), "no valid .npy header"),
    "absurd dimensions": (("x.npy", npy_claiming(f"({2**40}, {2**40})")), "impossible shape"),
    "absurd beside zero": (("x.npy", npy_claiming(f"(0, {10**4000})")), "impossible shape"),
    "negative": (("x.npy", npy_claiming("(-1, -6)", body=bytes(24))), "impossible shape"),
    "too many axes": (("x.npy", npy_claiming("(1,) * 0", body=b"")), "no valid .npy header"),
    "thirty-three axes": (
        ("x.npy", npy_claiming(str((1,) * 33), body=bytes(4))),
        "impossible shape",
    ),
    "terabyte": (("x.npy", npy_claiming(f"({2**38},)", body=bytes(24))), "compressed|and has 24"),
    "short": (("x.npy", npy(VALUES)[:-4]), "declares 24 bytes of elements and has 20"),
    "long": (("x.npy", npy(VALUES) + b"more"), "declares 24|more than the 24"),
    "structured": (
        ("x.npy", npy(np.zeros(2, [("a", "<f4"), ("b", "O")]))),
        "Python objects",
    ),
    "fields": (("x.npy", npy(np.zeros(2, [("a", "<f4")]))), "not a plain number"),
    "text": (("x.npy", npy(np.array(["a"]))), "not a plain number"),
    "void": (("x.npy", npy(np.zeros(2, "V4"))), "not a plain number"),
}


@pytest.mark.parametrize("deflated", [False, True], ids=["stored", "deflated"])
@pytest.mark.parametrize(("member", "problem"), BAD_MEMBERS.values(), ids=BAD_MEMBERS)
@pytest.mark.filterwarnings("ignore:Reading")
def test_refuses_a_bad_member_by_name(
    tmp_path: Path, member: tuple[str, bytes], problem: str, deflated: bool
) -> None:
    path = archive(tmp_path / "w.npz", ("good.npy", npy(VALUES)), member, deflated=deflated)
    name = member[0] if "name" in problem or "path" in problem else member[0].removesuffix(".npy")
    with pytest.raises(WeightsError, match=problem) as caught:
        open_npz(path)
    assert str(caught.value).startswith(f"{path}: array ")
    assert repr(name)[1:-1] in str(caught.value)
    assert "WEIGHTS" in str(caught.value)


def test_refuses_a_deflate_bomb_without_inflating_it(tmp_path: Path) -> None:
    content = npy_claiming("(6,)", body=bytes(100 << 20))
    path = archive(tmp_path / "w.npz", ("x.npy", content), deflated=True)
    del content
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(WeightsError, match="'x': holds more than the 24 bytes"):
        open_npz(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("limit", ["LARGEST_INFLATED", "LARGEST_INFLATED_TOTAL"])
def test_bounds_what_is_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    path = archive(
        tmp_path / "w.npz", ("x.npy", npy(VALUES)), ("y.npy", npy(VALUES)), deflated=True
    )
    monkeypatch.setattr(npz, limit, 24 if limit == "LARGEST_INFLATED" else 48)
    assert len(open_npz(path)) == 2
    monkeypatch.setattr(npz, limit, 23 if limit == "LARGEST_INFLATED" else 47)
    with pytest.raises(WeightsError, match="declares 24 bytes of compressed elements"):
        open_npz(path)


def test_inflates_no_more_than_a_file_of_its_size_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = npy(np.zeros(1 << 16, "<f4"))
    path = archive(tmp_path / "w.npz", ("x.npy", zeros), ("y.npy", zeros), deflated=True)
    assert len(open_npz(path)) == 2
    monkeypatch.setattr(npz, "ALWAYS_INFLATED", 1 << 18)
    with pytest.raises(WeightsError, match="'y': declares 262144 bytes of compressed elements"):
        open_npz(path)


@pytest.mark.parametrize("deflated", [False, True])
def test_refuses_a_flipped_bit(tmp_path: Path, deflated: bool) -> None:
    noise = np.random.default_rng(0).normal(size=5000).astype("<f4")
    path = archive(tmp_path / "w.npz", ("x.npy", npy(noise)), deflated=deflated)

    def flip(content: bytearray) -> None:
        content[len(content) // 2] ^= 1

    with pytest.raises(WeightsError, match=r"'x': is damaged|'x': cannot be decompressed"):
        open_npz(patched(path, flip))


def test_refuses_a_deflated_stream_that_breaks_off(tmp_path: Path) -> None:
    path = archive(tmp_path / "w.npz", ("x.npy", npy(np.zeros(5000, "<f4"))), deflated=True)
    info = zipfile.ZipFile(path).getinfo("x.npy")

    def shorten(content: bytearray) -> None:
        at = content.rindex(b"PK\x01\x02")
        content[at + 20 : at + 24] = struct.pack("<L", info.compress_size - 3)

    with pytest.raises(WeightsError, match="'x': cannot be decompressed"):
        open_npz(patched(path, shorten))


@pytest.mark.parametrize("at_a_boundary", [False, True])
def test_refuses_bytes_after_a_deflated_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_boundary: bool
) -> None:
    content = npy(VALUES)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(content) + packer.flush()
    path = archive(tmp_path / "w.npz", ("x.npy", packed + b"more"))

    def call_it_deflated(whole: bytearray) -> None:
        at = whole.rindex(b"PK\x01\x02")
        whole[8:10] = whole[at + 10 : at + 12] = b"\x08\x00"
        whole[at + 16 : at + 20] = struct.pack("<L", zlib.crc32(content))
        whole[at + 24 : at + 28] = struct.pack("<L", len(content))

    patched(path, call_it_deflated)
    if at_a_boundary:
        monkeypatch.setattr(npz, "CHUNK", len(packed))
    with pytest.raises(WeightsError, match=r"'x': cannot be decompressed \(bytes after the end"):
        open_npz(path)


def test_refuses_members_that_overlap(tmp_path: Path) -> None:
    inner = archive(tmp_path / "inner.npz", ("b.npy", npy(VALUES))).read_bytes()
    nested = inner[: inner.index(b"PK\x01\x02")]  # a member whole with its local header
    body = np.frombuffer(nested, np.uint8)
    path = archive(tmp_path / "w.npz", ("a.npy", npy(body)), ("b.npy", npy(VALUES)))

    def lead_into_the_first(content: bytearray) -> None:
        at = content.rindex(b"PK\x01\x02")
        inside = content.index(nested)
        content[at + 42 : at + 46] = struct.pack("<L", inside)

    with pytest.raises(WeightsError, match="array 'b': overlaps 'a'"):
        open_npz(patched(path, lead_into_the_first))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refuses_a_name_that_is_there_twice(tmp_path: Path) -> None:
    path = archive(tmp_path / "w.npz", ("x.npy", npy(VALUES)), ("x.npy", npy(VALUES)))
    with pytest.raises(WeightsError, match="array 'x': occurs twice"):
        open_npz(path)


def central(offset: int, value: bytes) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        at = content.rindex(b"PK\x01\x02") + offset
        content[at : at + len(value)] = value

    return change


def local(offset: int, value: bytes) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[offset : offset + len(value)] = value

    return change


CONTRADICTIONS = {
    "encrypted": (central(8, b"\x01\x00"), "is encrypted"),
    "encrypted locally": (local(6, b"\x01\x00"), "contradicts the directory"),
    "other method locally": (local(8, b"\x08\x00"), "contradicts the directory"),
    "bzip2": (central(10, b"\x0c\x00"), "compressed by method 12"),
    "no local header": (local(0, b"XX"), "has no local header"),
    "other name locally": (local(30, b"y"), "another name in its local header"),
    "outside": (central(42, struct.pack("<L", 1 << 30)), "outside the file"),
    "too long": (central(20, struct.pack("<LL", 1 << 30, 1 << 30)), "beyond the end"),
    "two sizes": (central(24, struct.pack("<L", 1 << 30)), "two different sizes"),
}


@pytest.mark.parametrize(("change", "problem"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_refuses_headers_that_lie(
    tmp_path: Path, change: Callable[[bytearray], None], problem: str
) -> None:
    path = patched(archive(tmp_path / "w.npz", ("x.npy", npy(VALUES))), change)
    with pytest.raises(WeightsError, match=problem) as caught:
        open_npz(path)
    assert "array 'x" in str(caught.value)


def test_refuses_more_members_than_any_network_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "MOST_MEMBERS", 1)
    path = archive(tmp_path / "w.npz", ("x.npy", npy(VALUES)), ("y.npy", npy(VALUES)))
    with pytest.raises(WeightsError, match="holds 2 members, more than 1"):
        open_npz(path)


def whole() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=VALUES)
    return stream.getvalue()


NOT_ARCHIVES = {
    "empty": (b"", "the file is empty"),
    "web page": (b"<html>Sign in</html>" * 20, "not a whole .npz"),
    "truncated": (whole()[:-30], "not a whole .npz"),
    "half": (whole()[:100], "not a whole .npz"),
    "bare npy": (npy(VALUES), "not a whole .npz"),
    "no members": (b"PK\x05\x06" + bytes(18), "holds no arrays"),
    "beheaded": (whole()[40:], "outside the file"),
}


@pytest.mark.parametrize(("content", "problem"), NOT_ARCHIVES.values(), ids=NOT_ARCHIVES)
def test_refuses_what_is_no_whole_archive(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=problem) as caught:
        open_npz(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "WEIGHTS" in str(caught.value)


def test_refuses_every_truncation(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    content = whole()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=re.escape(str(path))):
            open_npz(path)


def test_names_a_file_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "absent.npz"
    with pytest.raises(WeightsError, match=r"absent\.npz: cannot be read \(No such file"):
        open_npz(path)


def test_tells_a_directory_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Is a directory\). Name an \.npz file in it"):
        open_npz(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="counts open descriptors by /proc")
def test_closes_the_file_it_refuses(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(whole()[:-30])
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        with pytest.raises(WeightsError):
            open_npz(path)
    gc.collect()
    assert len(list(descriptors.iterdir())) <= before


# --- memory ---


def resident(path: Path) -> int:
    """Return the bytes of the mapped file at `path` that this process holds in memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


MEMORY_CAN_BE_SEEN = pytest.mark.skipif(
    not (hasattr(mmap, "MADV_DONTNEED") and Path("/proc/self/smaps").exists()),
    reason="the system cannot give mapped memory back, or does not show it",
)
MEGABYTE = 1 << 20

Large = tuple[Path, dict[str, np.ndarray[Any, Any]]]


@pytest.fixture
def large(tmp_path: Path) -> Large:
    """A file of eight arrays of a megabyte, and what is in it."""
    random = np.random.default_rng(3)
    arrays = {f"a{index}": random.random(MEGABYTE // 4, np.float32) for index in range(8)}
    path = tmp_path / "large.npz"
    np.savez(path, allow_pickle=False, **arrays)
    return path, arrays


@MEMORY_CAN_BE_SEEN
def test_opening_leaves_nothing_in_memory(large: Large) -> None:
    path, _ = large
    arrays = open_npz(path)
    assert len(arrays) == 8
    assert resident(path) < MEGABYTE


@MEMORY_CAN_BE_SEEN
def test_opening_holds_little_at_a_time(large: Large, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the file is read for its checksums, and is larger than memory may be."""
    path, _ = large
    held: list[int] = []
    crc32 = npz.isal_zlib.crc32

    def watched(content: Any) -> int:
        value: int = crc32(content)
        held.append(resident(path))
        return value

    monkeypatch.setattr(npz, "LARGEST_HELD", MEGABYTE)
    monkeypatch.setattr(npz.isal_zlib, "crc32", watched)
    open_npz(path)
    assert len(held) == 8
    # What is held when the last is read on top; the system reads ahead and behind a little.
    assert MEGABYTE <= max(held) < 4 * MEGABYTE


@MEMORY_CAN_BE_SEEN
def test_release_gives_back_the_memory_that_reading_took(large: Large) -> None:
    path, expected = large
    arrays = open_npz(path)
    for _ in range(2):
        for name, values in expected.items():
            np.testing.assert_array_equal(arrays[name], values)
        assert resident(path) > 7 * MEGABYTE
        arrays.release()
        assert resident(path) < MEGABYTE


def test_values_are_the_same_after_release(large: Large) -> None:
    path, expected = large
    arrays = open_npz(path)
    held = arrays["a3"]
    for _ in range(3):
        arrays.release()
        np.testing.assert_array_equal(held, expected["a3"])
        np.testing.assert_array_equal(arrays["a7"], expected["a7"])


def test_release_leaves_decompressed_arrays_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez_compressed(path, x=VALUES)
    arrays = open_npz(path)
    arrays.release()
    np.testing.assert_array_equal(arrays["x"], VALUES)


def test_release_does_nothing_where_the_system_cannot(
    large: Large, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = large
    monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    arrays = open_npz(path)
    arrays.release()
    np.testing.assert_array_equal(arrays["a0"], expected["a0"])


def test_streamed_arrays_are_the_chosen_ones_in_their_order(large: Large) -> None:
    path, expected = large
    streamed = open_npz(path).streamed(["a5", "a0", "a2"])
    assert isinstance(streamed, Mapping)
    assert list(streamed) == ["a5", "a0", "a2"]
    assert len(streamed) == 3
    assert "a0" in streamed
    assert "a1" not in streamed
    for name, values in streamed.items():
        np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize("name", ["a1", "nothing"])
def test_a_name_that_was_not_chosen_is_a_key_error(name: str, large: Large) -> None:
    path, _ = large
    with pytest.raises(KeyError, match=name):
        open_npz(path).streamed(["a5", "a0"])[name]


def test_a_chosen_name_that_the_file_lacks_is_a_key_error(large: Large) -> None:
    path, _ = large
    streamed = open_npz(path).streamed(["a5", "b5"])
    assert list(streamed) == ["a5", "b5"]
    with pytest.raises(KeyError, match="b5"):
        streamed["b5"]


def test_names_may_come_from_an_iterator(large: Large) -> None:
    path, _ = large
    streamed = open_npz(path).streamed(name for name in ("a1", "a2"))
    assert list(streamed) == list(streamed) == ["a1", "a2"]


@MEMORY_CAN_BE_SEEN
def test_streaming_holds_little_at_a_time(large: Large, monkeypatch: pytest.MonkeyPatch) -> None:
    path, expected = large
    monkeypatch.setattr(npz, "LARGEST_HELD", 2 * MEGABYTE)
    arrays = open_npz(path)
    held = []
    for name, values in arrays.streamed(arrays).items():
        np.testing.assert_array_equal(values, expected[name])
        held.append(resident(path))
    # Two may stay, a third goes beyond, and the next gives all of them back.
    assert 2 * MEGABYTE <= max(held) < 5 * MEGABYTE

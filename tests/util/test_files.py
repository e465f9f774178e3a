import hashlib
import json
import math
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from publisher.util.files import (
    json_bytes,
    sha256,
    sha256_file,
    sha256_tree,
    sha256_value,
    write_whole,
)


def test_makes_the_file_and_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.json"
    write_whole(path, b"content")
    assert path.read_bytes() == b"content"
    assert [child.name for child in path.parent.iterdir()] == ["file.json"]


def test_replaces_the_file_and_not_its_bytes(tmp_path: Path) -> None:
    """Whoever has the old file open goes on reading the old file."""
    path = tmp_path / "file"
    write_whole(path, b"the old content")
    with path.open("rb") as reader:
        assert reader.read(4) == b"the "
        write_whole(path, b"new")
        assert reader.read() == b"old content"
    assert path.read_bytes() == b"new"


def test_everyone_may_read_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_the_content_is_on_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    synced = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    write_whole(path, b"content")
    assert synced == [(7, False)]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(path, bytes(101))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_does_not_take_the_name_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "name", b"content")
    assert [child.name for child in tmp_path.iterdir()] == ["name"]


def test_json_is_readable_and_ends_its_last_line() -> None:
    value = {"b": [1, 2.5, None], "a": "größe"}
    written = json_bytes(value)
    assert written == (
        '{\n  "b": [\n    1,\n    2.5,\n    null\n  ],\n  "a": "größe"\n}\n'.encode()
    )
    assert json.loads(written) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_knows_no_such_number(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_bytes({"figure": value})


def test_the_digest_of_a_value_is_that_of_its_json_without_white_space() -> None:
    value = {"b": [1, 2.5, None], "a": "größe"}
    assert sha256_value(value) == sha256('{"b":[1,2.5,null],"a":"größe"}'.encode())
    assert sha256_value(dict(reversed(value.items()))) != sha256_value(value)
    with pytest.raises(ValueError, match="JSON"):
        sha256_value({"figure": math.nan})


@pytest.mark.parametrize("size", [0, 3, 1_000_003])
def test_digests_are_sha_256_of_the_content(size: int, tmp_path: Path) -> None:
    content = bytes(index % 251 for index in range(size))
    expected = hashlib.sha256(content).hexdigest()
    (tmp_path / "file").write_bytes(content)
    assert sha256(content) == sha256_file(tmp_path / "file") == expected


def test_the_digest_of_no_bytes_is_the_known_one() -> None:
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def tree(root: Path, files: dict[str, bytes]) -> str:
    paths = []
    for name, content in files.items():
        paths.append(root / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_bytes(content)
    return sha256_tree(paths, root)


def test_a_trees_digest_follows_from_names_and_contents_alone(tmp_path: Path) -> None:
    files: dict[str, Any] = {"b/1": b"one", "a.py": b"two", "b.py": b""}
    first = tree(tmp_path / "first", files)
    assert tree(tmp_path / "second", dict(reversed(files.items()))) == first
    for number, other in enumerate(
        (
            files | {"a.py": b"three"},
            files | {"c": b""},
            {"b/2": b"one", "a.py": b"two", "b.py": b""},
            {"aa/1": b"one", "a.py": b"two", "b.py": b""},
            {"b/1": b"two", "a.py": b"one", "b.py": b""},
            {"b/1": b"one", "a.py": b"two"},
        )
    ):
        assert tree(tmp_path / str(number), other) != first

"""What the next run knows of an upload that did not end."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from publisher.destinations.base import DestinationError
from publisher.destinations.sessions import LARGEST, Sessions


class Upload(BaseModel):
    key: str
    part: int = Field(0, strict=True)


def test_a_session_is_remembered_until_it_is_removed(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "folder", Upload)
    sessions.put("a/b", Upload(key="x"))
    sessions.put("a/b", Upload(key="y"))
    assert Sessions(tmp_path / "folder", Upload).get("a/b") == Upload(key="y")
    (kept,) = (tmp_path / "folder").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    sessions.remove("a/b")
    sessions.remove("a/b")
    assert sessions.get("a/b") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"no json", b'{"key": 1}', b"\xff", b"[" * 100_000, b" " * LARGEST + b"{}"],
    ids=lambda content: str(content[:9]),
)
def test_what_cannot_be_read_is_not_remembered(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a_b.json").write_bytes(content)
    assert Sessions(tmp_path, Upload).get("a/b") is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DestinationError, match=r"file: .*; check free space and permissions"):
        Sessions(tmp_path / "file", Upload).put("a/b", Upload(key="x"))

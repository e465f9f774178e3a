"""Atomic writes, and digests of files."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file at `path` atomically: write a temporary file beside it, sync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def json_bytes(value: Any) -> bytes:
    """Return `value` as indented JSON, its keys in their own order.

    Equal values give equal bytes. Raises `ValueError` for infinity and nan.
    """
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sha256(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_value(value: Any) -> str:
    """Return the hexadecimal SHA-256 of `value` as JSON without white space.

    Raises `ValueError` for infinity and nan.
    """
    # Indented JSON takes Python ten times longer.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return sha256(text.encode())


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(paths: Iterable[Path], root: Path) -> str:
    """Return one SHA-256 over the content of files and their names relative to `root`."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{sha256_file(path)}  {path.relative_to(root).as_posix()}\n".encode())
    return digest.hexdigest()

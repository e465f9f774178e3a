"""What identifies a weight file: its size and its SHA-256."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from publisher.weights.errors import WeightsError

CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Digest:
    """Size in bytes, and SHA-256 in 64 lower-case hexadecimal digits."""

    size: int
    sha256: str

    def __str__(self) -> str:
        """Return both, for messages."""
        return f"{self.size} bytes, sha256 {self.sha256}"


def digest_file(path: Path) -> Digest:
    """Return the digest of the file at `path`, read in chunks.

    Raises `WeightsError` when the file cannot be read.
    """
    sha256 = hashlib.sha256()
    size = 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                sha256.update(view[:count])
                size += count
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}). Check that it is a file and that "
            "you may read it."
        ) from None
    return Digest(size, sha256.hexdigest())

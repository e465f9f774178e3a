"""Computes the size and the SHA-256 of a weight file."""

import hashlib
from pathlib import Path

from publisher.documents.lock import Digest
from publisher.weights.errors import WeightsError

CHUNK = 1 << 20  # bytes


def digest_file(path: Path) -> Digest:
    """Return the digest of the file at `path`.

    Raises `WeightsError` if the file cannot be read.
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
            "you have permission to read it."
        ) from None
    return Digest(size=size, sha256=sha256.hexdigest())

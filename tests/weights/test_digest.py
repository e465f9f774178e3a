import hashlib
from pathlib import Path

import pytest

from publisher.weights import Digest, WeightsError, digest_file


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_is_size_and_sha256(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert digest_file(path) == Digest(size=size, sha256=hashlib.sha256(content).hexdigest())


def test_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="absent: cannot be read"):
        digest_file(tmp_path / "absent")

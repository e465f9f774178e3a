"""`models.lock.yaml`, which people may edit."""

from pathlib import Path

import pytest

from publisher.documents.errors import DocumentError
from publisher.documents.lock import Digest, lock_bytes, read_lock
from tests.documents.released import FOLDER, LOCK


def test_one_that_an_earlier_version_wrote_is_written_with_the_same_bytes() -> None:
    digests = read_lock(FOLDER / "models.lock.yaml")
    # YAML could take the second for a number.
    assert digests == {
        "distill/small.npz": Digest(size=102_234_567, sha256="1".zfill(64)),
        "second.npz": Digest(size=7, sha256="1234567890" * 6 + "1234"),
    }
    assert lock_bytes(dict(reversed(digests.items()))) == LOCK


def test_no_file_is_an_empty_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "models.lock.yaml") == {}


SHA = "ab" * 32
MALFORMED = {
    "not yaml": ("a.npz:\n  size: [1\n", 3, "not YAML"),
    "control character": ("a: \x07\n", 1, "not YAML"),
    "list": ("# note\n- a.npz\n", 2, "the file is not a mapping"),
    "key": ("[a]: {size: 1}\n", 1, "not text"),
    "entry": (f"a.npz: {{size: 1, sha256: {SHA}}}\nb.npz: 5\n", 2, "b.npz is not a mapping"),
    "unknown field": ("a.npz:\n  sise: 1\n", 2, "wrong entry 'sise'"),
    "twice a field": ("a.npz:\n  size: 1\n  size: 2\n", 3, "wrong entry 'size'"),
    "nested": ("a.npz:\n  size: {}\n", 2, "wrong entry 'size'"),
    "no size": (f"a.npz:\n  sha256: {SHA}\n", 2, "no size"),
    "negative size": (f"a.npz: {{size: -1, sha256: {SHA}}}\n", 1, "no size"),
    "huge size": (f"a.npz: {{size: {10**16}, sha256: {SHA}}}\n", 1, "no size"),
    "no sha256": ("a.npz:\n  size: 1\n", 2, "no sha256"),
    "short sha256": (f"a.npz: {{size: 1, sha256: {SHA[1:]}}}\n", 1, "no sha256"),
    "twice": (
        f"a.npz: {{size: 1, sha256: {SHA}}}\na.npz: {{size: 1, sha256: {SHA}}}\n",
        2,
        "a.npz is there twice",
    ),
}


@pytest.mark.parametrize(("text", "line", "problem"), MALFORMED.values(), ids=MALFORMED)
def test_points_at_what_is_malformed(tmp_path: Path, text: str, line: int, problem: str) -> None:
    path = tmp_path / "models.lock.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError, match=problem) as caught:
        read_lock(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "version control" in str(caught.value)


def test_refuses_what_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DocumentError, match="cannot be read"):
        read_lock(path)


def test_a_file_of_comments_is_an_empty_lock(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    path.write_text("# nothing yet\n")
    assert read_lock(path) == {}

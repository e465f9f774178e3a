import threading
from pathlib import Path

import pytest
import yaml

from publisher.weights import Digest, WeightsError, read_lock, record

ONE = Digest(100, "1" * 64)  # YAML could take it for a number
TWO = Digest(200, "ab" * 32)


def test_no_file_is_an_empty_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "models.lock.yaml") == {}


def test_gives_back_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    record(path, "distill/b.npz", ONE)
    record(path, "distill/a.npz", TWO)
    assert read_lock(path) == {"distill/a.npz": TWO, "distill/b.npz": ONE}


def test_is_sorted_explains_itself_and_is_plain_yaml(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    record(path, "distill/b.npz", ONE)
    record(path, "distill/a.npz", TWO)
    text = path.read_text()
    assert text.startswith("# The size and SHA-256 of every checkpoint")
    assert text.index("distill/a.npz") < text.index("distill/b.npz")
    assert yaml.safe_load(text) == {
        "distill/a.npz": {"size": 200, "sha256": "ab" * 32},
        "distill/b.npz": {"size": 100, "sha256": "1" * 64},
    }


def test_recording_the_same_again_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    record(path, "a.npz", ONE)
    before = path.stat()
    record(path, "a.npz", ONE)
    assert path.stat().st_ino == before.st_ino


def test_never_overwrites_a_record(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    record(path, "a.npz", ONE)
    with pytest.raises(WeightsError, match=r"recorded as 100 bytes.* is now 200 bytes"):
        record(path, "a.npz", TWO)
    assert read_lock(path) == {"a.npz": ONE}


def test_records_made_at_once_all_stay(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    names = [f"{number}.npz" for number in range(16)]
    start = threading.Barrier(len(names))

    def add(name: str) -> None:
        start.wait()
        record(path, name, ONE)

    threads = [threading.Thread(target=add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_lock(path)) == sorted(names)


def test_leaves_only_the_lock_of_the_lock_beside_it(tmp_path: Path) -> None:
    record(tmp_path / "models.lock.yaml", "a.npz", ONE)
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names - {".models.lock.yaml.lock"} == {"models.lock.yaml"}


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
    with pytest.raises(WeightsError, match=problem) as caught:
        read_lock(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "version control" in str(caught.value)


def test_records_nothing_in_a_malformed_file(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    path.write_text("- a\n")
    with pytest.raises(WeightsError):
        record(path, "a.npz", ONE)
    assert path.read_text() == "- a\n"


def test_refuses_what_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_lock(path)


def test_a_file_of_comments_is_an_empty_lock(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    path.write_text("# nothing yet\n")
    assert read_lock(path) == {}

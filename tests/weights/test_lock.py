import threading
from pathlib import Path

import pytest

from publisher.documents.errors import DocumentError
from publisher.weights import Digest, WeightsError, read_lock, record

ONE = Digest(size=100, sha256="1" * 64)  # YAML could take it for a number
TWO = Digest(size=200, sha256="ab" * 32)


def test_gives_back_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    record(path, "distill/b.npz", ONE)
    record(path, "distill/a.npz", TWO)
    assert read_lock(path) == {"distill/a.npz": TWO, "distill/b.npz": ONE}


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


def test_records_nothing_in_a_malformed_file(tmp_path: Path) -> None:
    path = tmp_path / "models.lock.yaml"
    path.write_text("- a\n")
    with pytest.raises(DocumentError):
        record(path, "a.npz", ONE)
    assert path.read_text() == "- a\n"

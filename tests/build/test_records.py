import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.build.records import outputs_digest, read_record, why_stale, write_record
from publisher.documents.record import Record

INPUTS = {"weights": "a" * 64, "tensorflow": "2.21.0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stage's folder: two files in `saved_model/`, and a record of them."""
    folder = tmp_path / "build"
    model = folder / "saved_model"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"graph")
    (model / "variables" / "variables.index").write_bytes(b"index")
    write_record(folder / "records" / "convert.json", INPUTS, [model], {"size": 10})
    return folder


def record_of(folder: Path) -> Record:
    record = read_record(folder / "records" / "convert.json")
    assert record is not None
    return record


def test_a_record_is_read_as_it_was_written(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.json"
    written = write_record(path, INPUTS, [folder / "saved_model"], {"sha256": "b", "pixels": [1]})
    assert read_record(path) == written
    assert written.result == {"sha256": "b", "pixels": [1]}
    assert sorted(written.outputs) == [
        str(folder / "saved_model" / "saved_model.pb"),
        str(folder / "saved_model" / "variables" / "variables.index"),
    ]


def test_there_is_no_record_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none.json") is None
    assert read_record(tmp_path) is None
    assert why_stale(None, INPUTS) == "not built yet"


def emptied(content: bytes) -> bytes:
    return b""


def cut_off(content: bytes) -> bytes:
    return content[:-20]


def changed_by_hand(content: bytes) -> bytes:
    return content.replace(b'"size": 10', b'"size": 11')


def without_its_result(content: bytes) -> bytes:
    document = json.loads(content)
    del document["record"]["result"]
    return json.dumps(document).encode()


def another_document(content: bytes) -> bytes:
    return b'{"inputs": {}, "outputs": [], "result": null}'


def a_list(content: bytes) -> bytes:
    return b"[1, 2]"


def a_deep_list(content: bytes) -> bytes:
    return b"[" * 100_000


def not_text(content: bytes) -> bytes:
    return b"\xff\xfe\x00"


@pytest.mark.parametrize(
    "spoil",
    [
        emptied,
        cut_off,
        changed_by_hand,
        without_its_result,
        another_document,
        a_list,
        a_deep_list,
        not_text,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_a_spoiled_record_counts_as_none(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = folder / "records" / "convert.json"
    path.write_bytes(spoil(path.read_bytes()))
    assert read_record(path) is None


def test_the_same_inputs_and_intact_outputs_are_up_to_date(folder: Path) -> None:
    assert why_stale(record_of(folder), dict(INPUTS)) == ""


def test_the_reason_names_what_changed_and_short_values(folder: Path) -> None:
    record = record_of(folder)
    newer = {"weights": "b" * 64, "tensorflow": "2.22.0"}
    assert why_stale(record, newer) == "weights changed, tensorflow changed from 2.21.0 to 2.22.0"


def test_an_input_that_came_or_went_is_a_change(folder: Path) -> None:
    record = record_of(folder)
    assert why_stale(record, {**INPUTS, "numpy": "2"}) == "numpy changed"
    assert why_stale(record, {"weights": INPUTS["weights"]}) == "tensorflow changed"


def test_a_missing_output_is_a_reason(folder: Path) -> None:
    (folder / "saved_model" / "saved_model.pb").unlink()
    assert why_stale(record_of(folder), INPUTS) == "saved_model.pb is missing"


def test_an_output_of_another_size_is_a_reason_whatever_its_time(folder: Path) -> None:
    path = folder / "saved_model" / "saved_model.pb"
    before = path.stat().st_mtime_ns
    path.write_bytes(b"a graph")
    os.utime(path, ns=(before, before))
    assert why_stale(record_of(folder), INPUTS) == "saved_model.pb was changed on disk"


def test_an_output_with_other_bytes_of_the_same_size_is_a_reason(folder: Path) -> None:
    path = folder / "saved_model" / "saved_model.pb"
    before = path.stat().st_mtime_ns
    path.write_bytes(b"GRAPH")
    os.utime(path, ns=(before + 1, before + 1))
    assert why_stale(record_of(folder), INPUTS) == "saved_model.pb was changed on disk"


def test_a_touched_but_equal_output_is_no_reason(folder: Path) -> None:
    os.utime(folder / "saved_model" / "saved_model.pb", ns=(1, 1))
    assert why_stale(record_of(folder), INPUTS) == ""


def test_an_output_that_cannot_be_read_is_a_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    os.utime(folder / "saved_model" / "saved_model.pb", ns=(1, 1))
    monkeypatch.setattr("publisher.build.records.sha256_file", refused)
    reason = why_stale(record_of(folder), INPUTS)
    assert reason == "saved_model.pb cannot be read (Permission denied)"


def test_a_build_folder_may_be_moved(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "deeper"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    record = record_of(moved)
    assert why_stale(record, INPUTS) == ""
    assert all(Path(name).is_relative_to(moved) for name in record.outputs)


def test_a_digest_of_outputs_follows_names_and_content_and_not_the_place(
    folder: Path, tmp_path: Path
) -> None:
    digest = outputs_digest(record_of(folder), folder / "saved_model")
    assert [line[64:] for line in digest.splitlines()] == [
        "  saved_model.pb",
        "  variables/variables.index",
    ]
    shutil.copytree(folder, tmp_path / "copy")
    copied = outputs_digest(record_of(tmp_path / "copy"), tmp_path / "copy" / "saved_model")
    assert copied == digest
    roundabout = tmp_path / "copy" / ".." / "build" / "saved_model"
    assert outputs_digest(record_of(folder), roundabout) == digest
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"other")
    write_record(folder / "records" / "convert.json", INPUTS, [folder / "saved_model"], {})
    assert outputs_digest(record_of(folder), folder / "saved_model") != digest

"""The record of a stage, as a run before left it."""

import pytest

from publisher.documents.errors import DocumentError
from publisher.documents.record import Output, read_stage_record, stage_record_bytes
from tests.documents.released import RECORD, Edit, edited


def test_one_that_an_earlier_version_wrote_still_counts() -> None:
    record = read_stage_record(RECORD)
    assert record.inputs == {"weights": "a" * 64, "tensorflow": "2.21.0"}
    assert list(record.outputs.values()) == [
        Output(
            size=5,
            mtime_ns=1764500000123456789,
            sha256="eef93e1d14482804277fca0172464032d1a4fdbcc338524059fa1e861454ad4d",
        )
    ]
    assert record.result == {"size": 10, "seconds": 1.5e-05, "names": ["é"], "nothing": None}
    assert stage_record_bytes(record) == RECORD


@pytest.mark.parametrize(
    "edit",
    [
        lambda it: it["record"]["result"].update(size=11),
        lambda it: it["record"].update(more=1),
        lambda it: it["record"].pop("result"),
        lambda it: it.pop("sha256"),
        lambda it: it.update(sha256="0" * 64),
    ],
)
def test_one_that_was_changed_is_refused(edit: Edit) -> None:
    with pytest.raises(DocumentError, match=r"^the record"):
        read_stage_record(edited(RECORD, edit))

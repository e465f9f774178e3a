"""The record of a finished stage: its inputs, its output files and its result.

Its file has a digest, by which a damaged record is recognized.
"""

from typing import Any

from publisher.documents.document import Document, Part
from publisher.documents.errors import DocumentError
from publisher.documents.fields import Count, Sha256
from publisher.util.files import sha256_value


class Output(Part):
    """An output file of a stage: its size in bytes, modification time in ns, and SHA-256."""

    size: Count
    mtime_ns: int
    sha256: Sha256


class Record(Part):
    """A finished stage.

    `inputs` are short texts: a digest, a setting, a version. `outputs` are files by path, which
    the record's file has relative to its folder, so that a build folder can be moved.
    """

    inputs: dict[str, str]
    outputs: dict[str, Output]
    result: dict[str, Any]


class RecordFile(Document):
    """A record with the SHA-256 of its JSON without white space."""

    sha256: str
    record: Record


def read_stage_record(content: bytes) -> Record:
    """Parse and check a record.

    Raises `DocumentError` if it is invalid or was changed after it was written.
    """
    found = RecordFile.read(content, "the record")
    if found.sha256 != sha256_value(found.as_json()["record"]):
        raise DocumentError("the record was changed since it was written")
    return found.record


def stage_record_bytes(record: Record) -> bytes:
    """Return the content of a record's file."""
    return RecordFile(sha256=sha256_value(record.as_json()), record=record).as_bytes()

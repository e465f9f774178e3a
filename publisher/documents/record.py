"""The record of a finished stage: what it was made from, what it left, and what it found.

A digest of the record tells a spoiled one from a good one.
"""

from typing import Any

from publisher.documents.document import Document, Part
from publisher.documents.errors import DocumentError
from publisher.documents.fields import Count, Sha256
from publisher.util.files import sha256_value


class Output(Part):
    """A file that a stage left: its size in bytes, time of change in ns, and SHA-256."""

    size: Count
    mtime_ns: int
    sha256: Sha256


class Record(Part):
    """A finished stage.

    `inputs` are short texts: a digest, a setting, a version. `outputs` are files by path; in
    the file relative to its folder, so that a build folder may be moved.
    """

    inputs: dict[str, str]
    outputs: dict[str, Output]
    result: dict[str, Any]


class RecordFile(Document):
    """A record with the SHA-256 of its JSON without white space."""

    sha256: str
    record: Record


def read_stage_record(content: bytes) -> Record:
    """Return a record that was written as JSON.

    Raises `DocumentError` if it is none, or was changed since it was written.
    """
    found = RecordFile.read(content, "the record")
    if found.sha256 != sha256_value(found.as_json()["record"]):
        raise DocumentError("the record was changed since it was written")
    return found.record


def stage_record_bytes(record: Record) -> bytes:
    """Return the content of the file of a record."""
    return RecordFile(sha256=sha256_value(record.as_json()), record=record).as_bytes()

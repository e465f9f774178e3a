"""Records of stages on disk, and whether a stage is stale.

A record is a JSON file beside the artifact, in the form of `publisher.documents.record`. A stage
is up to date if its inputs are the same and its outputs are intact.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from publisher.documents.errors import DocumentError
from publisher.documents.record import Output, Record, read_stage_record, stage_record_bytes
from publisher.util.files import sha256_file, write_whole


def read_record(path: Path) -> Record | None:
    """Return the record at `path`; None if it is missing or damaged."""
    try:
        record = read_stage_record(path.read_bytes())
    except (OSError, DocumentError):
        return None
    outputs = {
        os.path.normpath(path.parent / name): output for name, output in record.outputs.items()
    }
    return record.model_copy(update={"outputs": outputs})


def write_record(
    path: Path,
    inputs: Mapping[str, str],
    outputs: Iterable[Path],
    result: Mapping[str, Any],
    digests: Mapping[Path, str] | None = None,
) -> Record:
    """Write the record of a finished stage; directories in `outputs` stand for all their files.

    Files with a SHA-256 in `digests` are not hashed again.
    """
    known = digests or {}
    described: dict[str, Output] = {}
    for file in _files(outputs):
        status = file.stat()
        described[os.path.normpath(file)] = Output(
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            sha256=known.get(file) or sha256_file(file),
        )
    record = Record(inputs=dict(inputs), outputs=described, result=dict(result))
    relative = {os.path.relpath(name, path.parent): output for name, output in described.items()}
    write_whole(path, stage_record_bytes(record.model_copy(update={"outputs": relative})))
    return record


def why_stale(record: Record | None, inputs: Mapping[str, str]) -> str:
    """Return why the stage has to run, in a few words; empty if it is up to date.

    A file with the recorded size and modification time counts as intact. If only the time
    differs, the file is hashed again.
    """
    if record is None:
        return "not built yet"
    changes = [
        _change(name, record.inputs.get(name), inputs.get(name))
        for name in {**record.inputs, **inputs}
        if record.inputs.get(name) != inputs.get(name)
    ]
    if changes:
        return ", ".join(changes)
    for name, recorded in record.outputs.items():
        path = Path(name)
        try:
            if not path.is_file():
                return f"{path.name} is missing"
            status = path.stat()
            if status.st_size != recorded.size:
                return f"{path.name} was changed on disk"
            touched = status.st_mtime_ns != recorded.mtime_ns
            if touched and sha256_file(path) != recorded.sha256:
                return f"{path.name} was changed on disk"
        except OSError as error:
            return f"{path.name} cannot be read ({error.strerror})"
    return ""


def outputs_digest(record: Record, root: Path) -> str:
    """Return a text of all outputs' digests and names relative to `root`."""
    lines = [
        f"{recorded.sha256}  {Path(os.path.relpath(name, root)).as_posix()}"
        for name, recorded in sorted(record.outputs.items())
    ]
    return "\n".join(lines)


def _files(outputs: Iterable[Path]) -> list[Path]:
    found = []
    for path in outputs:
        if path.is_dir():
            found += sorted(child for child in path.rglob("*") if child.is_file())
        else:
            found.append(path)
    return found


def _change(name: str, before: str | None, now: str | None) -> str:
    if before is None or now is None or max(len(before), len(now)) > 40:
        return f"{name} changed"
    return f"{name} changed from {before} to {now}"

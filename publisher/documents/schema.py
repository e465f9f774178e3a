"""JSON schemas of the documents, for other programs that read them.

    python -m publisher.documents.schema [folder]

writes them to the folder, or to docs/schemas.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from publisher.documents.index import Index
from publisher.documents.lock import Lock
from publisher.documents.manifest import Manifest
from publisher.documents.plan import SavedPlans
from publisher.documents.record import RecordFile
from publisher.documents.report import Report
from publisher.util.files import json_bytes, write_whole

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = "docs/schemas"
SCHEMAS: Mapping[str, type[BaseModel]] = {
    "index.schema.json": Index,
    "lock.schema.json": Lock,
    "manifest.schema.json": Manifest,
    "plan.schema.json": SavedPlans,
    "record.schema.json": RecordFile,
    "report.schema.json": Report,
}


def schema_of(model: type[BaseModel]) -> bytes:
    """Return the JSON schema of a model; equal models give equal bytes."""
    return json_bytes({"$schema": DIALECT, **model.model_json_schema()})


if __name__ == "__main__":
    for name, model in SCHEMAS.items():
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else FOLDER)
        write_whole(folder / name, schema_of(model))

"""The schemas in docs/schemas, which say of a document what its reader says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from publisher.documents.schema import SCHEMAS, schema_of
from tests.documents.released import INDEX, LOCK, MANIFEST, PLAN, RECORD

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
DOCUMENTS: dict[str, Any] = {
    "index.schema.json": json.loads(INDEX),
    "lock.schema.json": yaml.safe_load(LOCK),
    "manifest.schema.json": json.loads(MANIFEST),
    "plan.schema.json": json.loads(PLAN),
    "record.schema.json": json.loads(RECORD),
    "report.schema.json": json.loads(MANIFEST)["validation"],
}


def test_the_module_writes_what_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "publisher.documents.schema", str(tmp_path)]
    subprocess.run(command, check=True)
    there = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == there, "run make schema"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_published_document_keeps_its_schema(name: str) -> None:
    schema = json.loads(schema_of(SCHEMAS[name]))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(DOCUMENTS[name], schema, jsonschema.Draft202012Validator)
    assert all(part["description"] for part in (schema, *schema["$defs"].values()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("index.schema.json", {"schema_version": 2}),
        ("index.schema.json", {"models": [{}]}),
        ("lock.schema.json", {"a.npz": {"size": -1, "sha256": "a" * 64}}),
        ("manifest.schema.json", {"handle": "../../x/1"}),
        ("manifest.schema.json", {"archive": {"file": "../secret"}}),
        ("plan.schema.json", {"run": "rm"}),
        ("record.schema.json", {"record": {"inputs": {}}}),
        ("report.schema.json", {"checks": [{"name": "a", "status": "fine", "summary": ""}]}),
    ],
)
def test_a_schema_sees_what_the_reader_sees(name: str, change: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_of(SCHEMAS[name])))
    assert validator.is_valid(DOCUMENTS[name])
    assert not validator.is_valid({**DOCUMENTS[name], **change})

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from publisher.families import ARCHITECTURES
from publisher.registry.schema import schema_json

from .conftest import GOOD, edited

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(schema_json())
    return loaded


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Any:
    # To import it takes seconds: it makes parsers for every kind of string there is.
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_file_is_in_step_with_the_models() -> None:
    assert (ROOT / "models.schema.json").read_bytes() == schema_json(), "run make schema"


def test_it_is_a_schema_and_the_registry_keeps_it(validator: Any) -> None:
    validator.validate(yaml.safe_load((ROOT / "models.yaml").read_text()))


def test_the_registry_names_its_schema() -> None:
    first = (ROOT / "models.yaml").read_text().split("\n")[0]
    assert first == "# yaml-language-server: $schema=models.schema.json"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("classes: 3", "clases: 3"),
        ("classes: 3", "classes: 0"),
        ("classes: 3", "classes: '3'"),
        ("    resolution: 64\n", ""),
        ("R20x0.5", "R20x5"),
        ("head: classifier", "head: other"),
        ("head: classifier", "head: classifier\n    weight_standardization: foldet"),
        ("[other]", "[otter]"),
        ("[other]", "[other, other]"),
        ("[-1, 1]", "[1]"),
        ("distill/small.npz", "../small.npz"),
        ("small_features/1", "small_features/0"),
        ("paul/small_features", "paul/collections"),
        ("[sayakpaul/old_small]", "[sayakpaul/old_small/1]"),
        ("collections/bit-resnet/1", "bit-resnet/1"),
        ("asset_base: https:", "asset_base: http:"),
        ("  small:\n", "  sm all:\n"),
    ],
)
def test_an_editor_sees_what_the_program_sees(validator: Any, old: str, new: str) -> None:
    good = yaml.safe_load(edited(("2e-4", "2.0e-4")))
    assert validator.is_valid(good)
    bad = yaml.safe_load(edited(("2e-4", "2.0e-4"), (old, new)))
    assert not validator.is_valid(bad)


def test_an_editor_can_complete_and_explain_everything(schema: dict[str, Any]) -> None:
    models = {"Registry": schema, **schema["$defs"]}
    for name, model in models.items():
        assert model["description"], name
        assert model["additionalProperties"] is False, name
        for key, field in model["properties"].items():
            assert field.get("description") or "$ref" in field, (name, key)
    checkpoint = schema["$defs"]["Checkpoint"]["properties"]
    assert checkpoint["architecture"]["enum"] == list(ARCHITECTURES)
    assert schema["$defs"]["Variant"]["properties"]["head"]["enum"] == [
        "classifier",
        "feature_extractor",
    ]
    standardization = schema["$defs"]["Variant"]["properties"]["weight_standardization"]
    assert standardization["enum"] == ["computed", "folded"]
    assert standardization["default"] == "computed"


def test_the_module_writes_the_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    command = [sys.executable, "-W", "error", "-m", "publisher.registry.schema", str(target)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert target.read_bytes() == schema_json()


def test_the_schema_does_not_depend_on_what_is_in_a_registry() -> None:
    assert "sayakpaul" not in schema_json().decode()
    assert "sayakpaul" in GOOD

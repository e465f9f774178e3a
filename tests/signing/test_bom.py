"""The bill of materials, held to CycloneDX's own schema."""

import json
from pathlib import Path
from typing import Any

import pytest

from publisher.documents.manifest import SYNTHETIC_NOTICE, Manifest
from publisher.documents.values import LICENSES
from publisher.registry import Registry
from publisher.signing.bom import bom, read_bom
from publisher.signing.errors import SigningError
from publisher.util.files import json_bytes
from tests.releases import altered, build, edited, registry_of

TOOLCHAIN = {"tensorflow": "2.21.0", "isal": "1.8.0", "publisher": "0.1.0", "platform": "Linux"}
FOLDED = ("    head: classifier\n", "    head: classifier\n    weight_standardization: folded\n")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path)


def manifest_of(registry: Registry, folder: Path, **facts: Any) -> Manifest:
    facts = {"toolchain": TOOLCHAIN, "synthetic": False, **facts}
    return build(registry, folder, only="small_cl", **facts)[0][1]


@pytest.fixture
def manifest(registry: Registry, tmp_path: Path) -> Manifest:
    """The manifest of a classifier with real weights."""
    return manifest_of(registry, tmp_path)


def made(manifest: Manifest, registry: Registry) -> dict[str, Any]:
    """Return the bill of materials; whatever is in it, the schema allows it."""
    content = bom(manifest, registry.checkpoints.get(manifest.checkpoint.name))
    # To import it takes seconds: it makes parsers for every kind of string there is.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(content))
    assert problem is None, problem
    return content


def test_it_names_the_model_and_its_archive(manifest: Manifest, registry: Registry) -> None:
    model = made(manifest, registry)["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert (model["group"], model["name"], model["version"]) == (
        "sayakpaul",
        "small_classification",
        "1",
    )
    assert model["hashes"] == [{"alg": "SHA-256", "content": manifest.archive.sha256}]
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert "description" not in model


def test_its_card_says_what_goes_in_and_comes_out(manifest: Manifest, registry: Registry) -> None:
    card = made(manifest, registry)["metadata"]["component"]["modelCard"]
    assert card["modelParameters"] == {
        "approach": {"type": "supervised"},
        "task": "image-classification",
        "architectureFamily": "bit",
        "modelArchitecture": "R20x0.5",
        "datasets": [{"ref": "dataset:other"}],
        "inputs": [{"format": "images: float32 [any, any, any, 3], values from -1 to 1"}],
        "outputs": [{"format": "logits: float32 [any, 3]"}],
    }
    assert card["considerations"]["useCases"] == ["image-classification"]
    (limitation,) = card["considerations"]["technicalLimitations"]
    assert limitation == "Trained for images of 64 x 64 pixels; a side has 32 at least"


def test_a_feature_extractor_has_another_task(registry: Registry, tmp_path: Path) -> None:
    (_, manifest, _), *_ = build(registry, tmp_path, only="small_features")
    parameters = made(manifest, registry)["metadata"]["component"]["modelCard"]["modelParameters"]
    assert parameters["task"] == "image-feature-vector"


def test_it_lists_weights_data_and_libraries(manifest: Manifest, registry: Registry) -> None:
    content = made(manifest, registry)
    weights, data, tensorflow, isal = content["components"]
    assert weights["name"] == "distill/small.npz"
    assert weights["hashes"][0]["content"] == manifest.checkpoint.sha256
    assert weights["description"] == "Made up."
    assert (data["type"], data["name"]) == ("data", "other")
    assert tensorflow["purl"] == "pkg:pypi/tensorflow@2.21.0"
    assert isal["version"] == "1.8.0"
    assert content["metadata"]["tools"]["components"] == [
        {"type": "application", "name": "publisher", "version": "0.1.0"}
    ]


def test_what_depends_on_what_is_all_there(manifest: Manifest, registry: Registry) -> None:
    content = made(manifest, registry)
    parts = {one["bom-ref"] for one in content["components"]} | {manifest.handle}
    dependencies = {one["ref"]: one.get("dependsOn", []) for one in content["dependencies"]}
    assert set(dependencies) == parts
    assert {name for needed in dependencies.values() for name in needed} < parts
    assert dependencies["weights"] == ["dataset:other"]


def test_synthetic_weights_are_called_so(registry: Registry, tmp_path: Path) -> None:
    content = made(manifest_of(registry, tmp_path, synthetic=True), registry)
    model = content["metadata"]["component"]
    assert model["description"] == SYNTHETIC_NOTICE
    assert model["modelCard"]["considerations"]["technicalLimitations"][0] == SYNTHETIC_NOTICE
    assert content["components"][0]["description"] == SYNTHETIC_NOTICE


def test_a_folded_model_is_for_prediction_only(tmp_path: Path) -> None:
    registry = registry_of(tmp_path, edited(FOLDED))
    card = made(manifest_of(registry, tmp_path), registry)["metadata"]["component"]["modelCard"]
    assert "cannot be fine-tuned" in card["considerations"]["technicalLimitations"][-1]


@pytest.mark.parametrize("license_", LICENSES)
def test_every_license_of_the_registry_is_one_of_the_schema(license_: str, tmp_path: Path) -> None:
    text = edited(("training: Made up.", f"license: {license_}\n    training: Made up."))
    registry = registry_of(tmp_path, text)
    (found,) = made(manifest_of(registry, tmp_path), registry)["metadata"]["component"]["licenses"]
    if license_ == "custom":
        assert found == {"license": {"name": "custom"}}
    else:
        assert found["license"]["id"].lower() == license_


def test_of_a_checkpoint_that_left_the_registry_less_is_said(
    manifest: Manifest, registry: Registry
) -> None:
    gone = altered(manifest, lambda document: document["checkpoint"].update(name="gone"))
    content = made(gone, registry)
    assert "licenses" not in content["metadata"]["component"]
    assert "description" not in content["components"][0]


def test_a_manifest_without_a_toolchain_lists_none(manifest: Manifest, registry: Registry) -> None:
    content = made(manifest.model_copy(update={"toolchain": {}}), registry)
    assert [one["bom-ref"] for one in content["components"]] == ["weights", "dataset:other"]
    assert "tools" not in content["metadata"]


def test_the_same_facts_give_the_same_bytes_and_others_another_number(
    manifest: Manifest, registry: Registry
) -> None:
    first, second = made(manifest, registry), made(manifest.model_copy(), registry)
    assert json_bytes(first) == json_bytes(second)
    other = made(manifest.model_copy(update={"resolution": 65}), registry)
    assert first["serialNumber"] != other["serialNumber"]


def test_which_archive_it_is_of_is_read_back(manifest: Manifest, registry: Registry) -> None:
    content = json_bytes(made(manifest, registry))
    assert read_bom(content) == (manifest.archive.sha256, 4)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"bomFormat": "SPDX", "metadata": {"component": {"hashes": []}}}',
        b'{"bomFormat": "CycloneDX", "metadata": {"component": {"hashes": [1]}}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_bill_of_materials_is_refused(content: bytes) -> None:
    with pytest.raises(SigningError, match="is not a bill of materials"):
        read_bom(content)


def test_one_of_nothing_or_of_two_archives_names_none() -> None:
    hashes = [{"alg": "SHA-256", "content": "a"}, {"alg": "SHA-256", "content": "b"}]
    for found in ([], hashes):
        content = {"bomFormat": "CycloneDX", "metadata": {"component": {"hashes": found}}}
        assert read_bom(json_bytes(content)) == ("", 0)

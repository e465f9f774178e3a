"""The statement on how a version was made: what it says, and that it says no more."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from publisher.documents.manifest import SYNTHETIC_NOTICE, Manifest
from publisher.signing.errors import SigningError
from publisher.signing.origin import RUNNER, Origin
from publisher.signing.provenance import BUILD_TYPE, provenance, read_provenance
from publisher.util.files import json_bytes, sha256
from tests.releases import altered, build, registry_of

UPSTREAM = "https://weights.example/bit/"
TOOLCHAIN = {
    "tensorflow": "2.21.0",
    "Some_Package": "1.0+local",
    "publisher": "0.1.0",
    "platform": "Linux x86_64",
}
LOCAL = Origin("a" * 40, "https://git.example/bit", False)
RUN = "https://github.com/somebody/bit/actions/runs/1/attempts/1"
WORKFLOW = "https://github.com/somebody/bit/.github/workflows/release.yml@refs/tags/v1"
IN_CI = Origin("b" * 40, "https://github.com/somebody/bit", False, RUNNER, WORKFLOW, RUN)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The manifest of a model with real weights."""
    registry = registry_of(tmp_path)
    built = build(registry, tmp_path, only="small_cl", toolchain=TOOLCHAIN, synthetic=False)
    return built[0][1]


def statement_of(manifest: Manifest, source: Origin = LOCAL) -> dict[str, Any]:
    return provenance(manifest, manifest.as_bytes(), upstream=UPSTREAM, source=source)


def dependencies(statement: dict[str, Any]) -> dict[str, Any]:
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    return {one["name"]: one for one in found}


def test_it_is_a_statement_as_in_toto_defines_it(manifest: Manifest) -> None:
    statement = statement_of(manifest, IN_CI)
    parsed = json_format.ParseDict(statement, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert set(statement["predicate"]) == {"buildDefinition", "runDetails"}


def test_its_subjects_are_the_archive_and_the_manifest(manifest: Manifest) -> None:
    assert statement_of(manifest)["subject"] == [
        {"name": "model.tar.gz", "digest": {"sha256": manifest.archive.sha256}},
        {"name": "manifest.json", "digest": {"sha256": sha256(manifest.as_bytes())}},
    ]


def test_parameters_are_what_the_registry_says(manifest: Manifest) -> None:
    definition = statement_of(manifest)["predicate"]["buildDefinition"]
    assert definition["buildType"] == BUILD_TYPE
    assert definition["externalParameters"] == {
        "handle": "sayakpaul/small_classification/1",
        "architecture": "R20x0.5",
        "head": "classifier",
        "weight_standardization": "computed",
        "classes": 3,
        "resolution": 64,
        "input_range": [-1.0, 1.0],
        "synthetic": False,
        "checkpoint": {"name": "small", "path": "distill/small.npz"},
    }
    assert definition["internalParameters"] == {
        "publisher": "0.1.0",
        "platform": "Linux x86_64",
    }


def test_it_depends_on_weights_source_and_tools(manifest: Manifest) -> None:
    found = dependencies(statement_of(manifest))
    assert list(found) == ["weights", "source", "tensorflow", "Some_Package"]
    assert found["weights"] == {
        "name": "weights",
        "uri": "https://weights.example/bit/distill/small.npz",
        "digest": {"sha256": sha256(b"weights")},
    }
    assert found["source"]["uri"] == "git+https://git.example/bit"
    assert found["source"]["digest"] == {"gitCommit": "a" * 40}
    assert found["tensorflow"]["uri"] == "pkg:pypi/tensorflow@2.21.0"
    assert found["Some_Package"]["uri"] == "pkg:pypi/some-package@1.0%2Blocal"


def test_the_source_is_marked_as_that_of_the_run_that_signs(manifest: Manifest) -> None:
    changed = Origin("a" * 40, None, True)
    found = dependencies(statement_of(manifest, changed))["source"]
    assert "uri" not in found
    assert found["annotations"] == {"recorded": "when it was signed", "dirty": True}


def test_synthetic_weights_are_called_so_and_come_from_nowhere(manifest: Manifest) -> None:
    statement = statement_of(manifest.model_copy(update={"synthetic": True}))
    weights = dependencies(statement)["weights"]
    assert "uri" not in weights
    assert weights["annotations"] == {"notice": SYNTHETIC_NOTICE}
    assert UPSTREAM not in json.dumps(statement)


def test_what_is_not_known_is_said_to_be_unknown(manifest: Manifest) -> None:
    statement = statement_of(manifest, Origin())
    assert "source" not in dependencies(statement)
    definition = statement["predicate"]["buildDefinition"]
    assert definition["internalParameters"]["commit"] == "unknown"
    assert statement["predicate"]["runDetails"] == {"builder": {"id": "local"}}


def test_in_ci_it_names_the_runner_the_workflow_and_the_run(manifest: Manifest) -> None:
    predicate = statement_of(manifest, IN_CI)["predicate"]
    assert predicate["runDetails"] == {
        "builder": {"id": RUNNER},
        "metadata": {"invocationId": RUN},
    }
    assert predicate["buildDefinition"]["internalParameters"]["workflow"] == WORKFLOW


def test_the_same_inputs_give_the_same_bytes(manifest: Manifest) -> None:
    first, second = statement_of(manifest, IN_CI), statement_of(manifest.model_copy(), IN_CI)
    assert json_bytes(first) == json_bytes(second)


def test_an_older_manifest_has_less_to_say(manifest: Manifest) -> None:
    """Manifests name weight standardization since there is a choice."""
    older = altered(manifest, lambda document: document.pop("weight_standardization"))
    parameters = statement_of(older)["predicate"]["buildDefinition"]["externalParameters"]
    assert "weight_standardization" not in parameters


# Read again


def test_what_it_claims_is_read_back(manifest: Manifest) -> None:
    claims = read_provenance(json_bytes(statement_of(manifest, IN_CI)))
    assert claims.subjects == {
        "model.tar.gz": manifest.archive.sha256,
        "manifest.json": sha256(manifest.as_bytes()),
    }
    assert claims.commit == "b" * 40
    assert claims.repository == "git+https://github.com/somebody/bit"
    assert claims.dirty is False
    assert claims.builder == RUNNER


def test_of_an_unknown_source_nothing_is_claimed(manifest: Manifest) -> None:
    claims = read_provenance(json_bytes(statement_of(manifest, Origin())))
    assert (claims.commit, claims.repository, claims.dirty) == (None, None, False)


def changed(manifest: Manifest, path: list[str | int], value: Any) -> bytes:
    statement: Any = statement_of(manifest)
    place = statement
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json_bytes(statement)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["_type"], "https://in-toto.io/Statement/v0.1"),
        (["predicateType"], "https://slsa.dev/provenance/v0.2"),
        (["subject"], []),
        (["subject", 1, "name"], "model.tar.gz"),
        (["subject", 0, "digest", "sha256"], "A" * 64),
        (["subject", 0, "digest"], None),
        (["predicate"], {}),
        (["predicate", "runDetails", "builder", "id"], "\x1b[31m"),
        (["predicate", "runDetails", "builder", "id"], "a" * 301),
    ],
)
def test_what_is_no_such_statement_is_refused(
    path: list[str | int], value: Any, manifest: Manifest
) -> None:
    with pytest.raises(SigningError, match="is not a provenance statement") as caught:
        read_provenance(changed(manifest, path, value))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{", b"[" * 100_000])
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(SigningError, match="is not a provenance statement"):
        read_provenance(content)

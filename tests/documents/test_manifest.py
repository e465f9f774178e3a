"""A manifest that somebody else wrote."""

import pytest

from publisher.documents.errors import DocumentError
from publisher.documents.manifest import read_manifest
from tests.documents.released import MANIFEST, Edit, edited


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda m: m.update(schema_version=2), "schema_version"),
        (lambda m: m.pop("schema_version"), "schema_version"),
        (lambda m: m.pop("handle"), "handle"),
        (lambda m: m.update(handle="../../x/1"), "handle"),
        (lambda m: m.update(handle=7), "handle"),
        (lambda m: m.update(aliases="sayakpaul/old"), "aliases"),
        (lambda m: m.update(aliases=["//evil.example"]), "aliases.0"),
        (lambda m: m.update(synthetic="no"), "synthetic"),
        (lambda m: m.pop("checkpoint"), "checkpoint"),
        (lambda m: m["checkpoint"].pop("name"), "checkpoint.name"),
        (lambda m: m["checkpoint"].update(path="../secret"), "checkpoint.path"),
        (lambda m: m["checkpoint"].update(sha256="abc"), "checkpoint.sha256"),
        (lambda m: m["checkpoint"].pop("datasets"), "checkpoint.datasets"),
        (lambda m: m["checkpoint"].update(network_architectures=[1]), "checkpoint.network"),
        (lambda m: m.pop("architecture"), "architecture"),
        (lambda m: m.update(head="tail"), "head"),
        (lambda m: m.update(weight_standardization="foldet"), "weight_standardization"),
        (lambda m: m.update(weight_standardization=None), "weight_standardization"),
        (lambda m: m.update(resolution="64"), "resolution"),
        (lambda m: m.update(input_range=[0.0]), "input_range"),
        (lambda m: m.update(parameters=-1), "parameters"),
        (lambda m: m.pop("signature"), "signature"),
        (lambda m: m["signature"]["output"].update(shape=[None] * 5), "signature.output.shape"),
        (lambda m: m["signature"]["output"].update(shape=[1] * 99), "signature.output.shape"),
        (lambda m: m["signature"]["input"].update(name=""), "signature.input.name"),
        (lambda m: m.update(archive=[]), "archive"),
        (lambda m: m["archive"].update(file="../model.tar.gz"), "archive.file"),
        (lambda m: m["archive"].update(size=1.5), "archive.size"),
        (lambda m: m["archive"].update(sha256="A" * 64), "archive.sha256"),
        (lambda m: m["archive"].pop("unpacked_size"), "archive.unpacked_size"),
        (lambda m: m["validation"].pop("tolerance"), "validation.tolerance"),
        (lambda m: m["validation"]["checks"][0].update(status="fine"), "validation.checks.0.stat"),
        (lambda m: m["validation"]["checks"][0].update(summary="x" * 10_001), "validation.checks"),
        (lambda m: m.update(toolchain={"numpy": 2}), "toolchain.numpy"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_place(edit: Edit, place: str) -> None:
    with pytest.raises(DocumentError, match=rf"^manifest\.json\.{place}.*: "):
        read_manifest(edited(MANIFEST, edit))


def test_one_from_before_there_was_a_choice_is_of_a_variant_that_is_not_folded() -> None:
    older = read_manifest(edited(MANIFEST, lambda m: m.pop("weight_standardization")))
    assert not older.folded
    assert "weight_standardization" not in older.as_json()
    folded = edited(MANIFEST, lambda m: m.update(weight_standardization="folded"))
    assert read_manifest(folded).folded

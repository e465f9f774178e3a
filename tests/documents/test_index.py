"""An index that somebody else wrote, and the manifests that it lists."""

from typing import Any

import pytest

from publisher.documents.errors import DocumentError
from publisher.documents.index import read_index, read_listed, withdrawn_in
from tests.documents.released import INDEX, MANIFEST, Edit, edited
from tests.releases import CLASSIFIER, EXTRACTOR

REMEDY = "; publish the release again, or restore the file from a copy"


def model(index: Any) -> Any:
    [found] = [model for model in index["models"] if model["handle"] == CLASSIFIER]
    return found


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda index: index.update(schema_version=2), ".schema_version: "),
        (lambda index: index.pop("models"), ".models: Field required"),
        (lambda index: index.update(models={}), ".models: "),
        (lambda index: index["models"].append(index["models"][0]), ": .* is there twice"),
        (lambda index: model(index).update(path="models/../../etc"), ": the path of "),
        (lambda index: model(index).update(handle="../../etc/1"), ".*is no handle"),
        (lambda index: model(index).update(handle="sayakpaul/<script>/1"), ".*is no handle"),
        (lambda index: model(index).update(handle=f"{'x' * 300}/a/1"), ".*is no handle"),
        (lambda index: model(index)["archive"].update(size=-1), ".*archive.size: "),
        (lambda index: model(index)["archive"].update(size="7"), ".*archive.size: "),
        (lambda index: model(index)["archive"].update(sha256="x" * 64), ".*archive.sha256: "),
        (lambda index: model(index)["archive"].update(file="../secret"), ".*archive.file: "),
        (lambda index: model(index).update(head="tail"), ".*head: "),
        (lambda index: model(index).update(aliases=["//evil.example"]), ".*aliases.0: "),
        (
            lambda index: index["checkpoints"]["small"]["reported"][0].update(
                url="javascript:alert(1)"
            ),
            ".*is no address",
        ),
        (
            lambda index: index["checkpoints"]["small"]["reported"][0].update(value=1e300),
            ".*less than or equal",
        ),
        (lambda index: index["about"].update(asset_base="javascript:alert(1)"), ".*is no address"),
        (lambda index: index["about"]["publisher"].update(url="data:text/html,a"), ".*no address"),
    ],
)
def test_an_index_that_lies_is_refused(edit: Edit, complaint: str) -> None:
    with pytest.raises(DocumentError, match=rf"^index\.json{complaint}.*{REMEDY}$"):
        read_index(edited(INDEX, edit))


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda m: m.update(handle=EXTRACTOR), "handle"),
        (lambda m: m["archive"].update(size=7), "archive"),
        (lambda m: m["archive"].update(sha256="0" * 64), "archive"),
        (lambda m: m.update(synthetic=False), "synthetic"),
        (lambda m: m["checkpoint"].update(name="other"), "checkpoint"),
    ],
)
def test_a_manifest_that_is_not_the_listed_one_is_refused(edit: Edit, what: str) -> None:
    [entry] = [one for one in read_index(INDEX).models if one.handle == CLASSIFIER]
    assert read_listed(MANIFEST, entry).archive == entry.archive
    where = f"models/{CLASSIFIER}/manifest.json"
    with pytest.raises(DocumentError, match=f"^{where}: its {what} is not the one in index.json"):
        read_listed(edited(MANIFEST, edit), entry)
    with pytest.raises(DocumentError, match=rf"^{where}: Invalid JSON.*{REMEDY}$"):
        read_listed(MANIFEST[:-5], entry)


def test_an_index_from_before_it_said_anything_about_itself_is_read() -> None:
    def older(index: Any) -> None:
        del index["about"], index["checkpoints"]

    index = read_index(edited(INDEX, older))
    assert index.about is None
    assert index.checkpoints == {}
    assert len(index.models) == 3


def test_what_is_withdrawn_is_known_of_an_index_that_cannot_be_read() -> None:
    assert withdrawn_in(INDEX) == {CLASSIFIER: "It was wrong."}
    newer = edited(INDEX, lambda index: index.update(schema_version=2))
    assert withdrawn_in(newer) == {CLASSIFIER: "It was wrong."}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", ": Invalid JSON"),
        (b"{}", r"\.models: Field required"),
        (b'{"models": [{"handle": "a/b/1", "withdrawn": 1}]}', r"\.models\.0\.withdrawn: Input"),
        (b'{"models": [{"handle": "../b/1", "withdrawn": "a"}]}', r"\.models\.0\.handle: Value"),
    ],
)
def test_what_says_nothing_of_withdrawals_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(DocumentError, match=rf"^index\.json{complaint}"):
        withdrawn_in(content)

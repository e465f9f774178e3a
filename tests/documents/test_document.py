"""What is read is written back as it was, whoever wrote it."""

import json
from typing import Any

import pytest

from publisher.documents.document import Document
from publisher.documents.errors import DocumentError
from publisher.documents.index import Index
from publisher.documents.manifest import Manifest
from publisher.documents.plan import SavedPlans
from publisher.documents.record import RecordFile
from publisher.util.files import json_bytes
from tests.documents.released import INDEX, MANIFEST, PLAN, RECORD, edited

KINDS = [(Index, INDEX), (Manifest, MANIFEST), (SavedPlans, PLAN), (RecordFile, RECORD)]


@pytest.mark.parametrize(("kind", "content"), KINDS)
def test_what_earlier_versions_wrote_is_written_with_the_same_bytes(
    kind: type[Document], content: bytes
) -> None:
    document = kind.read(content, "file")
    assert document.as_bytes() == content
    # Not only because it was remembered.
    assert kind.model_validate_json(content).as_bytes() == content


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "foreign",
    [
        reversed_keys(json.loads(MANIFEST)),
        {"first": None, **json.loads(MANIFEST), "last": {"a": [1, 2.5]}},
        {**json.loads(MANIFEST), "input_range": [0, 255]},
        {key: value for key, value in json.loads(MANIFEST).items() if key != "notice"},
        json.loads(edited(MANIFEST, lambda it: it["validation"]["checks"][0].update(more=1))),
    ],
    ids=["order", "more keys", "whole numbers", "fewer keys", "more keys inside"],
)
def test_what_another_version_wrote_is_copied_as_it_is(foreign: dict[str, Any]) -> None:
    manifest = Manifest.read(json_bytes(foreign), "file")
    assert manifest.as_bytes() == json_bytes(foreign)
    assert manifest == Manifest.read(manifest.as_bytes(), "file")


def test_a_copy_that_was_changed_is_not_written_as_it_was_read() -> None:
    manifest = Manifest.read(json_bytes(reversed_keys(json.loads(MANIFEST))), "file")
    changed = manifest.model_copy(update={"parameters": 7})
    assert changed.as_json() == {**json.loads(MANIFEST), "parameters": 7}
    assert list(changed.as_json()) == list(json.loads(MANIFEST))


def test_two_are_the_same_if_they_say_the_same() -> None:
    manifest = Manifest.read(MANIFEST, "file")
    assert manifest == Manifest.read(MANIFEST, "file")
    assert manifest == Manifest.read(json.dumps(json.loads(MANIFEST)).encode(), "file")
    assert manifest != Manifest.read(edited(MANIFEST, lambda it: it.update(more=1)), "file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"not JSON",
        b"\xff\xfe\x00",
        b'{"handle": ',
        pytest.param(b"[" * 100_000, id="nested"),
        MANIFEST[:1],
        MANIFEST[: len(MANIFEST) // 2],
        MANIFEST[:-2],
        edited(MANIFEST, lambda it: it.update(more=float("nan"))),
    ],
)
@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
def test_what_is_not_json_is_refused(kind: type[Document], content: bytes) -> None:
    with pytest.raises(DocumentError, match=r"^file.json") as caught:
        kind.read(content, "file.json")
    assert len(str(caught.value).splitlines()) == 1

"""What a signature says, whoever wrote it."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from publisher.documents.errors import DocumentError
from publisher.documents.signature import LARGEST, differences, read_signature
from publisher.signing.signatures import key_signer
from tests.signing.conftest import Keys

DIGESTS = {"a.txt": "a" * 64, "b.json": "b" * 64}
IDENTITY = {"certificate": {"rawBytes": "AA=="}, "tlogEntries": [{"logIndex": "1"}]}


@pytest.fixture(scope="module")
def good(keys: Keys) -> bytes:
    return key_signer(keys.private, {}).sign("it", DIGESTS)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def changed(content: bytes, change: Callable[[Any], Any]) -> bytes:
    value = json.loads(content)
    change(value)
    return compact(value)


def with_statement(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """Return a signature whose signed statement is another one."""

    def inner(value: Any) -> None:
        envelope = value["dsseEnvelope"]
        statement = changed(base64.b64decode(envelope["payload"]), change)
        envelope["payload"] = base64.b64encode(statement).decode()

    return changed(content, inner)


def test_it_says_which_files_and_which_key(good: bytes, keys: Keys) -> None:
    found = read_signature(good)
    assert found.digests == DIGESTS
    assert found.key == keys.verifier.key


def test_one_by_an_identity_has_a_certificate_and_no_key(good: bytes) -> None:
    def by_identity(value: Any) -> None:
        value["verificationMaterial"] = IDENTITY

    found = read_signature(changed(good, by_identity))
    assert found.digests == DIGESTS
    assert found.key is None


def test_it_names_no_path_and_no_time(good: bytes) -> None:
    payload = base64.b64decode(json.loads(good)["dsseEnvelope"]["payload"])
    statement = json.loads(payload)
    assert statement["subject"][0]["name"] == "it"
    assert set(statement["predicate"]) == {"serialization", "resources"}
    assert set(statement["predicate"]["serialization"]) == {
        "method",
        "hash_type",
        "allow_symlinks",
    }


def material(**values: Any) -> Callable[[Any], Any]:
    return lambda value: value["verificationMaterial"].update(values)


def envelope(**values: Any) -> Callable[[Any], Any]:
    return lambda value: value["dsseEnvelope"].update(values)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(more=1),
        lambda value: value.update(mediaType="application/json"),
        lambda value: value.pop("verificationMaterial"),
        material(publicKey={"hint": None}),
        material(publicKey={"hint": "a"}),
        material(tlogEntries=[1]),
        material(certificate={}),
        envelope(payload="AA"),
        envelope(payload="AB=="),
        envelope(payload="A A=="),
        envelope(payload="AA=="),
        envelope(payloadType="text/plain"),
        envelope(signatures=[]),
        envelope(signatures=[{"sig": "AA==", "keyid": "a"}]),
        envelope(signatures=[{"sig": "AB==", "keyid": ""}]),
        envelope(signatures=[{"sig": "AA=="}] * 2),
    ],
)
def test_what_is_not_written_as_a_signature_is_refused(
    change: Callable[[Any], Any], good: bytes
) -> None:
    with pytest.raises(DocumentError, match="is no signature, or was changed"):
        read_signature(changed(good, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda statement: statement.update(_type="other"),
        lambda statement: statement.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda statement: statement["predicate"].update(resources=[]),
        lambda statement: statement["predicate"]["resources"][0].update(algorithm="md5"),
        lambda statement: statement["predicate"]["resources"][0].update(name="../a"),
        lambda statement: statement["predicate"]["resources"][0].update(name="b.json"),
        lambda statement: statement["predicate"]["resources"][0].update(digest="A" * 64),
    ],
)
def test_a_statement_on_something_else_is_refused(
    change: Callable[[Any], Any], good: bytes
) -> None:
    with pytest.raises(DocumentError, match="is no signature, or was changed"):
        read_signature(with_statement(good, change))


@pytest.mark.parametrize(
    "rewritten",
    [
        lambda content: content + b"\n",
        lambda content: b" " + content,
        lambda content: json.dumps(json.loads(content)).encode(),
        lambda content: content.replace(b'"keyid":""', b'"keyid":"","keyid":""'),
        lambda content: content.replace(b"mediaType", b"media\\u0054ype"),
        lambda content: b"",
        lambda content: b"\xff",
        lambda content: b"[" * 100_000,
        lambda content: b"<!doctype html>",
        lambda content: content[:-1],
        lambda content: content + b" " * LARGEST,
    ],
)
def test_another_text_of_the_same_is_refused(
    rewritten: Callable[[bytes], bytes], good: bytes
) -> None:
    assert rewritten(good) != good
    with pytest.raises(DocumentError):
        read_signature(rewritten(good))


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (DIGESTS, []),
        ({**DIGESTS, "a.txt": "c" * 64}, ["a.txt has other bytes"]),
        ({"b.json": "b" * 64}, ["a.txt is missing"]),
        ({**DIGESTS, "c": "c" * 64}, ["c is not among what was signed"]),
        ({}, ["a.txt is missing", "b.json is missing"]),
    ],
)
def test_differences_name_the_file(there: dict[str, str], said: list[str]) -> None:
    assert differences(DIGESTS, there) == said

"""Signatures that are really made, and what it takes to break them."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from publisher.documents.errors import DocumentError
from publisher.signing.errors import SigningError
from publisher.signing.signatures import (
    PASSWORD,
    identity_signer,
    identity_verifier,
    key_signer,
    key_verifier,
)
from tests.documents.test_signature import IDENTITY, changed
from tests.signing.conftest import Keys, new_keys

DIGESTS = {"model.tar.gz": "a" * 64, "manifest.json": "b" * 64}
SECRET = "correct horse battery staple"
PEM = serialization.Encoding.PEM


@pytest.fixture(scope="module")
def good(keys: Keys) -> bytes:
    return key_signer(keys.private, {}).sign("it", DIGESTS)


def test_the_public_key_proves_what_the_private_one_signed(good: bytes, keys: Keys) -> None:
    assert keys.verifier.check(good).digests == DIGESTS


def test_the_key_is_named_by_the_digest_of_its_file(keys: Keys) -> None:
    """`sha256sum` gives it as well."""
    from publisher.util.files import sha256_file

    assert key_verifier(keys.public).key == sha256_file(keys.public)
    assert key_signer(keys.private, {}).key == sha256_file(keys.public)


def test_another_key_proves_nothing(good: bytes, keys: Keys, other_keys: Keys) -> None:
    with pytest.raises(SigningError, match="was made with another key") as caught:
        other_keys.verifier.check(good)
    assert keys.verifier.key in str(caught.value)


def test_a_signature_that_only_says_it_is_of_a_key_proves_nothing(
    good: bytes, other_keys: Keys
) -> None:
    def pretend(value: Any) -> None:
        value["verificationMaterial"]["publicKey"]["hint"] = other_keys.verifier.key

    with pytest.raises(SigningError, match="was made by another signer"):
        other_keys.verifier.check(changed(good, pretend))


def test_any_bit_of_a_signature_counts(good: bytes, keys: Keys) -> None:
    verifier = keys.verifier
    for position in range(len(good)):
        content = bytearray(good)
        content[position] ^= 1 << position % 8
        with pytest.raises((DocumentError, SigningError)):
            verifier.check(bytes(content))


def test_the_same_files_are_signed_in_another_way_each_time(good: bytes, keys: Keys) -> None:
    """ECDSA is random: a signature that is good has to be kept, because it cannot be repeated."""
    assert key_signer(keys.private, {}).sign("it", DIGESTS) != good


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_these_curves_can_sign(curve: ec.EllipticCurve, tmp_path: Path) -> None:
    keys = new_keys(tmp_path / "keys", curve=curve)
    content = key_signer(keys.private, {}).sign("it", DIGESTS)
    assert keys.verifier.check(content).digests == DIGESTS


# Keys


def test_an_encrypted_key_takes_its_password_from_the_environment(tmp_path: Path) -> None:
    keys = new_keys(tmp_path / "keys", password=SECRET.encode())
    content = key_signer(keys.private, {PASSWORD: SECRET}).sign("it", DIGESTS)
    assert keys.verifier.check(content).digests == DIGESTS


def test_a_password_that_is_not_needed_is_not_used(keys: Keys) -> None:
    content = key_signer(keys.private, {PASSWORD: SECRET}).sign("it", DIGESTS)
    assert keys.verifier.check(content).digests == DIGESTS


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, f"is encrypted; set the environment variable {PASSWORD}"),
        ({PASSWORD: ""}, f"is encrypted; set the environment variable {PASSWORD}"),
        ({PASSWORD: "wrong one"}, "cannot be decrypted with the password in"),
    ],
)
def test_without_the_password_nothing_is_signed(
    environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    keys = new_keys(tmp_path / "keys", password=SECRET.encode())
    with pytest.raises(SigningError, match=said) as caught:
        key_signer(keys.private, environment)
    assert str(keys.private) in str(caught.value)
    assert "wrong one" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_signer_shows_neither_its_password_nor_its_key(tmp_path: Path) -> None:
    keys = new_keys(tmp_path / "keys", password=SECRET.encode())
    signer = key_signer(keys.private, {PASSWORD: SECRET})
    body = keys.private.read_text().splitlines()[1]
    for shown in (repr(signer), str(signer), signer.by):
        assert SECRET not in shown
        assert body not in shown


def test_a_key_that_is_exchanged_meanwhile_signs_nothing(tmp_path: Path, other_keys: Keys) -> None:
    keys = new_keys(tmp_path / "keys")
    signer = key_signer(keys.private, {})
    keys.private.write_bytes(other_keys.private.read_bytes())
    with pytest.raises(SigningError, match="the private key has changed during this run"):
        signer.sign("it", DIGESTS)
    keys.private.unlink()
    with pytest.raises(SigningError, match="the private key has changed during this run"):
        signer.sign("it", DIGESTS)


def private_pem(key: Any) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(PEM, form, serialization.NoEncryption()))


def public_pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(PEM, form))


OTHER_KINDS = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_keys_of_other_kinds_are_refused(kind: str, tmp_path: Path) -> None:
    key = OTHER_KINDS[kind]()
    (tmp_path / "key.pem").write_bytes(private_pem(key))
    (tmp_path / "public.pem").write_bytes(public_pem(key))
    for refused in (
        lambda: key_signer(tmp_path / "key.pem", {}),
        lambda: key_verifier(tmp_path / "public.pem"),
    ):
        with pytest.raises(SigningError, match="are not supported, only elliptic curves") as caught:
            refused()
        assert kind in str(caught.value)


def test_the_two_keys_cannot_be_mistaken_for_each_other(keys: Keys) -> None:
    with pytest.raises(SigningError, match="contains no private key in PEM format; create one"):
        key_signer(keys.public, {})
    with pytest.raises(SigningError, match="contains a private key; give the public one"):
        key_verifier(keys.private)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"-----BEGIN PUBLIC KEY-----\nAA"])
@pytest.mark.parametrize("load", [lambda file: key_signer(file, {}), key_verifier])
def test_what_is_no_key_is_refused(
    content: bytes, load: Callable[[Path], Any], tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(SigningError, match="in PEM form"):
        load(tmp_path / "key.pem")


@pytest.mark.parametrize("load", [lambda file: key_signer(file, {}), key_verifier])
def test_a_file_that_cannot_be_a_key_is_not_read_to_its_end(
    load: Callable[[Path], Any], tmp_path: Path
) -> None:
    with pytest.raises(SigningError, match="is too large for a key"):
        load(Path("/dev/zero"))
    with pytest.raises(SigningError, match="cannot be read"):
        load(tmp_path / "nowhere.pem")


@pytest.mark.parametrize("package", ["model_signing", "OpenSSL"])
def test_without_the_extra_it_is_named(
    package: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else there(name)
    )
    for needing in (
        lambda: key_signer(keys.private, {}),
        lambda: key_verifier(keys.public),
        lambda: identity_signer({}),
        lambda: identity_verifier("a", "b"),
    ):
        with pytest.raises(SigningError) as caught:
            needing()
        assert str(caught.value) == (
            f"{package} is missing; install the extra: pip install 'bit-publisher[sign]'"
        )


# Identities: what can be seen without Sigstore


def test_without_ci_there_is_no_identity_and_nobody_is_asked_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in list(os.environ):
        if name.startswith(("ACTIONS_", "GITHUB_", "GITLAB_", "CIRCLE", "BUILDKITE", "SIGSTORE_")):
            monkeypatch.delenv(name)
    with pytest.raises(SigningError, match="`permissions: id-token: write`"):
        identity_signer({}).sign("it", DIGESTS)


def test_in_a_workflow_the_identity_is_that_of_the_workflow() -> None:
    environment = {
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_WORKFLOW_REF": "a/b/.github/workflows/release.yml@refs/tags/v1",
    }
    assert identity_signer(environment).by == (
        "https://github.com/a/b/.github/workflows/release.yml@refs/tags/v1"
        " (by https://token.actions.githubusercontent.com)"
    )
    assert identity_signer({}).by == "the identity of this run"


def test_an_identity_knows_no_signature_of_a_key(good: bytes, keys: Keys) -> None:
    with pytest.raises(SigningError, match="was made with a key") as caught:
        identity_verifier("somebody", "https://issuer.example").check(good)
    assert keys.verifier.key in str(caught.value)


def test_a_key_knows_no_signature_of_an_identity(good: bytes, keys: Keys) -> None:
    content = changed(good, lambda value: value.update(verificationMaterial=IDENTITY))
    with pytest.raises(SigningError, match="was made with an identity, not a key"):
        keys.verifier.check(content)
    with pytest.raises(SigningError, match="this run's identity is not known"):
        identity_signer({}).check(content)

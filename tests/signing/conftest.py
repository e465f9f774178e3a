"""Keys, and a small release to be signed."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from publisher.destinations.local.directory import Directory
from publisher.registry import Registry, load_registry
from publisher.signing.origin import Origin
from publisher.signing.sign import Signed, sign_release
from publisher.signing.signatures import KeyVerifier, key_signer, key_verifier
from tests.hub.releases import publish_into

SOURCE = Origin("a" * 40, "https://git.example/bit", False)


@dataclass(frozen=True)
class Keys:
    """A key pair in two PEM files."""

    private: Path
    public: Path

    @property
    def verifier(self) -> KeyVerifier:
        return key_verifier(self.public)


def new_keys(folder: Path, *, password: bytes = b"", curve: ec.EllipticCurve | None = None) -> Keys:
    """Write a new key pair into a folder."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    encryption: Any = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    keys = Keys(folder / "key.pem", folder / "public.pem")
    folder.mkdir(exist_ok=True)
    keys.private.write_bytes(key.private_bytes(pem, pkcs8, encryption))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    keys.public.write_bytes(key.public_key().public_bytes(pem, public))
    return keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """The publisher's keys."""
    return new_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Somebody else's keys."""
    return new_keys(tmp_path_factory.mktemp("other_keys"))


@pytest.fixture(scope="session")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a release and its registry. Copy it to change it."""
    folder = tmp_path_factory.mktemp("unsigned")
    publish_into(folder / "release", folder)
    return folder


@pytest.fixture
def folder(unsigned: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(unsigned, tmp_path / "project"))


@pytest.fixture
def release(folder: Path) -> Path:
    return folder / "release"


@pytest.fixture
def registry(folder: Path) -> Registry:
    return load_registry(folder / "models.yaml")


def sign(
    release: Path, keys: Keys, source: Origin = SOURCE, *, again: bool = False
) -> dict[str, Signed]:
    """Sign a release that lies beside its registry, and return what became of each."""
    directory = Directory(release)
    registry = load_registry(release.parent / "models.yaml")
    with directory.locked():
        done = sign_release(directory, registry, key_signer(keys.private, {}), source, again=again)
    return {one.what: one for one in done}


def statuses(done: dict[str, Signed]) -> set[str]:
    """Return the statuses that there are."""
    return {one.status for one in done.values()}

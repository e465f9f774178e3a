"""Makes and verifies signatures with OpenSSF Model Signing (the extra `sign`).

To sign a folder, the library would hash every file in it. This module passes it the digests of
the files to sign, which are already known.
"""

import importlib.util
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from publisher.documents.signature import Signature, read_signature
from publisher.signing.errors import SigningError
from publisher.util.files import sha256

if TYPE_CHECKING:  # the extra may not be installed, so functions import it when they need it
    from model_signing.hashing import Config as HashingConfig
    from model_signing.hashing import PathLike
    from model_signing.manifest import Manifest
    from model_signing.signing import Config as SigningConfig
    from model_signing.verifying import Config as VerifyingConfig

# The environment variable with the password of an encrypted private key.
PASSWORD = "PUBLISHER_KEY_PASSWORD"  # noqa: S105  the variable's name
LARGEST_KEY = 1 << 16  # bytes of a key file
CURVES = ("secp256r1", "secp384r1", "secp521r1")
NEW_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"

Digests = Mapping[str, str]


class Verifier(Protocol):
    """A verifier of one signer's signatures."""

    @property
    def by(self) -> str:
        """The signer, in words."""

    def check(self, content: bytes) -> Signature:
        """Verify a signature and return it.

        Raises `SigningError` if another signer made it, and `DocumentError` or `SigningError` if
        it was changed afterwards.
        """


class Signer(Verifier, Protocol):
    """A signer, which can also verify its own signatures."""

    @property
    def key(self) -> str | None:
        """The SHA-256 of the public key; `None` for an identity."""

    def sign(self, name: str, digests: Digests) -> bytes:
        """Sign files by their SHA-256; return the signature. `name` identifies the files.

        Raises `SigningError` if signing fails.
        """


@dataclass(frozen=True)
class KeyVerifier:
    """A verifier of the signatures of one elliptic-curve key, given as PEM."""

    pem: bytes

    @property
    def key(self) -> str:
        """The SHA-256 of the public key's PEM file, as OpenSSL writes it."""
        return sha256(self.pem)

    @property
    def by(self) -> str:
        """The key's SHA-256, in words."""
        return f"key SHA-256 {self.key}"

    def check(self, content: bytes) -> Signature:
        """Verify a signature of this key and return it. Raises `SigningError`."""
        signature = read_signature(content)
        if signature.key != self.key:
            other = f"another key ({signature.key})" if signature.key else "an identity, not a key"
            raise SigningError(f"was made with {other}")
        from model_signing import verifying

        with tempfile.TemporaryDirectory(prefix="publisher-key-") as folder:
            public = Path(folder, "public.pem")
            public.write_bytes(self.pem)
            config = verifying.Config().use_elliptic_key_verifier(public_key=public)  # type: ignore[no-untyped-call]
            _verify(config, content, signature)
        return signature


@dataclass(frozen=True)
class KeySigner(KeyVerifier):
    """A signer with a private key, which stays in its file."""

    file: Path
    password: bytes | None = field(repr=False)

    def sign(self, name: str, digests: Digests) -> bytes:
        """Sign files by their SHA-256. Raises `SigningError`."""
        from model_signing import signing

        config = signing.Config()  # type: ignore[no-untyped-call]
        changed = SigningError(
            f"{self.file}: the private key has changed during this run; restore it"
        )
        try:
            config.use_elliptic_key_signer(
                private_key=self.file,
                # The library declares text, but passes it to a function that takes bytes.
                password=self.password,  # type: ignore[arg-type]
            )
        except (OSError, ValueError, TypeError):
            raise changed from None
        content = _signed(config, name, digests)
        if read_signature(content).key != self.key:
            raise changed
        return content


@dataclass(frozen=True)
class IdentityVerifier:
    """A verifier of the signatures of an identity that an issuer vouches for, with Sigstore."""

    identity: str
    issuer: str

    @property
    def by(self) -> str:
        """The identity and its issuer, in words."""
        return f"{self.identity} (by {self.issuer})"

    def check(self, content: bytes) -> Signature:
        """Verify a signature of this identity and return it. Raises `SigningError`."""
        signature = read_signature(content)
        if signature.key is not None:
            raise SigningError(f"was made with a key ({signature.key}), not with an identity")
        from model_signing import verifying

        config = verifying.Config()  # type: ignore[no-untyped-call]
        try:
            config.use_sigstore_verifier(identity=self.identity, oidc_issuer=self.issuer)
        except Exception as error:  # fetching Sigstore's root of trust can raise nearly anything
            raise SigningError(
                "cannot be verified, because Sigstore's root of trust cannot be fetched"
                f" ({type(error).__name__})"
            ) from None
        _verify(config, content, signature)
        return signature


@dataclass(frozen=True)
class IdentitySigner:
    """A signer that uses the identity of this CI run, with Sigstore and without a key."""

    own: IdentityVerifier | None
    key: None = None

    @property
    def by(self) -> str:
        """The identity in words."""
        return self.own.by if self.own else "the identity of this run"

    def check(self, content: bytes) -> Signature:
        """Verify a signature of this identity and return it. Raises `SigningError`."""
        if self.own is None:
            raise SigningError("cannot be verified, because this run's identity is not known")
        return self.own.check(content)

    def sign(self, name: str, digests: Digests) -> bytes:
        """Sign files by their SHA-256. Sigstore's public log records it. Raises `SigningError`."""
        from model_signing import signing
        from sigstore.oidc import detect_credential

        config = signing.Config()  # type: ignore[no-untyped-call]
        try:
            # Request a token for each signature, because it expires after minutes. Without one,
            # the library would try to open a browser.
            token = detect_credential()
            if token is not None:
                config.use_sigstore_signer(identity_token=token)
        except Exception as error:  # the network or the service failed
            raise SigningError(
                f"Sigstore cannot be used ({type(error).__name__}); check the network, and that"
                " the workflow has `permissions: id-token: write`"
            ) from None
        if token is None:
            raise SigningError(
                "--identity needs an identity from CI, and this run has none; in GitHub Actions,"
                " give the job `permissions: id-token: write`; elsewhere, sign with --key"
            )
        return _signed(config, name, digests)


def key_signer(file: Path, environment: Mapping[str, str]) -> KeySigner:
    """Return a signer with the private key in a PEM file.

    Raises `SigningError` if the file has no such key, or if the environment variable `PASSWORD`
    does not have its password.
    """
    content = _key_file(file)
    from cryptography.hazmat.primitives import serialization

    password = environment.get(PASSWORD, "").encode(errors="surrogateescape") or None
    try:
        private = serialization.load_pem_private_key(content, None)
        password = None
    except TypeError:  # it is encrypted
        if password is None:
            raise SigningError(
                f"{file}: is encrypted; set the environment variable {PASSWORD} to its password"
            ) from None
        try:
            private = serialization.load_pem_private_key(content, password)
        except (ValueError, TypeError):
            raise SigningError(
                f"{file}: cannot be decrypted with the password in {PASSWORD}; correct it"
            ) from None
    except Exception:  # a hostile file can make the parser raise nearly anything
        raise SigningError(
            f"{file}: contains no private key in PEM format; create one: {NEW_KEY}"
        ) from None
    return KeySigner(_public_pem(private.public_key(), file), file, password)


def key_verifier(file: Path) -> KeyVerifier:
    """Return a verifier with the public key in a PEM file.

    Raises `SigningError` if the file has no such key.
    """
    content = _key_file(file)
    if b"PRIVATE KEY" in content:
        raise SigningError(
            f"{file}: contains a private key; give the public one: openssl pkey -in KEY -pubout"
        )
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_public_key(content)
    except Exception:  # a hostile file can make the parser raise nearly anything
        raise SigningError(
            f"{file}: contains no public key in PEM format; get it from the publisher again"
        ) from None
    return KeyVerifier(_public_pem(key, file))


def identity_signer(environment: Mapping[str, str]) -> IdentitySigner:
    """Return a signer with the identity of this workflow run. Sends no request yet.

    Raises `SigningError` if the library is missing. Source of the names: Sigstore
    documentation, "Sigstore CI Quickstart".
    """
    _require_library()
    server = environment.get("GITHUB_SERVER_URL")
    workflow = environment.get("GITHUB_WORKFLOW_REF")
    own = None
    if server and workflow:
        own = IdentityVerifier(
            f"{server}/{workflow}", "https://token.actions.githubusercontent.com"
        )
    return IdentitySigner(own)


def identity_verifier(identity: str, issuer: str) -> IdentityVerifier:
    """Return a verifier of an identity's signatures.

    Raises `SigningError` if the library is missing.
    """
    _require_library()
    return IdentityVerifier(identity, issuer)


def _key_file(file: Path) -> bytes:
    _require_library()
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_KEY + 1)
    except OSError as error:
        raise SigningError(f"{file}: cannot be read ({error.strerror}); correct --key") from None
    if len(content) > LARGEST_KEY:
        raise SigningError(f"{file}: is too large for a key; correct --key")
    return content


def _public_pem(key: object, file: Path) -> bytes:
    """Return a public key as OpenSSL writes it. Raises `SigningError` for unsupported kinds."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        kind = key.curve.name if isinstance(key, EllipticCurvePublicKey) else type(key).__name__
        raise SigningError(
            f"{file}: keys of the kind {kind} are not supported, only elliptic curves"
            f" ({', '.join(CURVES)}); create one: {NEW_KEY}"
        )
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _signed(config: "SigningConfig", name: str, digests: Digests) -> bytes:
    with tempfile.TemporaryDirectory(prefix="publisher-sign-") as folder:
        target = Path(folder, "signature")
        config.set_hashing_config(_precomputed(digests))
        try:
            config.sign(name, target)
        except Exception as error:  # the network or the service failed; keys are valid here
            raise SigningError(
                f"{name}: cannot be signed ({type(error).__name__}); run again"
            ) from None
        return target.read_bytes()


def _verify(config: "VerifyingConfig", content: bytes, signature: Signature) -> None:
    """Raise `SigningError` if a signature is not by the signer that `config` names."""
    with tempfile.TemporaryDirectory(prefix="publisher-verify-") as folder:
        file = Path(folder, "signature")
        file.write_bytes(content)
        config.set_hashing_config(_precomputed(signature.digests))
        try:
            config.verify("", file)
        except Exception:  # a hostile signature can make the library raise nearly anything
            raise SigningError("was made by another signer, or changed since then") from None


def _precomputed(digests: Digests) -> "HashingConfig":
    """Return a hashing configuration that uses these SHA-256 instead of reading files."""
    from model_signing import hashing, manifest
    from model_signing._hashing.hashing import Digest

    form = manifest.SerializationType.from_args(
        {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    )

    class Precomputed(hashing.Config):
        def hash(self, model_path: "PathLike", *, files_to_hash: Any = None) -> "Manifest":
            items = [
                form.new_item(name, Digest("sha256", bytes.fromhex(value)))
                for name, value in digests.items()
            ]
            return manifest.Manifest(str(model_path), items, form)

    return Precomputed()  # type: ignore[no-untyped-call]


def _require_library() -> None:
    """Raise `SigningError` if the packages of the extra `sign` are not installed."""
    for package in ("model_signing", "OpenSSL"):
        if importlib.util.find_spec(package) is None:
            raise SigningError(
                f"{package} is missing; install the extra: pip install 'bit-publisher[sign]'"
            )

"""Making and proving signatures, with OpenSSF Model Signing (the extra `sign`).

The library would read every file to sign a folder. Here it is given the digests, which are
known already, and only of those files that are meant.
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

if TYPE_CHECKING:  # what the extra brings is imported where it is needed
    from model_signing.hashing import Config as HashingConfig
    from model_signing.hashing import PathLike
    from model_signing.manifest import Manifest
    from model_signing.signing import Config as SigningConfig
    from model_signing.verifying import Config as VerifyingConfig

# The variable that holds the password of an encrypted private key.
PASSWORD = "PUBLISHER_KEY_PASSWORD"  # noqa: S105  its name
LARGEST_KEY = 1 << 16  # bytes of a key file
CURVES = ("secp256r1", "secp384r1", "secp521r1")
NEW_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"

Digests = Mapping[str, str]


class Verifier(Protocol):
    """Knows the signatures of one signer."""

    @property
    def by(self) -> str:
        """Whose signatures those are, in words."""

    def check(self, content: bytes) -> Signature:
        """Return what a signature says, which then is what the signer signed.

        Raises `SigningError` if it was made by somebody else, and `DocumentError` or
        `SigningError` if it was changed since.
        """


class Signer(Verifier, Protocol):
    """Signs in one name, and knows its own signatures."""

    @property
    def key(self) -> str | None:
        """The SHA-256 of the public key; None for an identity."""

    def sign(self, name: str, digests: Digests) -> bytes:
        """Return a signature of files, given by their SHA-256; `name` is what they are.

        Raises `SigningError` if it cannot be made.
        """


@dataclass(frozen=True)
class KeyVerifier:
    """Knows the signatures of one elliptic-curve key, given as PEM."""

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
        """Return what a signature of this key says. Raises `SigningError`."""
        signature = read_signature(content)
        if signature.key != self.key:
            other = f"another key ({signature.key})" if signature.key else "an identity, no key"
            raise SigningError(f"was made with {other}")
        from model_signing import verifying

        with tempfile.TemporaryDirectory(prefix="publisher-key-") as folder:
            public = Path(folder, "public.pem")
            public.write_bytes(self.pem)
            config = verifying.Config().use_elliptic_key_verifier(public_key=public)  # type: ignore[no-untyped-call]
            _prove(config, content, signature)
        return signature


@dataclass(frozen=True)
class KeySigner(KeyVerifier):
    """Signs with a private key, which stays in its file."""

    file: Path
    password: bytes | None = field(repr=False)

    def sign(self, name: str, digests: Digests) -> bytes:
        """Return a signature. Raises `SigningError`."""
        from model_signing import signing

        config = signing.Config()  # type: ignore[no-untyped-call]
        other = SigningError(
            f"{self.file}: is no longer the private key that it was; bring it back"
        )
        try:
            config.use_elliptic_key_signer(
                private_key=self.file,
                # The library asks for text, and hands it on to what takes bytes only.
                password=self.password,  # type: ignore[arg-type]
            )
        except (OSError, ValueError, TypeError):
            raise other from None
        content = _signed(config, name, digests)
        if read_signature(content).key != self.key:
            raise other
        return content


@dataclass(frozen=True)
class IdentityVerifier:
    """Knows the signatures that Sigstore certified for an identity, by its issuer's word."""

    identity: str
    issuer: str

    @property
    def by(self) -> str:
        """The identity and its issuer, in words."""
        return f"{self.identity} (by {self.issuer})"

    def check(self, content: bytes) -> Signature:
        """Return what a signature of this identity says. Raises `SigningError`."""
        signature = read_signature(content)
        if signature.key is not None:
            raise SigningError(f"was made with a key ({signature.key}), not with an identity")
        from model_signing import verifying

        config = verifying.Config()  # type: ignore[no-untyped-call]
        try:
            config.use_sigstore_verifier(identity=self.identity, oidc_issuer=self.issuer)
        except Exception as error:  # whatever fetching Sigstore's root of trust can raise
            raise SigningError(
                "cannot be proved, because Sigstore's root of trust cannot be fetched"
                f" ({type(error).__name__})"
            ) from None
        _prove(config, content, signature)
        return signature


@dataclass(frozen=True)
class IdentitySigner:
    """Signs as the workload that runs, in CI, with Sigstore; there is no key to keep."""

    own: IdentityVerifier | None
    key: None = None

    @property
    def by(self) -> str:
        """The identity, where it is known."""
        return self.own.by if self.own else "the identity of this run"

    def check(self, content: bytes) -> Signature:
        """Return what a signature of this identity says. Raises `SigningError`."""
        if self.own is None:
            raise SigningError("cannot be told from others, because this run's name is not known")
        return self.own.check(content)

    def sign(self, name: str, digests: Digests) -> bytes:
        """Return a signature, which Sigstore's public log records. Raises `SigningError`."""
        from model_signing import signing
        from sigstore.oidc import detect_credential

        config = signing.Config()  # type: ignore[no-untyped-call]
        try:
            # Asked for anew each time, because it is good for minutes only; and never left
            # to the library, which would open a browser where there is none.
            token = detect_credential()
            if token is not None:
                config.use_sigstore_signer(identity_token=token)
        except Exception as error:  # the network, the service, its answers
            raise SigningError(
                f"Sigstore cannot be used ({type(error).__name__}); see to the network, and that"
                " the workflow has `permissions: id-token: write`"
            ) from None
        if token is None:
            raise SigningError(
                "--identity needs an identity that CI gives, and there is none; in GitHub Actions"
                " give the job `permissions: id-token: write`, elsewhere sign with --key"
            )
        return _signed(config, name, digests)


def key_signer(file: Path, environment: Mapping[str, str]) -> KeySigner:
    """Return what signs with the private key in a PEM file.

    Raises `SigningError` if it is none, or its password is not in the variable `PASSWORD`.
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
                f"{file}: is encrypted; put its password into the variable {PASSWORD}"
            ) from None
        try:
            private = serialization.load_pem_private_key(content, password)
        except (ValueError, TypeError):
            raise SigningError(
                f"{file}: cannot be decrypted with the password in {PASSWORD}; correct it"
            ) from None
    except Exception:  # what is in the file may make it raise nearly anything
        raise SigningError(
            f"{file}: holds no private key in PEM form; make one: {NEW_KEY}"
        ) from None
    return KeySigner(_public_pem(private.public_key(), file), file, password)


def key_verifier(file: Path) -> KeyVerifier:
    """Return what knows the signatures of the public key in a PEM file.

    Raises `SigningError` if it is none.
    """
    content = _key_file(file)
    if b"PRIVATE KEY" in content:
        raise SigningError(
            f"{file}: holds a private key; give the public one: openssl pkey -in KEY -pubout"
        )
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_public_key(content)
    except Exception:  # what is in the file may make it raise nearly anything
        raise SigningError(
            f"{file}: holds no public key in PEM form; get it from the publisher again"
        ) from None
    return KeyVerifier(_public_pem(key, file))


def identity_signer(environment: Mapping[str, str]) -> IdentitySigner:
    """Return what signs as this run of a workflow. Nothing is asked of anybody yet.

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
    """Return what knows the signatures of an identity.

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
        raise SigningError(f"{file}: is larger than a key can be; correct --key")
    return content


def _public_pem(key: object, file: Path) -> bytes:
    """Return a public key as OpenSSL writes it. Raises `SigningError` for other kinds."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        kind = key.curve.name if isinstance(key, EllipticCurvePublicKey) else type(key).__name__
        raise SigningError(
            f"{file}: is a key of another kind ({kind}); known are the elliptic curves"
            f" {', '.join(CURVES)}: {NEW_KEY}"
        )
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _signed(config: "SigningConfig", name: str, digests: Digests) -> bytes:
    with tempfile.TemporaryDirectory(prefix="publisher-sign-") as folder:
        target = Path(folder, "signature")
        config.set_hashing_config(_known(digests))
        try:
            config.sign(name, target)
        except Exception as error:  # the network and the service; a key was tried before
            raise SigningError(
                f"{name}: cannot be signed ({type(error).__name__}); run again"
            ) from None
        return target.read_bytes()


def _prove(config: "VerifyingConfig", content: bytes, signature: Signature) -> None:
    """Raise `SigningError` if a signature is not by whom the library was told."""
    with tempfile.TemporaryDirectory(prefix="publisher-verify-") as folder:
        place = Path(folder, "signature")
        place.write_bytes(content)
        config.set_hashing_config(_known(signature.digests))
        try:
            config.verify("", place)
        except Exception:  # what is in it may make it raise nearly anything
            raise SigningError("was made by somebody else, or changed since it was made") from None


def _known(digests: Digests) -> "HashingConfig":
    """Return the library's settings for files whose SHA-256 are known already."""
    from model_signing import hashing, manifest
    from model_signing._hashing.hashing import Digest

    form = manifest.SerializationType.from_args(
        {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    )

    class Known(hashing.Config):
        def hash(self, model_path: "PathLike", *, files_to_hash: Any = None) -> "Manifest":
            items = [
                form.new_item(name, Digest("sha256", bytes.fromhex(value)))
                for name, value in digests.items()
            ]
            return manifest.Manifest(str(model_path), items, form)

    return Known()  # type: ignore[no-untyped-call]


def _require_library() -> None:
    """Raise `SigningError` if the packages of the extra `sign` are not installed."""
    for package in ("model_signing", "OpenSSL"):
        if importlib.util.find_spec(package) is None:
            raise SigningError(
                f"{package} is missing; install the extra: pip install 'bit-publisher[sign]'"
            )

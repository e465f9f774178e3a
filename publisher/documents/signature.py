"""Signatures, parsed strictly and without the library that wrote them.

A signature is a Sigstore bundle: an in-toto statement about the digests of files, signed as DSSE
(Sigstore documentation, "Bundle Format"; OpenSSF Model Signing 1.0). It must have exactly the
bytes that the library writes.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from publisher.documents.errors import DocumentError

LARGEST = 1 << 20  # bytes of a signature; one has a few thousand
OTHER = "has other bytes"
_CHANGED = "is no signature, or was changed since it was made"


@dataclass(frozen=True)
class Signature:
    """The signed SHA-256 by file name.

    `key` is the SHA-256 of the public key that the signature claims; None if it was made with an
    identity.
    """

    digests: Mapping[str, str]
    key: str | None


class _Strict(BaseModel):
    # Deferred, because every command imports these classes and few read a signature.
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, defer_build=True
    )


class _PublicKey(_Strict):
    hint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _ByKey(_Strict):
    public_key: _PublicKey
    tlog_entries: Annotated[tuple[Any, ...], Field(max_length=0)]


class _ByIdentity(_Strict):
    certificate: dict[str, Any]
    tlog_entries: Annotated[tuple[Any, ...], Field(min_length=1)]
    timestamp_verification_data: dict[str, Any] | None = None


class _Signed(_Strict):
    sig: str
    keyid: Literal[""] = ""


class _Envelope(_Strict):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: tuple[_Signed]


class _Bundle(_Strict):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _ByKey | _ByIdentity
    dsse_envelope: _Envelope


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, defer_build=True)


class _Resource(_Lenient):
    name: Annotated[str, Field(max_length=100, pattern=r"^[\w.-]+$")]
    algorithm: Literal["sha256"]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Predicate(_Lenient):
    resources: Annotated[tuple[_Resource, ...], Field(min_length=1, max_length=100)]


class _Statement(_Lenient):
    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    kind: Annotated[Literal["https://model_signing/signature/v1.0"], Field(alias="predicateType")]
    predicate: _Predicate


def read_signature(content: bytes) -> Signature:
    """Parse a signature without verifying it, which takes its key.

    Raises `DocumentError` if it is invalid or was changed after it was written.
    """
    if len(content) > LARGEST:
        raise DocumentError(f"is larger than {LARGEST >> 20} MiB")
    try:
        bundle = _Bundle.model_validate_json(content)
        payload = _decoded(bundle.dsse_envelope.payload)
        _decoded(bundle.dsse_envelope.signatures[0].sig)
        resources = _Statement.model_validate_json(payload).predicate.resources
        # JSON with other white space would pass as another signature.
        written = json.dumps(json.loads(content), separators=(",", ":"), ensure_ascii=False)
        whole = written.encode() == content
    except (ValidationError, ValueError):
        raise DocumentError(_CHANGED) from None
    digests = {resource.name: resource.digest for resource in resources}
    if not whole or len(digests) < len(resources):
        raise DocumentError(_CHANGED)
    material = bundle.verification_material
    return Signature(digests, material.public_key.hint if isinstance(material, _ByKey) else None)


def differences(signed: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Compare signed files with those that are there, both SHA-256 by name; return what differs."""
    found = []
    for name in sorted(signed.keys() | there.keys()):
        if name not in there:
            found.append(f"{name} is missing")
        elif name not in signed:
            found.append(f"{name} is not among what was signed")
        elif signed[name] != there[name]:
            found.append(f"{name} {OTHER}")
    return found


def _decoded(text: str) -> bytes:
    """Decode base64. Raises `ValueError` if the text is not its canonical form."""
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if base64.b64encode(content).decode() != text:
        raise ValueError("not as base64 is written")
    return content


def signs(content: bytes, digests: Mapping[str, str]) -> bool:
    """Whether a signature claims to sign exactly these SHA-256, by file name.

    Does not verify it, and does not say who made it.
    """
    try:
        return read_signature(content).digests == digests
    except DocumentError:
        return False

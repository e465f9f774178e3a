"""Writes and reads a version's provenance: an in-toto Statement v1 with SLSA Provenance v1.

Source of the formats: in-toto attestation framework, "Statement" and "ResourceDescriptor"; SLSA,
"Build: Provenance". The statement contains no time, so equal inputs give equal bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from publisher.documents.manifest import ARCHIVE, MANIFEST, SYNTHETIC_NOTICE, Manifest, Source
from publisher.errors import first_problem
from publisher.signing.errors import SigningError
from publisher.signing.origin import Origin
from publisher.util.files import sha256

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
# Defines the meaning of the parameters below; see docs/verifying.md.
BUILD_TYPE = "urn:bit-publisher:build:v1"
SOURCE, WEIGHTS = "source", "weights"  # names of dependencies
# The entries of a manifest's toolchain that are not packages.
_OWN = ("publisher", "platform")
_PARAMETERS = (
    "handle",
    "architecture",
    "head",
    "weight_standardization",
    "classes",
    "resolution",
    "input_range",
    "synthetic",
)


def provenance(
    manifest: Manifest, manifest_bytes: bytes, *, upstream: str, source: Origin
) -> dict[str, Any]:
    """Return the statement about one version.

    The manifest records the version's inputs and toolchain. Nothing records which checkout built
    it, so `source` is the checkout of the run that signs it, and the statement says so.
    `upstream` is the registry's address of the weights; synthetic weights have none.
    """
    checkpoint, stated = manifest.checkpoint, manifest.as_json()
    toolchain = manifest.toolchain
    internal = {name: toolchain[name] for name in _OWN if name in toolchain}
    if source.workflow:
        internal["workflow"] = source.workflow
    if source.commit is None:
        internal["commit"] = "unknown"
    metadata = {"metadata": {"invocationId": source.invocation}} if source.invocation else {}
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": ARCHIVE, "digest": {"sha256": manifest.archive.sha256}},
            {"name": MANIFEST, "digest": {"sha256": sha256(manifest_bytes)}},
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    **{name: stated[name] for name in _PARAMETERS if name in stated},
                    "checkpoint": {"name": checkpoint.name, "path": checkpoint.path},
                },
                "internalParameters": internal,
                "resolvedDependencies": [
                    _weights(checkpoint, upstream, synthetic=manifest.synthetic),
                    *_sources(source),
                    *(
                        {"name": name, "uri": purl(name, version)}
                        for name, version in packages(toolchain).items()
                    ),
                ],
            },
            "runDetails": {"builder": {"id": source.builder}, **metadata},
        },
    }


def packages(toolchain: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of the Python packages in a manifest's toolchain, by name."""
    return {name: version for name, version in toolchain.items() if name not in _OWN}


def purl(name: str, version: str) -> str:
    """Return the package URL of a package on PyPI (purl specification, "pypi")."""
    plain = name.lower().replace("_", "-")
    return f"pkg:pypi/{quote(plain, safe='')}@{quote(version, safe='')}"


def _weights(checkpoint: Source, upstream: str, *, synthetic: bool) -> dict[str, Any]:
    digest = {"digest": {"sha256": checkpoint.sha256}}
    if synthetic:
        return {"name": WEIGHTS, **digest, "annotations": {"notice": SYNTHETIC_NOTICE}}
    return {"name": WEIGHTS, "uri": f"{upstream.rstrip('/')}/{checkpoint.path}", **digest}


def _sources(source: Origin) -> list[dict[str, Any]]:
    """Return the source as a dependency; no dependency if its commit is unknown."""
    if source.commit is None:
        return []
    uri = {"uri": f"git+{source.repository}"} if source.repository else {}
    dirty = {} if source.dirty is None else {"dirty": source.dirty}
    return [
        {
            "name": SOURCE,
            **uri,
            "digest": {"gitCommit": source.commit},
            "annotations": {"recorded": "when it was signed", **dirty},
        }
    ]


@dataclass(frozen=True)
class Claims:
    """The claims of a statement: the SHA-256 of its subjects by name, and their origin."""

    subjects: Mapping[str, str]
    commit: str | None
    repository: str | None
    dirty: bool
    builder: str


# We print these fields of untrusted statements, so each must be one short word.
_Word = Annotated[str, Field(pattern=r"^[!-~]{1,300}$")]
_Commit = Annotated[str, Field(pattern="^[0-9a-f]{40,64}$")]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Annotations(_Read):
    dirty: bool = False


class _Digests(_Read):
    sha256: _Sha256 | None = None
    commit: Annotated[_Commit | None, Field(alias="gitCommit")] = None


class _Descriptor(_Read):
    name: str | None = None
    uri: _Word | None = None
    digest: _Digests = _Digests()
    annotations: _Annotations = _Annotations()


class _Definition(_Read):
    dependencies: Annotated[
        tuple[_Descriptor, ...], Field(alias="resolvedDependencies", max_length=10_000)
    ] = ()


class _Builder(_Read):
    id: _Word


class _Details(_Read):
    builder: _Builder


class _Predicate(_Read):
    definition: Annotated[_Definition, Field(alias="buildDefinition")]
    details: Annotated[_Details, Field(alias="runDetails")]


class _Statement(_Read):
    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[tuple[_Descriptor, ...], Field(min_length=1, max_length=100)]
    kind: Annotated[Literal["https://slsa.dev/provenance/v1"], Field(alias="predicateType")]
    predicate: _Predicate


def read_provenance(content: bytes) -> Claims:
    """Return the claims of a statement. Raises `SigningError` if it is not such a statement."""
    try:
        statement = _Statement.model_validate_json(content)
    except ValidationError as error:
        raise SigningError(f"is not a provenance statement ({first_problem(error)})") from None
    source = next(
        (one for one in statement.predicate.definition.dependencies if one.name == SOURCE),
        _Descriptor(),
    )
    subjects = {one.name or "": one.digest.sha256 or "" for one in statement.subject}
    if len(subjects) < len(statement.subject):
        raise SigningError("is not a provenance statement (subject: a name occurs twice)")
    return Claims(
        subjects,
        source.digest.commit,
        source.uri,
        source.annotations.dirty,
        statement.predicate.details.builder.id,
    )

"""Checks of signatures, provenance and bills of materials.

Each is compared with the files that it describes. Who signed them can only be proved with a key
from elsewhere or an identity that the person knows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from publisher.documents.errors import DocumentError
from publisher.documents.index import INDEX
from publisher.documents.manifest import ARCHIVE, MANIFEST
from publisher.documents.signature import Signature, differences, read_signature
from publisher.release.contents import BOM, INDEX_SIGNATURE, PROVENANCE, SIGNATURE, SUMS
from publisher.signing.bom import read_bom
from publisher.signing.errors import SigningError
from publisher.signing.provenance import Claims, read_provenance
from publisher.signing.signatures import Digests, Verifier
from publisher.util.files import sha256
from publisher.verify.findings import Finding, counted, proved, proved_unless, unproved
from publisher.verify.targets import Target

SIGNED_BY, MADE, CONSISTS = "signature", "provenance", "bom"
INDEX_NAME = "the index"
SHORT = 12  # characters of a commit or a key in messages


@dataclass(frozen=True)
class _Part:
    """The signed part of a target: its name, its signature, if any, and its files' digests."""

    name: str
    content: bytes | None
    digests: Digests


def signature(target: Target, verifier: Verifier | None) -> Finding:
    """Check who signed the versions and the index of a target.

    `verifier` checks signatures of the signer that a person trusts. With it, an unsigned part is
    a failure, because whoever can change an archive can also remove its signature.
    """
    parts = list(_parts(target))
    problems, signatures = [], {}
    for part in parts:
        if part.content is None:
            problems += [f"{part.name} is unsigned"] if verifier else []
            continue
        try:
            signatures[part.name] = read_signature(part.content)
            differing = differences(signatures[part.name].digests, part.digests)
            problems += [f"{part.name}: {one}, since it was signed" for one in differing]
            if verifier and not differing:
                verifier.check(part.content)
        except (DocumentError, SigningError) as error:
            problems.append(f"{part.name}: its signature {error}")
    if problems:
        return proved_unless(SIGNED_BY, problems, "")
    if verifier:
        return proved(SIGNED_BY, f"{_named(parts)}, by {verifier.by}")
    return _unproved(parts, signatures)


def origin(target: Target, signed: Finding) -> Finding:
    """Return what nothing here can prove about the origin of a target."""
    if signed.status == "proved":
        detail = "whether that signer is the publisher: compare with what you have from elsewhere"
    elif any(part.content is not None for part in _parts(target)):
        detail = "digests come from where the archives come from"
    else:
        detail = "nothing is signed: digests come from where the archives come from"
    return unproved("origin", detail)


def provenance(target: Target) -> Finding:
    """Compare provenance statements with their files, and show what they claim."""
    problems, claims = [], []
    for handle in target.archives:
        content = target.beside(handle).get(PROVENANCE)
        if content is None:
            continue
        try:
            found = read_provenance(content)
        except (DocumentError, SigningError) as error:
            problems.append(f"{handle}: {PROVENANCE} {error}")
            continue
        claims.append(found)
        there = _digests(target, handle)
        subjects = {name: there[name] for name in (ARCHIVE, MANIFEST) if name in there}
        if found.subjects != subjects:
            problems.append(f"{handle}: {PROVENANCE} is that of other files")
    if problems:
        return proved_unless(MADE, problems, "")
    if not claims:
        return unproved(MADE, f"nothing says how it was made: no {PROVENANCE}")
    said = list(dict.fromkeys(_said(found) for found in claims))
    more = f"; and {counted(len(said) - 1, 'other')}" if len(said) > 1 else ""
    return proved(
        MADE, f"{counted(len(claims), 'statement')} on these files, saying {said[0]}{more}"
    )


def materials(target: Target) -> list[Finding]:
    """Compare bills of materials with their archives; no finding if there are none."""
    problems, counts = [], []
    for handle in target.archives:
        content = target.beside(handle).get(BOM)
        if content is None:
            continue
        try:
            digest, count = read_bom(content)
        except (DocumentError, SigningError) as error:
            problems.append(f"{handle}: {BOM} {error}")
            continue
        counts.append(count)
        if digest != target.digests[handle]:
            problems.append(f"{handle}: {BOM} is that of another archive")
    if not problems and not counts:
        return []
    parts = counted(sum(counts), "component")
    bills = counted(len(counts), "bill of materials", "bills of materials")
    return [proved_unless(CONSISTS, problems, f"{bills} of these archives, {parts}")]


def _parts(target: Target) -> Iterator[_Part]:
    for handle in target.archives:
        content = target.beside(handle).get(SIGNATURE)
        yield _Part(handle, content, _digests(target, handle))
    if target.catalogue is not None:
        files = target.catalogue.files
        digests = {name: sha256(files[name]) for name in (INDEX, SUMS)}
        yield _Part(INDEX_NAME, files.get(INDEX_SIGNATURE), digests)


def _digests(target: Target, handle: str) -> dict[str, str]:
    """Return the SHA-256 of the files that a version's signature covers, by name."""
    small = {
        name: sha256(content)
        for name, content in target.beside(handle).items()
        if name != SIGNATURE
    }
    return {ARCHIVE: target.digests[handle], **small}


def _named(parts: list[_Part]) -> str:
    models = counted(sum(part.name != INDEX_NAME for part in parts), "model")
    return f"{models} and {INDEX_NAME}" if parts[-1].name == INDEX_NAME else models


def _unproved(parts: list[_Part], signatures: dict[str, Signature]) -> Finding:
    """Return what is signed and what is not, without a key to prove it."""
    if not signatures:
        return unproved(SIGNED_BY, "unsigned: nobody vouches for it")
    bare = [part.name for part in parts if part.name not in signatures]
    rest = f"; unsigned: {', '.join(bare)}" if bare else ""
    keys = {found.key for found in signatures.values()}
    if None in keys:
        return unproved(
            SIGNED_BY,
            f"for these files, by an identity; --identity NAME --issuer ADDRESS proves whose{rest}",
        )
    said = f"key {(keys.pop() or '')[:SHORT]}..." if len(keys) == 1 else counted(len(keys), "key")
    return unproved(
        SIGNED_BY, f"for these files, it says by {said}; --key PUBLIC.pem proves it{rest}"
    )


def _said(claims: Claims) -> str:
    """Return the claims of a provenance statement in a line."""
    commit = f"commit {claims.commit[:SHORT]}" if claims.commit else "an unknown commit"
    changed = " (changed)" if claims.dirty else ""
    place = f" of {claims.repository.removeprefix('git+')}" if claims.repository else ""
    return f"{commit}{changed}{place}, builder {claims.builder}"

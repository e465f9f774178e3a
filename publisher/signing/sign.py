"""Signs a release directory.

Rewrites outdated documents and keeps valid signatures, so a second run changes nothing. Writes
the list of digests and its signature last. A killed run leaves only whole files, and the next run
completes them.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from publisher.destinations.local.directory import Directory
from publisher.documents.errors import DocumentError
from publisher.documents.index import INDEX
from publisher.documents.manifest import ARCHIVE, MANIFEST, Manifest
from publisher.documents.signature import differences, read_signature
from publisher.registry import Registry
from publisher.release.contents import (
    BOM,
    INDEX_SIGNATURE,
    PROVENANCE,
    SIGNATURE,
    SIGNED,
    SUMS,
    folder_of,
    held_file,
    kept_documents,
    sums_of,
)
from publisher.signing.bom import bom, read_bom
from publisher.signing.errors import SigningError
from publisher.signing.origin import Origin
from publisher.signing.provenance import provenance, read_provenance
from publisher.signing.signatures import Digests, Signer
from publisher.util.files import json_bytes, sha256, sha256_file
from publisher.util.reporter import Reporter, Silent

STAGE = "sign"
# Another signer's signature is `left` if it matches the files, and `refused` if it does not.
Status = Literal["signed", "unchanged", "left", "refused"]


@dataclass(frozen=True)
class Signed:
    """The outcome for one version (`what` is its handle) or for the index."""

    what: str
    status: Status
    detail: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the outcome as `--json` prints it."""
        return {"what": self.what, "status": self.status, "detail": self.detail}


@dataclass(frozen=True)
class _Work:
    directory: Directory
    registry: Registry
    signer: Signer
    source: Origin
    again: bool


def sign_release(
    directory: Directory,
    registry: Registry,
    signer: Signer,
    source: Origin,
    *,
    again: bool = False,
    reporter: Reporter | None = None,
) -> list[Signed]:
    """Sign each version of a release, then its index; return the outcomes.

    The caller must hold the directory's lock. First compares all files with the digests that the
    release states, so that it never signs a damaged file. With `again`, replaces the signatures
    of other signers. Raises `SigningError` if the release is incomplete or signing fails, and
    `DestinationError` if the directory cannot be read or written.
    """
    reporter = reporter or Silent()
    held = directory.manifests()
    index, sums = directory.read(INDEX), directory.read(SUMS)
    if not held or index is None or sums is None:
        raise SigningError(f"{directory.name}: contains no release; publish one there first")
    _require_listed(directory, held, index, sums)
    for handle, manifest in held.items():
        reporter.started(handle, STAGE, "comparing its archive with its manifest")
        begin = time.monotonic()
        _require_archive(directory, handle, manifest)
        size = manifest.archive.size
        reporter.finished(handle, STAGE, time.monotonic() - begin, f"{size / 1e6:,.1f} MB")
    work = _Work(directory, registry, signer, source, again)
    done = [_version(work, handle, manifest) for handle, manifest in held.items()]
    documents = kept_documents(held, {}, directory)
    sums = sums_of(held, documents, index, {}, directory)
    directory.write(SUMS, sums)
    return [*done, _index(work, {INDEX: sha256(index), SUMS: sha256(sums)})]


def _version(work: _Work, handle: str, manifest: Manifest) -> Signed:
    """Write the documents of one version, and its signature last."""
    directory, folder = work.directory, folder_of(handle)
    manifest_bytes = held_file(handle, MANIFEST, directory)
    before = {name: directory.read(f"{folder}/{name}") for name in SIGNED}
    fixed = {ARCHIVE: manifest.archive.sha256, MANIFEST: sha256(manifest_bytes)}
    found = fixed | {
        name: sha256(content)
        for name, content in before.items()
        if content is not None and name != SIGNATURE
    }
    other = _other_signer(work.signer, before[SIGNATURE])
    if other and not work.again:
        return _not_replaced(handle, other, before[SIGNATURE] or b"", found)
    written = {
        PROVENANCE: _statement(work, manifest, manifest_bytes, fixed, before[PROVENANCE]),
        BOM: _materials(work, manifest, before[BOM]),
    }
    for name, content in written.items():
        directory.write(f"{folder}/{name}", content)
    digests = fixed | {name: sha256(content) for name, content in written.items()}
    if _is_valid(work.signer, before[SIGNATURE], digests):
        return Signed(handle, "unchanged")
    directory.write(f"{folder}/{SIGNATURE}", work.signer.sign(handle, digests))
    return Signed(handle, "signed", f"instead of {other}" if other else "")


def _index(work: _Work, digests: Digests) -> Signed:
    before = work.directory.read(INDEX_SIGNATURE)
    if _is_valid(work.signer, before, digests):
        return Signed("index", "unchanged")
    other = _other_signer(work.signer, before)
    if other and not work.again:
        outcome = _not_replaced("index", other, before or b"", digests)
        if outcome.status == "left":
            return outcome
    # Replace a signature of another index, whoever made it: it is worthless.
    work.directory.write(INDEX_SIGNATURE, work.signer.sign("index", digests))
    return Signed("index", "signed", f"instead of {other}" if other else "")


def _is_valid(signer: Signer, content: bytes | None, digests: Digests) -> bool:
    """Return whether `content` is the signer's own signature of these files."""
    try:
        return content is not None and signer.check(content).digests == digests
    except (DocumentError, SigningError):
        return False


def _other_signer(signer: Signer, content: bytes | None) -> str:
    """Return who made a signature; empty if the signer did, or if it is unreadable."""
    try:
        signature = read_signature(content or b"")
    except (DocumentError, SigningError):
        return ""
    if signature.key is not None:
        return "" if signature.key == signer.key else f"key SHA-256 {signature.key}"
    try:
        signer.check(content or b"")
    except (DocumentError, SigningError):
        return "an identity"
    return ""


def _not_replaced(what: str, other: str, content: bytes, digests: Digests) -> Signed:
    """Return the outcome for a signature that another signer made and `again` may replace."""
    problems = differences(read_signature(content).digests, digests)
    if not problems:
        return Signed(what, "left", f"signed by {other}")
    return Signed(
        what,
        "refused",
        f"signed by {other}, and changed since then ({', '.join(problems)}); find out what changed"
        " it, and add --again to sign it as it is",
    )


def _statement(
    work: _Work,
    manifest: Manifest,
    manifest_bytes: bytes,
    subjects: Digests,
    before: bytes | None,
) -> bytes:
    """Return the provenance: the existing statement if it is about these files, or a new one.

    The existing statement may come from the run that built the version, which knew more.
    """
    try:
        if before is not None and read_provenance(before).subjects == subjects:
            return before
    except (DocumentError, SigningError):
        pass  # replace an unreadable document
    upstream = work.registry.upstream
    return json_bytes(provenance(manifest, manifest_bytes, upstream=upstream, source=work.source))


def _materials(work: _Work, manifest: Manifest, before: bytes | None) -> bytes:
    """Return the bill of materials. Keeps the existing one if the checkpoint left the registry."""
    checkpoint = work.registry.checkpoints.get(manifest.checkpoint.name)
    try:
        known = checkpoint is not None or before is None
        if not known and read_bom(before or b"")[0] == manifest.archive.sha256:
            return before or b""
    except (DocumentError, SigningError):
        pass  # replace an unreadable document
    return json_bytes(bom(manifest, checkpoint))


def _require_archive(directory: Directory, handle: str, manifest: Manifest) -> None:
    archive = Path(directory.name) / folder_of(handle) / ARCHIVE
    try:
        digest = sha256_file(archive)
    except OSError as error:
        raise SigningError(f"{archive}: cannot be read ({error.strerror})") from error
    if digest != manifest.archive.sha256:
        raise SigningError(
            f"{archive}: does not have the digest that its manifest states, so nothing was signed;"
            " restore it from a copy"
        )


def _require_listed(
    directory: Directory, held: Mapping[str, Manifest], index: bytes, sums: bytes
) -> None:
    """Raise `SigningError` if a file differs from the list of digests."""
    documents = kept_documents(held, {}, directory)
    now = sums_of(held, documents, index, {}, directory)
    differing = sorted(
        line.partition("  ")[2] for line in _unsigned_lines(sums) ^ _unsigned_lines(now)
    )
    if differing:
        raise SigningError(
            f"{directory.name}/{differing[0]}: differs from its entry in {SUMS}, so nothing was"
            " signed; publish again, or restore it from a copy"
        )


def _unsigned_lines(sums: bytes) -> set[str]:
    """Return the lines of the files that an unsigned release has too."""
    return {
        line
        for line in sums.decode(errors="replace").splitlines()
        if line.rpartition("/")[2] not in SIGNED
    }

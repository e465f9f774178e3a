"""The files of a release besides its versions: documents, index and sums.

index.json, SHA256SUMS, index.sig
models/<publisher>/<name>/<version>/model.tar.gz, manifest.json, README.md
                                    provenance.json, bom.json, model.sig
tfhub.dev/assets/docs/...

Only a signed release has signatures, provenance.json and bom.json.

Publishing never removes a file: a version that left the registry stays, and so does the page of
a collection that was renamed.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from publisher.destinations.base import Destination, DestinationError
from publisher.documents.errors import DocumentError
from publisher.documents.index import (
    INDEX,
    About,
    Checkpoint,
    Collection,
    Entry,
    Index,
    Publisher,
    Reported,
    withdrawn_in,
)
from publisher.documents.manifest import ARCHIVE, MANIFEST, PAGE, Manifest
from publisher.errors import first_problem
from publisher.pages import document_path, render_collection, render_publisher
from publisher.registry import Registry
from publisher.util.files import sha256

SUMS = "SHA256SUMS"
DOCUMENTS = "tfhub.dev"
# The additional files of a signed version. The signature covers every file but the page, which
# may change.
PROVENANCE, BOM, SIGNATURE = SIGNED = ("provenance.json", "bom.json", "model.sig")
INDEX_SIGNATURE = "index.sig"  # of index.json and SHA256SUMS


def folder_of(handle: str) -> str:
    """Return the folder of a version in a release."""
    return f"models/{handle}"


def withdrawals_at(destination: Destination) -> dict[str, str]:
    """Return the reasons for withdrawals in the index of a destination, by handle."""
    index = destination.read(INDEX) if destination.holds_index else None
    try:
        return withdrawn_in(index) if index else {}
    except DocumentError:
        return {}  # the damaged index is about to be replaced


def kept_documents(
    held: Iterable[str], pages: Mapping[str, bytes], destination: Destination
) -> dict[str, bytes]:
    """Return the documents of a destination that get no new page, by path in the tree.

    `SHA256SUMS` lists them. The page of a version is also in its own folder, which is newer if
    an earlier run was killed before it wrote the tree.
    """
    sums = (destination.read(SUMS) or b"").decode(errors="replace")
    kept = {}
    for line in sums.splitlines():
        place = line.partition("  ")[2]
        content = destination.read(place) if place.startswith(f"{DOCUMENTS}/") else None
        if content is not None:
            kept[place.removeprefix(f"{DOCUMENTS}/")] = content
    for handle in held:
        if handle not in pages:
            kept[document_path(handle)] = held_file(handle, PAGE, destination)
    return kept


def new_documents(
    registry: Registry,
    held: Mapping[str, Manifest],
    pages: Mapping[str, bytes],
    withdrawn: Mapping[str, str],
    templates: Path,
) -> dict[str, bytes]:
    """Return the pages of versions, of the collection and of the publisher, by path in the tree."""
    documents = {document_path(handle): page for handle, page in pages.items()}
    if held:
        manifests = list(held.values())
        collection = render_collection(registry, manifests, templates, withdrawn)
        documents[document_path(registry.collection.handle)] = collection.encode()
        publisher = render_publisher(registry, manifests, templates, withdrawn)
        documents[document_path(registry.publisher.name)] = publisher.encode()
    return documents


def held_file(handle: str, name: str, destination: Destination) -> bytes:
    """Return a small file of a version. Raises `DestinationError` if it is missing."""
    content = destination.read(f"models/{handle}/{name}")
    if content is None:
        raise DestinationError(
            f"{destination.name}: models/{handle} is damaged: {name} is missing; restore it from a"
            " copy, or remove this folder and publish again"
        )
    return content


def index_of(
    registry: Registry, held: Mapping[str, Manifest], withdrawn: Mapping[str, str]
) -> Index:
    """Return the index of a release.

    Raises `DocumentError` if a text of the registry is too long for it.
    """
    names = {manifest.checkpoint.name for manifest in held.values()}
    try:
        return Index(
            schema_version=1,
            synthetic=any(manifest.synthetic for manifest in held.values()),
            publisher=registry.publisher.name,
            collection=registry.collection.handle,
            about=About(
                publisher=Publisher(**dict(registry.publisher)),
                collection=Collection(**dict(registry.collection)),
                asset_base=registry.asset_base,
            ),
            # A checkpoint that left the registry has no entry.
            checkpoints={
                name: Checkpoint(
                    license=checkpoint.license,
                    reported=tuple(Reported(**dict(figure)) for figure in checkpoint.reported),
                )
                for name, checkpoint in registry.checkpoints.items()
                if name in names
            },
            models=tuple(
                _entry(manifest, withdrawn.get(handle)) for handle, manifest in sorted(held.items())
            ),
        )
    except ValidationError as error:
        raise DocumentError(f"{first_problem(error, INDEX)}; shorten it in models.yaml") from error


def _entry(manifest: Manifest, withdrawn: str | None) -> Entry:
    reason = {} if withdrawn is None else {"withdrawn": withdrawn}
    return Entry(
        handle=manifest.handle,
        aliases=manifest.aliases,
        synthetic=manifest.synthetic,
        checkpoint=manifest.checkpoint.name,
        architecture=manifest.architecture,
        head=manifest.head,
        resolution=manifest.resolution,
        parameters=manifest.parameters,
        path=folder_of(manifest.handle),
        archive=manifest.archive,
        **reason,
    )


def sums_of(
    held: Mapping[str, Manifest],
    documents: Mapping[str, bytes],
    index: bytes,
    small: Mapping[str, bytes],
    destination: Destination,
) -> bytes:
    """Return `SHA256SUMS`, in the form that `sha256sum --check` reads.

    `small` are the small files that will be written, by path in the release; all others are read
    from the destination.
    """
    digests = {INDEX: sha256(index)}
    digests.update({f"{DOCUMENTS}/{path}": sha256(page) for path, page in documents.items()})
    for handle, manifest in held.items():
        folder = folder_of(handle)
        digests[f"{folder}/{ARCHIVE}"] = manifest.archive.sha256
        for name in (MANIFEST, PAGE):
            path = f"{folder}/{name}"
            content = small[path] if path in small else held_file(handle, name, destination)
            digests[path] = sha256(content)
        for name in SIGNED:
            path = f"{folder}/{name}"
            signed = small[path] if path in small else destination.read(path)
            if signed is not None:
                digests[path] = sha256(signed)
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items())).encode()

"""Built variants -> a release at a destination, with its index.

index.json, SHA256SUMS
models/<publisher>/<name>/<version>/model.tar.gz, manifest.json, README.md
tfhub.dev/assets/docs/...

Nothing is ever taken out of a release: a version that left the registry stays, and so
does the page of a collection that was renamed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from publisher.destinations import Destination, DestinationError
from publisher.files import json_bytes, sha256, sha256_file
from publisher.manifest import is_folded
from publisher.pages import (
    document_path,
    render_collection,
    render_publisher,
    require_good_pages,
)
from publisher.registry import Registry, Variant

INDEX = "index.json"
SUMS = "SHA256SUMS"
DOCUMENTS = "tfhub.dev"
ARCHIVE, MANIFEST, PAGE = ("model.tar.gz", "manifest.json", "README.md")
SCHEMA_VERSION = 1

Status = Literal["new", "unchanged", "page", "changed"]


@dataclass(frozen=True)
class Outcome:
    """What publishing a variant does: `changed` is refused, `message` says why."""

    variant: Variant
    status: Status
    message: str = ""


def compare(
    variant: Variant,
    manifest: Mapping[str, Any],
    page: bytes,
    destination: Destination,
    held: Mapping[str, Mapping[str, Any]],
) -> Outcome:
    """Say what publishing this variant would do at a destination that holds `held`."""
    there = held.get(variant.handle)
    if there is None:
        return Outcome(variant, "new")
    if there["archive"]["sha256"] != manifest["archive"]["sha256"]:
        return Outcome(
            variant,
            "changed",
            f"{variant.handle}: {destination.name} holds this version with other bytes (differs"
            f" in: {_difference(there, manifest)}), and a published version never changes; raise"
            f" the version in models.yaml to {_next_version(variant, held)}, or publish to"
            " another directory",
        )
    folder = f"models/{variant.handle}"
    same = destination.read(f"{folder}/{PAGE}") == page
    if same and destination.read(f"{folder}/{MANIFEST}") == json_bytes(manifest):
        return Outcome(variant, "unchanged")
    return Outcome(variant, "page")


def refuse_synthetic(destination_is_local: bool, synthetic: bool, allowed: bool) -> None:
    """Raise `DestinationError` where synthetic weights would leave this machine."""
    if synthetic and not destination_is_local and not allowed:
        raise DestinationError(
            "synthetic weights are random numbers and go to a local directory only; give one"
            " as the release, or add --allow-synthetic if you mean it"
        )


def publish(
    registry: Registry,
    built: Sequence[tuple[Variant, Mapping[str, Any], Path]],
    destination: Destination,
    templates: Path,
    *,
    allow_synthetic: bool = False,
) -> list[Outcome]:
    """Put built variants (variant, manifest, folder of its files) at the destination.

    Data goes first, the index last: after an interruption every version there is whole,
    and the same call finishes what is missing. A version that is there with the same
    bytes is left alone, one with other bytes is refused; its outcome says so and the
    others go on. What is held and not in `built` keeps its page.

    Raises `DestinationError` if the destination cannot take them, and `PageError` before
    anything is written if the pages would break a rule.
    """
    synthetic = any(manifest["synthetic"] for _, manifest, _ in built)
    refuse_synthetic(destination.local, synthetic, allow_synthetic)
    held = destination.manifests()
    outcomes = []
    pages: dict[str, bytes] = {}
    for variant, manifest, folder in built:
        page = (folder / PAGE).read_bytes()
        outcome = compare(variant, manifest, page, destination, held)
        if outcome.status == "new":
            outcome = _verified(outcome, manifest, folder / ARCHIVE)
        outcomes.append(outcome)
        if outcome.status != "changed":
            held[variant.handle] = dict(manifest)
            pages[variant.handle] = page
    new = _new_documents(registry, held, pages, templates)
    documents = dict(sorted((_kept_documents(held, pages, destination) | new).items()))
    # What is kept was checked when it came, and nothing here could mend it.
    require_good_pages(
        {path: content.decode(errors="replace") for path, content in documents.items()},
        known_handles=[variant.handle for variant in registry.variants],
        only=new,
    )
    for outcome, (variant, manifest, folder) in zip(outcomes, built, strict=True):
        if outcome.status not in ("new", "page"):
            continue
        small = {MANIFEST: json_bytes(manifest), PAGE: pages[variant.handle]}
        if outcome.status == "new":
            destination.add_version(variant.handle, {ARCHIVE: folder / ARCHIVE, **small})
        else:
            for name, content in small.items():
                destination.write(f"models/{variant.handle}/{name}", content)
    for path, content in documents.items():
        destination.write(f"{DOCUMENTS}/{path}", content)
    if held:
        index = json_bytes(_index(registry, held))
        destination.write(INDEX, index)
        destination.write(SUMS, _sums(held, documents, index, destination))
    return outcomes


def _verified(outcome: Outcome, manifest: Mapping[str, Any], archive: Path) -> Outcome:
    """Refuse an archive that is not the one its manifest describes.

    It was hashed when it was packed; since then a disk or a person may have changed it,
    and this is the last time that anyone looks before it is public.
    """
    try:
        intact = sha256_file(archive) == manifest["archive"]["sha256"]
    except OSError:
        intact = False
    if intact:
        return outcome
    return Outcome(
        outcome.variant,
        "changed",
        f"{outcome.variant.handle}: {archive} is not the archive that was built and checked;"
        " remove it and run again",
    )


def _difference(there: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Say in what the archives differ, as far as their manifests tell."""
    parts = []
    if there["checkpoint"]["sha256"] != manifest["checkpoint"]["sha256"]:
        parts.append("weights")
    if is_folded(there) != is_folded(manifest):
        parts.append("weight standardization")
    before, now = there["toolchain"], manifest["toolchain"]
    tools = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if tools:
        changes = [f"{name} {before.get(name)} there, {now.get(name)} here" for name in tools]
        parts.append(f"toolchain ({'; '.join(changes)})")
    return ", ".join(parts) or "graph or assets"


def _next_version(variant: Variant, held: Iterable[str]) -> str:
    versions = [
        int(version)
        for model, _, version in (handle.rpartition("/") for handle in held)
        if model == variant.unversioned
    ]
    return f"{variant.unversioned}/{max(versions) + 1}"


def _kept_documents(
    held: Iterable[str], pages: Mapping[str, bytes], destination: Destination
) -> dict[str, bytes]:
    """Return the documents that are there and have no new page, by path in the tree.

    `SHA256SUMS` lists them, and the versions hold their own pages, which counts where a
    killed run has not come to the tree.
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
            kept[document_path(handle)] = _held_file(handle, PAGE, destination)
    return kept


def _new_documents(
    registry: Registry,
    held: Mapping[str, Mapping[str, Any]],
    pages: Mapping[str, bytes],
    templates: Path,
) -> dict[str, bytes]:
    """Return the pages of what was built, of the collection and of the publisher."""
    documents = {document_path(handle): page for handle, page in pages.items()}
    if held:
        manifests = list(held.values())
        collection = render_collection(registry, manifests, templates)
        documents[document_path(registry.collection.handle)] = collection.encode()
        publisher = render_publisher(registry, manifests, templates)
        documents[document_path(registry.publisher.name)] = publisher.encode()
    return documents


def _held_file(handle: str, name: str, destination: Destination) -> bytes:
    content = destination.read(f"models/{handle}/{name}")
    if content is None:
        raise DestinationError(
            f"{destination.name}: models/{handle} is damaged: {name} is missing; restore it from a"
            " copy, or remove this folder and publish again"
        )
    return content


def _index(registry: Registry, held: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "synthetic": any(manifest["synthetic"] for manifest in held.values()),
        "publisher": registry.publisher.name,
        "collection": registry.collection.handle,
        "about": {
            "publisher": registry.publisher.model_dump(mode="json"),
            "collection": registry.collection.model_dump(mode="json"),
            "asset_base": registry.asset_base,
        },
        "checkpoints": _checkpoint_facts(registry, held),
        "models": [
            {
                "handle": handle,
                "aliases": manifest["aliases"],
                "synthetic": manifest["synthetic"],
                "checkpoint": manifest["checkpoint"]["name"],
                "architecture": manifest["architecture"],
                "head": manifest["head"],
                "resolution": manifest["resolution"],
                "parameters": manifest["parameters"],
                "path": f"models/{handle}",
                "archive": manifest["archive"],
            }
            for handle, manifest in sorted(held.items())
        ],
    }


def _checkpoint_facts(
    registry: Registry, held: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return what the catalogue shows of the checkpoints that are still in the registry."""
    names = {manifest["checkpoint"]["name"] for manifest in held.values()}
    return {
        name: checkpoint.model_dump(mode="json", include={"license", "reported"})
        for name, checkpoint in registry.checkpoints.items()
        if name in names
    }


def _sums(
    held: Mapping[str, Mapping[str, Any]],
    documents: Mapping[str, bytes],
    index: bytes,
    destination: Destination,
) -> bytes:
    """Return `SHA256SUMS`, which `sha256sum --check` reads in the release directory."""
    digests = {INDEX: sha256(index)}
    digests.update({f"{DOCUMENTS}/{path}": sha256(page) for path, page in documents.items()})
    for handle, manifest in held.items():
        folder = f"models/{handle}"
        digests[f"{folder}/{ARCHIVE}"] = manifest["archive"]["sha256"]
        for name in (MANIFEST, PAGE):
            digests[f"{folder}/{name}"] = sha256(_held_file(handle, name, destination))
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items())).encode()


def handles(outcomes: Iterable[Outcome], status: Status) -> list[str]:
    """Return the handles with that outcome."""
    return [outcome.variant.handle for outcome in outcomes if outcome.status == status]

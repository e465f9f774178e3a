"""The diff between the desired and the current state of one version at a destination."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from publisher.destinations.base import Destination
from publisher.documents.manifest import ARCHIVE, MANIFEST, PAGE, Manifest
from publisher.documents.plan import Change, Status
from publisher.documents.signature import signs
from publisher.pages import document_path, render_module
from publisher.pages.styles import style_of
from publisher.registry import Registry, Variant
from publisher.registry.models import Target
from publisher.release.contents import BOM, PROVENANCE, SIGNATURE, SIGNED, folder_of
from publisher.release.plan import difference, next_version
from publisher.util.files import sha256, sha256_file

Held = Mapping[str, Manifest]


class Offer(NamedTuple):
    """A variant to publish, with its manifest and the folder of its files.

    A withdrawn variant has neither. `signed` is the folder that may hold its signature.
    """

    variant: Variant
    manifest: Manifest | None
    folder: Path | None
    signed: Path | None = None


Offered = Offer | tuple[Variant, Manifest | None, Path | None]


@dataclass(frozen=True)
class DesiredVersion:
    """The desired state of one version, and the change to get there; `small` are files by name."""

    change: Change
    manifest: Manifest | None = None
    small: Mapping[str, bytes] = field(default_factory=dict)
    archive: Path | None = None

    @property
    def shown(self) -> bool:
        """Whether the destination will hold the version after publishing."""
        return not self.change.refused and self.manifest is not None

    def files(self) -> dict[str, bytes]:
        """Return its small files by path in the release."""
        folder = folder_of(self.change.handle)
        return {f"{folder}/{name}": content for name, content in self.small.items()}


@dataclass(frozen=True)
class Pages:
    """Renders the pages of a destination in its style."""

    registry: Registry
    destination: Destination
    target: Target | None
    templates: Path

    def of(self, offer: Offer, manifest: Manifest) -> bytes:
        """Return the page of one version."""
        if self.destination.style == "tfhub":
            if offer.folder:  # the build rendered it
                return (offer.folder / PAGE).read_bytes()
            return render_module(self.registry, offer.variant, manifest, self.templates).encode()
        assert self.target is not None  # noqa: S101  only models.yaml names such destinations
        page = style_of(self.destination.style).version(
            self.registry, self.target, offer.variant, manifest, self.templates
        )
        return page.encode()


def diff(offer: Offer, held: Held, pages: Pages, withdrawals: Mapping[str, str]) -> DesiredVersion:
    """Compare an offer with a destination that holds `held`, and return what publishing changes.

    `withdrawals` are the reasons of versions that are withdrawn there, by handle.
    """
    destination = pages.destination
    handle, withdrawn = offer.variant.handle, offer.variant.withdrawn is not None
    there = held.get(handle)
    manifest = there if withdrawn else offer.manifest
    facts = {
        "handle": handle,
        "offered": offer.manifest.archive.sha256 if offer.manifest else "",
        "there": there.archive.sha256 if there else "",
    }
    if manifest is None:
        return DesiredVersion(
            Change(**facts, status="withdrawn", message="withdrawn, and not there")
        )
    if not destination.holds_versions:
        page = pages.of(offer, manifest)
        before = destination.read(document_path(handle))
        status: Status = "unchanged" if before == page else "page" if before else "new"
        return DesiredVersion(Change(**facts, status=status), manifest, {PAGE: page})
    if there is None:
        archive = (offer.folder or Path()) / ARCHIVE
        fault = _fault(manifest, archive)
        if fault:
            return DesiredVersion(Change(**facts, status="changed", message=f"{handle}: {fault}"))
        small = _small(offer, manifest, pages.of(offer, manifest))
        return DesiredVersion(Change(**facts, status="new"), manifest, small, archive)
    if not withdrawn and handle in withdrawals:
        message = (
            f"{handle}: is withdrawn at {destination.name} ({withdrawals[handle]}), and"
            " models.yaml does not say so; take the newest models.yaml, or to end the withdrawal"
            " add --reinstate"
        )
        return DesiredVersion(Change(**facts, status="changed", message=message))
    if not withdrawn and facts["offered"] != facts["there"]:
        message = (
            f"{handle}: {destination.name} holds this version with other bytes (differs"
            f" in: {difference(there, manifest)}), and a published version never changes; raise"
            f" the version in models.yaml to {next_version(offer.variant, held)}, or publish"
            " elsewhere"
        )
        return DesiredVersion(Change(**facts, status="changed", message=message))
    small = _small(offer, manifest, pages.of(offer, manifest))
    small, same = _compared(handle, small, destination, held)
    if same:
        status = "withdrawn" if withdrawn else "unchanged"
    else:
        status = "withdraw" if withdrawn else "page"
    return DesiredVersion(Change(**facts, status=status), manifest, small)


def _small(offer: Offer, manifest: Manifest, page: bytes) -> dict[str, bytes]:
    """Return a version's small files by name, including its signature if that is still valid."""
    small = {MANIFEST: manifest.as_bytes(), PAGE: page}
    paths = {name: offer.signed / name for name in SIGNED} if offer.signed else {}
    if paths and all(path.is_file() for path in paths.values()):
        signed = {name: path.read_bytes() for name, path in paths.items()}
        digests = {ARCHIVE: manifest.archive.sha256, MANIFEST: sha256(small[MANIFEST])}
        digests |= {name: sha256(signed[name]) for name in (PROVENANCE, BOM)}
        if signs(signed[SIGNATURE], digests):
            small |= signed
    return small


def _compared(
    handle: str, small: Mapping[str, bytes], destination: Destination, held: Held
) -> tuple[dict[str, bytes], bool]:
    """Return the small files that a held version should have, and whether it has them.

    The destination keeps its signature as long as the signed files stay the same, because every
    signing gives another signature.
    """
    folder = folder_of(handle)
    desired = dict(small)
    if _page_is_a_later_versions(handle, destination, held):
        del desired[PAGE]
    if destination.seals_versions:
        desired = {name: content for name, content in desired.items() if name == PAGE}
    there = {name: destination.read(f"{folder}/{name}") for name in desired}
    if there.get(MANIFEST) == desired.get(MANIFEST):
        desired |= {name: there[name] or small[name] for name in SIGNED if name in desired}
    return desired, all(there[name] == content for name, content in desired.items())


def _page_is_a_later_versions(handle: str, destination: Destination, held: Held) -> bool:
    """Whether the versions of a model share one page, and a later version has it."""
    model, _, version = handle.rpartition("/")
    versions = [int(v) for m, _, v in (other.rpartition("/") for other in held) if m == model]
    return destination.shares_page and max(versions) > int(version)


def _fault(manifest: Manifest, archive: Path) -> str:
    """Return why an archive is not the one that its manifest describes; empty if it is.

    It was hashed when it was packed. A disk or a person may have changed it since, and this is
    the last check before it is public.
    """
    try:
        if sha256_file(archive) == manifest.archive.sha256:
            return ""
    except OSError:
        pass
    return f"{archive} is not the archive that was built and checked; remove it and run again"

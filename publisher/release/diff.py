"""One version as a destination should show it, compared with what is there."""

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
    """A variant with its manifest and the folder of its files; none of both if withdrawn.

    `signed` is the folder that may hold its signature.
    """

    variant: Variant
    manifest: Manifest | None
    folder: Path | None
    signed: Path | None = None


Offered = Offer | tuple[Variant, Manifest | None, Path | None]


@dataclass(frozen=True)
class DesiredVersion:
    """One version as the destination should show it; `small` are its small files by name."""

    change: Change
    manifest: Manifest | None = None
    small: Mapping[str, bytes] = field(default_factory=dict)
    archive: Path | None = None

    @property
    def shown(self) -> bool:
        """Whether it is or will be there as it is wanted."""
        return not self.change.refused and self.manifest is not None

    def files(self) -> dict[str, bytes]:
        """Return its small files by their path in a release."""
        folder = folder_of(self.change.handle)
        return {f"{folder}/{name}": content for name, content in self.small.items()}


@dataclass(frozen=True)
class Pages:
    """The pages that a destination shows, in its style."""

    registry: Registry
    destination: Destination
    target: Target | None
    templates: Path

    def of(self, offer: Offer, manifest: Manifest) -> bytes:
        """Return the page of one version."""
        if self.destination.style == "tfhub":
            if offer.folder:  # it was rendered when it was built
                return (offer.folder / PAGE).read_bytes()
            return render_module(self.registry, offer.variant, manifest, self.templates).encode()
        assert self.target is not None  # noqa: S101  only models.yaml names such destinations
        page = style_of(self.destination.style).version(
            self.registry, self.target, offer.variant, manifest, self.templates
        )
        return page.encode()


def diff(offer: Offer, held: Held, pages: Pages, withdrawals: Mapping[str, str]) -> DesiredVersion:
    """Say what offering this does at a destination that holds `held`.

    `withdrawals` are the reasons why versions there are withdrawn, by handle.
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
            " models.yaml does not say so; if it is an older one, take the newest, and if it"
            " shall be good again, add --reinstate"
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
    small, same = _changed(handle, small, destination, held)
    kept: Status = "withdrawn" if withdrawn else "unchanged"
    mended: Status = "withdraw" if withdrawn else "page"
    return DesiredVersion(Change(**facts, status=kept if same else mended), manifest, small)


def _small(offer: Offer, manifest: Manifest, page: bytes) -> dict[str, bytes]:
    """Return a version's small files by name, with its signature if it is signed."""
    small = {MANIFEST: manifest.as_bytes(), PAGE: page}
    paths = {name: offer.signed / name for name in SIGNED} if offer.signed else {}
    if paths and all(path.is_file() for path in paths.values()):
        signed = {name: path.read_bytes() for name, path in paths.items()}
        digests = {ARCHIVE: manifest.archive.sha256, MANIFEST: sha256(small[MANIFEST])}
        digests |= {name: sha256(signed[name]) for name in (PROVENANCE, BOM)}
        if signs(signed[SIGNATURE], digests):
            small |= signed
    return small


def _changed(
    handle: str, small: Mapping[str, bytes], destination: Destination, held: Held
) -> tuple[dict[str, bytes], bool]:
    """Return the small files that a version there should have, and whether it has them.

    A signature that is there stays while what is signed does: it is another one each time
    that somebody signs.
    """
    folder = folder_of(handle)
    wanted = dict(small)
    if _page_is_shared(handle, destination, held):
        del wanted[PAGE]
    if destination.seals_versions:
        wanted = {name: content for name, content in wanted.items() if name == PAGE}
    there = {name: destination.read(f"{folder}/{name}") for name in wanted}
    if there.get(MANIFEST) == wanted.get(MANIFEST):
        wanted |= {name: there[name] or small[name] for name in SIGNED if name in wanted}
    return wanted, all(there[name] == content for name, content in wanted.items())


def _page_is_shared(handle: str, destination: Destination, held: Held) -> bool:
    """Whether the model's one page is that of a later version, so that this one has none."""
    model, _, version = handle.rpartition("/")
    versions = [int(v) for m, _, v in (other.rpartition("/") for other in held) if m == model]
    return destination.shares_page and max(versions) > int(version)


def _fault(manifest: Manifest, archive: Path) -> str:
    """Say why an archive is not the one that its manifest describes, if it is not.

    It was hashed when it was packed; since then a disk or a person may have changed it,
    and this is the last time that anyone looks before it is public.
    """
    try:
        if sha256_file(archive) == manifest.archive.sha256:
            return ""
    except OSError:
        pass
    return f"{archive} is not the archive that was built and checked; remove it and run again"

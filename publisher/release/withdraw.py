"""Withdrawing a version: in models.yaml, in the release directory and at each destination."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from publisher.destinations.base import DestinationError
from publisher.destinations.local.directory import Directory
from publisher.documents.plan import Change
from publisher.registry import edit, load_registry
from publisher.release.contents import INDEX_SIGNATURE
from publisher.release.destinations import OpenDestination, open_destinations
from publisher.release.diff import Offer
from publisher.release.publish import (
    Consent,
    Outcome,
    Publication,
    carry_out,
    prepare,
    publish_to,
)
from publisher.release.settings import WithdrawSettings
from publisher.util.reporter import Reporter


@dataclass(frozen=True)
class Withdrawn:
    """The result of a withdrawal.

    `reason` is the one in models.yaml, and `edited` says whether this withdrawal put it there.
    `change` is that of the release directory.
    """

    reason: str
    edited: bool
    change: Change
    outcomes: Sequence[Outcome]


def withdraw(
    settings: WithdrawSettings,
    environment: Mapping[str, str],
    consent: Consent,
    reporter: Reporter,
) -> Withdrawn:
    """Write the reason into models.yaml, the release directory and each destination.

    Raises `RegistryError` for an unknown handle, and `DestinationError`, before anything is
    changed, if a destination cannot be written or has a signed index.
    """
    handle, release = settings.handle, settings.release
    before = load_registry(settings.registry_file)
    opened = open_destinations(before, settings.to, settings.build, environment, to_write=True)
    _require_unsigned(opened, handle, release)
    made = edit.withdraw(settings.registry_file, handle, settings.reason)
    edit.save(made)
    registry = load_registry(settings.registry_file)
    (variant,) = [variant for variant in registry.variants if variant.handle == handle]
    offers = [Offer(variant, None, None)]
    publication = Publication(registry, settings.registry_file.absolute().parent / "templates")
    directory = Directory(release.absolute())
    with directory.locked():
        prepared = prepare(publication, offers, directory)
        carry_out(prepared, directory)
        known = directory.manifests() if opened else {}
    # The destination may hold synthetic versions already; nothing new is uploaded.
    publication = replace(
        publication, release=release.absolute(), known=known, allow_synthetic=True
    )
    outcomes = [publish_to(one, publication, offers, consent, reporter) for one in opened]
    (change, *_) = [one for one in prepared.plan.changes if one.handle == handle]
    return Withdrawn(str(variant.withdrawn), bool(made.handles), change, outcomes)


def _require_unsigned(opened: Sequence[OpenDestination], handle: str, release: Path) -> None:
    """Raise `DestinationError` if a destination's index is signed: its signature would break."""
    for one in opened:
        if one.destination.holds_index and one.destination.read(INDEX_SIGNATURE) is not None:
            raise DestinationError(
                f"{one.name}: its index is signed, and a withdrawal changes it; nothing was"
                f" changed: leave out --to, then run `publisher sign --release {release}` and"
                f" `publisher publish '{handle}' --release '{release}' --to {one.name}`"
            )

"""`build`, `plan` and `publish`: the build, the release directory, then each destination."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from publisher.build import build as builds
from publisher.build.build import Built, Failed, Stale
from publisher.build.preflight import preflight
from publisher.build.stages import Run
from publisher.destinations.base import DestinationError
from publisher.destinations.local.directory import Directory
from publisher.documents.index import INDEX
from publisher.documents.plan import Change, Plan, SavedPlans
from publisher.documents.signature import signs
from publisher.errors import PublisherError, raise_all
from publisher.registry import Variant
from publisher.release.contents import INDEX_SIGNATURE, SUMS
from publisher.release.destinations import OpenDestination, expanded, open_destinations
from publisher.release.diff import Offer
from publisher.release.offers import collect_builds, offers_of
from publisher.release.publish import (
    Consent,
    Outcome,
    Publication,
    carry_out,
    prepare,
    publish_to,
)
from publisher.release.settings import PublishSettings
from publisher.util.files import sha256, sha256_file
from publisher.util.reporter import Reporter


@dataclass(frozen=True)
class Planned:
    """The plan of a run: its builds, the release directory (`own`) and each destination.

    `held` are the handles that the release directory holds now.
    """

    results: Sequence[Built | Stale | Failed]
    own: Plan
    held: frozenset[str]
    plans: SavedPlans

    @property
    def waiting(self) -> list[str]:
        """The handles that are not built, so that their plan is unknown."""
        return [one.variant.handle for one in self.results if isinstance(one, Stale)]


@dataclass(frozen=True)
class Published:
    """The result of a run: each variant, the release directory and each destination.

    `changes` are those of the release directory; `refusal` is the error that stopped them.
    """

    results: Sequence[Built | Failed]
    changes: Sequence[Change] = ()
    refusal: PublisherError | None = None
    outcomes: Sequence[Outcome] = ()


def build(run: Run, variants: Sequence[Variant]) -> Published:
    """Build what is stale; publish nothing.

    Raises the errors of `preflight`, and `BuildError` if another process uses the build folder.
    """
    raise_all(preflight(run, _active(variants)))
    with builds.build_lock(run.settings.build):
        return Published(builds.build(run, _active(variants)))


def plan(
    run: Run,
    variants: Sequence[Variant],
    settings: PublishSettings,
    environment: Mapping[str, str],
) -> Planned:
    """Return what `publish` would do with these variants; write nothing.

    Credentials come from `environment`. Raises the errors of `preflight`, and `DestinationError`
    if a destination cannot be read.
    """
    opened = _opened(run, variants, settings, environment, to_write=False)
    release = settings.release.absolute()
    directory = Directory(release)
    results = builds.dry_run(run, _active(variants))
    offers = offers_of(results, variants, release)
    held = directory.manifests()
    own, *plans = _plans(_publication(run, settings), offers, directory, release, opened)
    saved = SavedPlans(
        registry=sha256_file(run.settings.registry_file),
        handles=tuple(variant.handle for variant in variants),
        plans=tuple(plans),
    )
    return Planned(results, own, frozenset(held), saved)


def publish(
    run: Run,
    variants: Sequence[Variant],
    settings: PublishSettings,
    environment: Mapping[str, str],
    consent: Consent,
) -> Published:
    """Build what is stale, write the release directory, and publish to each destination.

    `consent` is asked before each destination is written. Credentials come from `environment`.
    The result has the errors of single variants and destinations. Raises the errors of
    `preflight` and of destinations that cannot be written, all at once and before anything is
    built, and `BuildError` if another process uses the build folder.
    """
    opened = _opened(run, variants, settings, environment, to_write=True)
    release = settings.release.absolute()
    directory = Directory(release)
    active = _active(variants)
    with builds.build_lock(run.settings.build), directory.locked():
        built = settings.built
        results = collect_builds(active, built) if built else builds.build(run, active)
        offers = offers_of(results, variants, release)
        publication = _publication(run, settings)
        try:
            if settings.all_or_nothing:
                if len(offers) < len(variants):
                    raise DestinationError(
                        "nothing was published, because not every variant is good"
                        " (--all-or-nothing)"
                    )
                _require_no_refusal(_plans(publication, offers, directory, release, opened))
            changes = _release(publication, offers, directory, settings.release, run.reporter)
        except PublisherError as error:
            return Published(results, refusal=error)
        if not opened:
            return Published(results, changes)
        refused = {change.handle for change in changes if change.refused}
        good = [offer for offer in offers if offer.variant.handle not in refused]
        publication = replace(publication, release=release, known=directory.manifests())
        saved = settings.saved.plans if settings.saved else ()
        plans = {one.destination: one for one in saved}
        outcomes = [
            publish_to(one, publication, good, consent, run.reporter, plans.get(one.name))
            for one in opened
        ]
    return Published(results, changes, None, outcomes)


def _plans(
    publication: Publication,
    offers: Sequence[Offer],
    directory: Directory,
    release: Path,
    opened: Sequence[OpenDestination],
) -> list[Plan]:
    """Return the plan of the release directory and of each destination; write nothing."""
    registry = publication.registry
    own = prepare(publication, offers, directory).plan
    built = {offer.variant.handle: offer.manifest for offer in offers if offer.manifest}
    known = {**directory.manifests(), **built}
    publication = replace(publication, release=release, known=known)
    return [own] + [
        prepare(publication, one.chosen(registry, offers), one.destination, one.target).plan
        for one in opened
    ]


def _require_no_refusal(plans: Sequence[Plan]) -> None:
    """Raise `DestinationError` if a plan refuses a version."""
    refused = [
        f"{plan.destination}: {change.handle}: {change.message}"
        for plan in plans
        for change in plan.refused
    ]
    if refused:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise DestinationError(f"nothing was published (--all-or-nothing): {refused[0]}{more}")


def _opened(
    run: Run,
    variants: Sequence[Variant],
    settings: PublishSettings,
    environment: Mapping[str, str],
    *,
    to_write: bool,
) -> list[OpenDestination]:
    """Open the destinations, and raise their errors together with those of `preflight`."""
    build, release = run.settings.build, settings.release.absolute()
    names = expanded(run.registry, settings.to)
    known = [] if settings.built else preflight(run, _active(variants), names, release)
    return open_destinations(
        run.registry, names, build, environment, to_write=to_write, known=known
    )


def _active(variants: Sequence[Variant]) -> list[Variant]:
    return [variant for variant in variants if variant.withdrawn is None]


def _publication(run: Run, settings: PublishSettings) -> Publication:
    return Publication(
        run.registry,
        run.settings.templates,
        allow_synthetic=settings.allow_synthetic,
        reinstate=settings.reinstate,
    )


def _release(
    publication: Publication,
    offers: Sequence[Offer],
    directory: Directory,
    shown: Path,
    reporter: Reporter,
) -> tuple[Change, ...]:
    """Publish to the release directory, and warn if its signature is no longer valid."""
    if not offers:
        return ()
    prepared = prepare(publication, offers, directory)
    carry_out(prepared, directory)
    signature = directory.read(INDEX_SIGNATURE)
    digests = {name: sha256(directory.read(name) or b"") for name in (INDEX, SUMS)}
    if signature is not None and not signs(signature, digests):
        reporter.warn(
            f"{shown} is signed and has changed since; sign it again: publisher sign --release"
            f" {shown}"
        )
    return prepared.plan.changes

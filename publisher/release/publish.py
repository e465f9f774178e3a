"""Publishing to a destination: make a plan, get consent, carry it out.

`prepare` makes the plan and writes nothing. `carry_out` writes archives first and the index
last, so that after an interruption every version is complete and the same call finishes the
rest. At the end it asks the destination what it holds.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from publisher.destinations.base import Destination, DestinationError
from publisher.destinations.journal import journal
from publisher.documents.index import INDEX
from publisher.documents.manifest import ARCHIVE, PAGE
from publisher.documents.plan import WRITING, Change, Plan, Write
from publisher.documents.signature import signs
from publisher.errors import PublisherError
from publisher.pages import document_path, require_good_pages
from publisher.pages.styles import style_of
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.release.contents import (
    DOCUMENTS,
    INDEX_SIGNATURE,
    SUMS,
    index_of,
    kept_documents,
    new_documents,
    sums_of,
    withdrawals_at,
)
from publisher.release.destinations import OpenDestination
from publisher.release.diff import DesiredVersion, Held, Offer, Offered, Pages, diff
from publisher.release.plan import require_same
from publisher.util.files import sha256
from publisher.util.reporter import Reporter

# Gets an event (`sends`, `sent`, `wrote`, `done`), its object, and the SHA-256 of that.
Note = Callable[[str, str, str], None]
# Returns whether a plan may be carried out.
Consent = Callable[[Plan], bool]
STAGE = "publish"


@dataclass(frozen=True)
class Publication:
    """The source and the conditions of publishing.

    `release` is the release directory, whose index signature is published with an identical
    index. `known` are the manifests of the whole release, for destinations that hold only pages.
    """

    registry: Registry
    templates: Path
    release: Path | None = None
    known: Held = field(default_factory=dict)
    allow_synthetic: bool = False
    reinstate: bool = False


@dataclass(frozen=True)
class Prepared:
    """A plan with the contents to write, and the manifests of the versions held afterwards."""

    plan: Plan
    versions: Mapping[str, Mapping[str, Path | bytes]]
    writes: tuple[tuple[str, bytes], ...]
    manifests: Held


def refuse_synthetic(destination: Destination, synthetic: bool, allowed: bool) -> None:
    """Raise `DestinationError` where synthetic weights would leave this machine."""
    if synthetic and not destination.local and not allowed:
        raise DestinationError(
            f"{destination.name}: synthetic weights are random numbers and stay on this machine;"
            " publish real ones, or add --allow-synthetic if you mean it"
        )


def prepare(
    publication: Publication,
    offers: Sequence[Offered],
    destination: Destination,
    target: Target | None = None,
) -> Prepared:
    """Make the plan: compare the offers with what the destination holds; write nothing.

    A held version with the same bytes is unchanged. One with other bytes is refused, without
    stopping the others. A version that is withdrawn at the destination but not in the registry,
    which may be outdated, is refused unless `reinstate` is set. A held version that is not
    offered keeps its page. `target` is the destination's entry in models.yaml.

    Raises `DestinationError` if the destination cannot be read or must not get these offers, and
    `PageError` if a page would break a rule.
    """
    built = [Offer(*offer) for offer in offers]
    synthetic = any(offer.manifest.synthetic for offer in built if offer.manifest)
    registry = publication.registry
    refuse_synthetic(destination, synthetic, publication.allow_synthetic)
    if destination.holds_versions:
        held: Held = destination.manifests()
    else:
        held = {
            handle: manifest
            for handle, manifest in publication.known.items()
            if destination.read(document_path(handle)) is not None
        }
    pages = Pages(registry, destination, target, publication.templates)
    offered = {offer.variant.handle for offer in built} if publication.reinstate else set()
    withdrawals = withdrawals_at(destination)
    withdrawals = {handle: why for handle, why in withdrawals.items() if handle not in offered}
    desired = [diff(offer, held, pages, withdrawals) for offer in built]
    shown = [one for one in desired if one.shown]
    after = {**held, **{one.change.handle: one.manifest for one in shown if one.manifest}}
    versions: dict[str, Mapping[str, Path | bytes]] = {}
    writes: list[tuple[str, bytes]] = []
    for one in shown:
        if one.change.status == "new" and one.archive:
            versions[one.change.handle] = {ARCHIVE: one.archive, **one.small}
        elif one.change.status in WRITING and destination.holds_versions:
            writes += one.files().items()
    withdrawals |= {v.handle: v.withdrawn for v in registry.variants if v.withdrawn}
    writes += _documents(pages, after, shown, withdrawals, publication.release)
    leftovers = _left_over(registry, held) if destination.holds_versions else ()
    changes = [*(one.change for one in desired), *leftovers]
    # The plan leaves out files that are there already.
    writes = [(path, content) for path, content in writes if destination.read(path) != content]
    plan = Plan(
        destination=destination.name,
        changes=tuple(changes),
        writes=tuple(Write(path=path, sha256=sha256(content)) for path, content in writes),
    )
    return Prepared(plan, versions, tuple(writes), after)


def carry_out(
    prepared: Prepared, destination: Destination, note: Note = lambda did, what, digest: None
) -> None:
    """Carry out the plan in its order, then check what the destination holds.

    `note` gets each event. Raises `DestinationError` at the first failure. What was written
    before stays, and the same call finishes the rest.
    """
    if prepared.plan.empty:
        return
    # Some destinations serve the version that came last, so that has to be the newest.
    for handle in sorted(prepared.versions, key=lambda one: int(one.rpartition("/")[2])):
        files = prepared.versions[handle]
        digest = prepared.manifests[handle].archive.sha256
        note("sends", handle, digest)
        destination.add_version(handle, files)
        note("sent", handle, digest)
    for path, content in prepared.writes:
        destination.write(path, content)
        note("wrote", path, sha256(content))
    if prepared.versions:
        there = destination.manifests()
        for handle in prepared.versions:
            if there.get(handle) != prepared.manifests[handle]:
                raise DestinationError(
                    f"{destination.name}: took {handle} without an error and does not hold it as it"
                    " was sent; run again, and if that ends the same way look at it there"
                )
    note("done", destination.name, "")


@dataclass(frozen=True)
class Outcome:
    """The result of publishing to one destination, and the plan, if it could be made.

    `versions` is the number of archives that were sent, in `seconds`; `error` is why publishing
    failed.
    """

    name: str
    did: Literal["nothing", "declined", "written", "failed"]
    plan: Plan | None = None
    versions: int = 0
    seconds: float = 0
    error: PublisherError | None = None


def publish_to(
    opened: OpenDestination,
    publication: Publication,
    offers: Sequence[Offer],
    consent: Consent,
    reporter: Reporter,
    saved: Plan | None = None,
) -> Outcome:
    """Publish the offers that models.yaml sends to one destination, and return the outcome.

    `consent` is asked before anything is written. The plan has to equal `saved`, if that is
    given.
    """
    plan = None
    begin = time.monotonic()
    try:
        chosen = opened.chosen(publication.registry, offers)
        prepared = prepare(publication, chosen, opened.destination, opened.target)
        plan = prepared.plan
        if saved is not None:
            require_same(saved, plan)
        if plan.empty:
            return Outcome(opened.name, "nothing", plan)
        if not consent(plan):
            return Outcome(opened.name, "declined", plan)
        carry_out(prepared, opened.destination, _noting(opened, reporter))
    except PublisherError as error:
        return Outcome(opened.name, "failed", plan, error=error)
    seconds = time.monotonic() - begin
    return Outcome(opened.name, "written", plan, len(prepared.versions), seconds)


def _noting(opened: OpenDestination, reporter: Reporter) -> Note:
    """Return a note that writes the journal and reports progress."""
    keep = journal(opened.folder)
    begun: dict[str, float] = {}

    def note(did: str, what: str, digest: str) -> None:
        keep(did, what, digest)
        if did == "sends":
            begun[what] = time.monotonic()
            reporter.started(what, STAGE, f"to {opened.name}")
        elif did == "sent":
            seconds = time.monotonic() - begun[what]
            reporter.finished(what, STAGE, seconds, f"in {opened.name}")

    return note


def _left_over(registry: Registry, held: Held) -> list[Change]:
    known = {variant.handle for variant in registry.variants}
    return [
        Change(handle=handle, status="left over", there=held[handle].archive.sha256)
        for handle in sorted(held)
        if handle not in known
    ]


def _documents(
    pages: Pages,
    after: Held,
    shown: Sequence[DesiredVersion],
    withdrawn: Mapping[str, str],
    release: Path | None,
) -> list[tuple[str, bytes]]:
    """Return the documents to write, then the index and its sums, where a destination has them."""
    registry, destination, templates = pages.registry, pages.destination, pages.templates
    if destination.style != "tfhub":
        assert pages.target is not None  # noqa: S101
        texts = style_of(destination.style).documents(
            registry, pages.target, list(after.values()), templates
        )
        return [(path, text.encode()) for path, text in texts.items() if after]
    own = {one.change.handle: one.small[PAGE] for one in shown if PAGE in one.small}
    new = new_documents(registry, after, own, withdrawn, templates)
    if destination.holds_index:
        kept = kept_documents(after, own, destination)
    else:
        others = {document_path(handle) for handle in after if handle not in own}
        kept = {path: destination.read(path) or b"" for path in others}
    documents = dict(sorted((kept | new).items()))
    # Kept documents were checked when they were published.
    require_good_pages(
        {path: content.decode(errors="replace") for path, content in documents.items()},
        known_handles=[variant.handle for variant in registry.variants],
        only=new,
    )
    if not destination.holds_index:
        return list(documents.items())
    writes = [(f"{DOCUMENTS}/{path}", content) for path, content in documents.items()]
    if after:
        index = index_of(registry, after, withdrawn).as_bytes()
        small = {path: content for one in shown for path, content in one.files().items()}
        sums = sums_of(after, documents, index, small, destination)
        writes += [(INDEX, index), (SUMS, sums)]
        writes += _index_signature(index, sums, release, destination)
    return writes


def _index_signature(
    index: bytes, sums: bytes, release: Path | None, destination: Destination
) -> list[tuple[str, bytes]]:
    """Return the signature of the release directory's index, if this index is the same.

    Raises `DestinationError` if the destination's signature would become invalid.
    """
    if release is None:
        return []
    digests = {INDEX: sha256(index), SUMS: sha256(sums)}
    there = destination.read(INDEX_SIGNATURE)
    if there is not None and signs(there, digests):
        return []
    path = release / INDEX_SIGNATURE
    signature = path.read_bytes() if path.is_file() else b""
    if signature and signs(signature, digests):
        return [(INDEX_SIGNATURE, signature)]
    if there is not None:
        raise DestinationError(
            f"{destination.name}: its index is signed, and the new index would not match the"
            f" signature in {release}; run `publisher sign`, then publish all that {release} holds"
        )
    return []

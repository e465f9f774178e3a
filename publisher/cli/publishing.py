"""plan, publish: what would happen at each destination, and making it so."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from publisher.cli import console
from publisher.cli.options import (
    DONE,
    FAILED,
    Common,
    Work,
    common_options,
    globs_argument,
    release_option,
    run_of,
    work_options,
)
from publisher.cli.results import Outcome, Problems, conclude, print_plan, shown_status
from publisher.destinations.base import DestinationError
from publisher.errors import PublisherError
from publisher.registry import Registry, Variant, select
from publisher.util.collector import uncollected
from publisher.util.files import sha256_file, write_whole

JOURNALS = "destinations"  # folder in the build folder

to_option = click.option(
    "--to",
    multiple=True,
    metavar="NAME",
    help="A destination of models.yaml, besides the release directory; may be given again.",
)
yes_option = click.option(
    "-y", "--yes", is_flag=True, help="Do not ask before writing to a destination."
)
reinstate_option = click.option(
    "--reinstate",
    is_flag=True,
    help="Take back the withdrawals that models.yaml no longer lists.",
)
allow_synthetic_option = click.option(
    "--allow-synthetic",
    is_flag=True,
    help="Let synthetic weights go to other places than this machine.",
)


@dataclass(frozen=True)
class Place:
    """A destination that was named, open."""

    name: str
    target: Any
    destination: Any
    folder: Path

    def offers(self, registry: Registry, offers: Sequence[Any]) -> list[Any]:
        """Return those of the offers that go there."""
        chosen = {variant.handle for variant in select(registry, self.target.only)}
        return [offer for offer in offers if offer.variant.handle in chosen]


def opened(registry: Registry, names: Sequence[str], build: Path, *, to_write: bool) -> list[Place]:
    """Open destinations by name; before they are written see that each could be."""
    from publisher.destinations.open import open_destination, target_named

    places = []
    for name in dict.fromkeys(names):
        folder = build.resolve() / JOURNALS
        destination = open_destination(registry, name, os.environ, folder)
        places.append(Place(name, target_named(registry, name), destination, folder / name))
    if to_write:
        for place in places:
            place.destination.check()
    return places


def releases_in(folders: Sequence[Path]) -> list[Path]:
    """Return the release directories among these, and those that the others hold.

    One that is not there holds none: a machine that found nothing good has sent nothing.
    """
    from publisher.documents.index import INDEX

    found: list[Path] = []
    for folder in folders:
        inside = [path.parent for path in sorted(folder.glob(f"*/{INDEX}"))]
        found += [folder] if (folder / INDEX).is_file() else inside
    return found


def require_consent(to: Sequence[str], yes: bool) -> None:
    """Refuse to write where others look if nobody said so and nobody can be asked."""
    if to and not yes and not (sys.stdin and sys.stdin.isatty()):
        raise click.UsageError(
            "nobody can be asked here whether to write to a destination; add --yes if so"
        )


@click.command()
@globs_argument
@common_options
@work_options
@release_option
@to_option
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Save the plans for `publish --plan`; everything has to be built.",
)
@allow_synthetic_option
@reinstate_option
def plan(
    common: Common,
    globs: tuple[str, ...],
    work: Work,
    release: Path,
    to: tuple[str, ...],
    markdown: bool,
    output: Path | None,
    allow_synthetic: bool,
    reinstate: bool,
) -> int:
    """Say what `publish` would do, and do nothing."""
    return show_plan(common, globs, work, release, to, markdown, output, allow_synthetic, reinstate)


def show_plan(
    common: Common,
    globs: Sequence[str],
    work: Work,
    release: Path,
    to: Sequence[str],
    markdown: bool,
    output: Path | None,
    allow_synthetic: bool,
    reinstate: bool,
) -> int:
    """Print what would be built and published; see `plan`."""
    with uncollected():
        from publisher.build.build import Stale, rehearse
        from publisher.destinations.local.directory import Directory
        from publisher.documents.plan import SavedPlans
        from publisher.release.plan import as_markdown
        from publisher.release.publish import prepare

    if output and not to:
        raise click.UsageError("--output saves the plans of destinations; name one with --to")
    registry, variants = common.load(globs)
    places = opened(registry, to, work.build, to_write=False)
    directory_path = release.absolute()
    directory = Directory(directory_path)
    run = run_of(registry, common, work, console.Commentary(quiet=True))
    results = rehearse(run, [variant for variant in variants if variant.withdrawn is None])
    offers = _offers(results, variants, directory_path)
    held = directory.manifests()
    templates = run.settings.templates
    own = prepare(registry, offers, directory, templates, reinstate=reinstate).plan
    problems = Problems()
    rows = _plan_rows(results, own, held, problems)
    publishing = Publishing(
        common,
        registry,
        templates,
        directory_path,
        {**held, **{offer.variant.handle: offer.manifest for offer in offers if offer.manifest}},
        allow_synthetic,
        yes=False,
        reinstate=reinstate,
    )
    plans = [publishing.prepare(place, place.offers(registry, offers)).plan for place in places]
    for change in (change for found in plans for change in found.refused):
        problems.add(change.message, change.handle)
    waiting = [result.variant.handle for result in results if isinstance(result, Stale)]
    saved = SavedPlans(
        registry=sha256_file(common.registry),
        handles=tuple(variant.handle for variant in variants),
        plans=tuple(plans),
    )
    if common.as_json:
        found = saved.as_json()["plans"]
        console.print_json({"release": str(release), "variants": rows, "destinations": found})
    elif markdown:
        shown = [own.model_copy(update={"destination": str(release)}), *plans]
        console.print_line(as_markdown(shown, waiting))
    else:
        columns = ("handle", "build", "reason")
        console.print_table(
            ["HANDLE", "BUILD", "BECAUSE", f"IN {release}"],
            [[*(row[name] for name in columns), shown_status(row["release"])] for row in rows],
        )
        for found in plans:
            print_plan(found, waiting)
    problems.print(debug=common.debug)
    if output:
        _save(saved, waiting, output)
    return FAILED if problems else DONE


def _plan_rows(
    results: Sequence[Any], own: Any, held: Any, problems: Problems
) -> list[dict[str, str]]:
    """Return what would be built and what the release directory would get."""
    from publisher.build.build import Failed, Stale

    changes = {change.handle: change for change in own.changes}
    rows = []
    for result in results:
        handle = result.variant.handle
        row = {"handle": handle, "build": "", "reason": "", "release": "", "message": ""}
        if isinstance(result, Failed):
            row |= {"build": "blocked", "message": str(result.error)}
            problems.add(row["message"], handle, result.error)
        elif isinstance(result, Stale):
            row |= {"build": f"from {result.stage}", "reason": result.reason}
            row["release"] = "decided once built" if handle in held else "new"
        else:
            change = changes.pop(handle)
            row |= {"build": "up to date", "release": change.status, "message": change.message}
            if change.refused:
                problems.add(change.message, handle)
        rows.append(row)
    rows += [
        {
            "handle": change.handle,
            "build": "none",
            "reason": "withdrawn",
            "release": change.status,
            "message": change.message,
        }
        for change in changes.values()
        if change.status in ("withdraw", "withdrawn")
    ]
    return rows


def _save(saved: Any, waiting: Sequence[str], output: Path) -> None:
    from publisher.release.plan import PlanError

    if waiting:
        raise PlanError(
            f"{output}: not written: {len(waiting)} of {len(saved.handles)} variants are not built,"
            " so that nobody knows what would be published; run `publisher build` first"
        )
    write_whole(output, saved.as_bytes())


@click.command()
@globs_argument
@common_options
@work_options
@release_option
@to_option
@yes_option
@click.option(
    "--all-or-nothing",
    is_flag=True,
    help="Publish nothing anywhere if one variant fails; default: the others go on.",
)
@click.option(
    "--built",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RELEASE",
    help="Build nothing: take the variants from a release directory that was made elsewhere, or"
    " from a folder of some; may be given again.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option(
    "--plan",
    "saved",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Publish what `plan --output` saved here, or nothing if that would be different now.",
)
@allow_synthetic_option
@reinstate_option
def publish(
    common: Common,
    globs: tuple[str, ...],
    work: Work,
    release: Path,
    to: tuple[str, ...],
    yes: bool,
    all_or_nothing: bool,
    built: tuple[Path, ...],
    dry_run: bool,
    saved: Path | None,
    allow_synthetic: bool,
    reinstate: bool,
) -> int:
    """Build what is not up to date, and release it."""
    with uncollected():
        from publisher.build import build as pipeline
        from publisher.destinations.local.directory import Directory
        from publisher.documents.plan import read_plans
        from publisher.release.publish import carry_out, prepare

    if built and (work.weights or dry_run):
        other = "--dry-run" if dry_run else "--weights"
        raise click.UsageError(f"--built takes what was built elsewhere; leave out {other}")
    if dry_run:
        return show_plan(common, globs, work, release, to, False, None, allow_synthetic, reinstate)
    plans = {}
    if saved:
        if globs or to:
            raise click.UsageError("--plan says what goes where; give no HANDLE and no --to")
        found = read_plans(saved)
        globs = found.handles
        plans = {one.destination: one for one in found.plans}
        to = tuple(plans)
    require_consent(to, yes)
    registry, variants = common.load(globs)
    places = opened(registry, to, work.build, to_write=True)
    directory_path = release.absolute()
    directory = Directory(directory_path)
    changes: list[Any] = []
    refusal: PublisherError | None = None
    with ExitStack() as stack:
        with console.Commentary(quiet=common.quiet) as commentary:
            run = run_of(registry, common, work, commentary)
            stack.enter_context(pipeline.build_lock(run.settings.build))
            stack.enter_context(directory.locked())
            active = [variant for variant in variants if variant.withdrawn is None]
            results = _collected(active, built) if built else pipeline.build(run, active)
            offers = _offers(results, variants, directory_path)
            templates = run.settings.templates
            try:
                if all_or_nothing and len(offers) < len(variants):
                    raise DestinationError(
                        "nothing was published, because not every variant is good"
                        " (--all-or-nothing)"
                    )
                if offers:
                    prepared = prepare(registry, offers, directory, templates, reinstate=reinstate)
                    carry_out(prepared, directory)
                    changes = list(prepared.plan.changes)
                    _tell_of_stale_signature(directory, release, commentary)
            except PublisherError as error:
                refusal = error
        outcomes = []
        if places and not refusal:
            publishing = Publishing(
                common,
                registry,
                templates,
                directory_path,
                directory.manifests(),
                allow_synthetic,
                yes,
                reinstate,
            )
            refused = {change.handle for change in changes if change.refused}
            good = [offer for offer in offers if offer.variant.handle not in refused]
            outcomes = [
                publishing.publish(place, place.offers(registry, good), plans.get(place.name))
                for place in places
            ]
    return conclude(common, commentary, results, changes, release, refusal, outcomes)


@dataclass(frozen=True)
class Publishing:
    """Publishing to destinations besides the release directory `release`.

    `known` are the manifests of all that the release holds.
    """

    common: Common
    registry: Registry
    templates: Path
    release: Path
    known: Any
    allow_synthetic: bool
    yes: bool
    reinstate: bool = False

    def prepare(self, place: Place, offers: Sequence[Any]) -> Any:
        """Return what publishing would do there, and with which content."""
        from publisher.release.publish import prepare

        return prepare(
            self.registry,
            offers,
            place.destination,
            self.templates,
            target=place.target,
            known=self.known,
            release=self.release,
            allow_synthetic=self.allow_synthetic,
            reinstate=self.reinstate,
        )

    def publish(self, place: Place, offers: Sequence[Any], saved: Any) -> Outcome:
        """Publish to one destination, and return what came of it."""
        from publisher.release.plan import require_same
        from publisher.release.publish import carry_out

        plan = None
        begin = time.monotonic()
        try:
            prepared = self.prepare(place, offers)
            plan = prepared.plan
            if saved is not None:
                require_same(saved, plan)
            if plan.empty:
                return Outcome(place.name, plan, "nothing to do")
            if not self.yes:
                print_plan(plan, (), to_stderr=True)
                if not click.confirm(f"Write this to {place.name}?", err=True):
                    return Outcome(place.name, plan, "left as it is", declined=True)
            with console.Commentary(quiet=self.common.quiet) as commentary:
                carry_out(prepared, place.destination, _noting(place, commentary))
        except PublisherError as error:
            return Outcome(place.name, plan, "", error)
        count, others = len(prepared.versions), len(prepared.writes)
        return Outcome(
            place.name,
            plan,
            f"{count} new version{'s' if count != 1 else ''}, {others} other files written in"
            f" {console.duration(time.monotonic() - begin)}",
        )


def _tell_of_stale_signature(directory: Any, release: Path, commentary: Any) -> None:
    from publisher.documents.index import INDEX
    from publisher.documents.signature import signs
    from publisher.release.contents import INDEX_SIGNATURE, SUMS
    from publisher.util.files import sha256

    signature = directory.read(INDEX_SIGNATURE)
    digests = {name: sha256(directory.read(name) or b"") for name in (INDEX, SUMS)}
    if signature is not None and not signs(signature, digests):
        commentary.warn(
            f"{release} is signed and has changed since; sign it again: publisher sign {release}"
        )


def _noting(place: Place, commentary: console.Commentary) -> Any:
    """Return what keeps the journal and tells a person."""
    from publisher.destinations.journal import journal

    keep = journal(place.folder)
    begun: dict[str, float] = {}

    def note(did: str, what: str, digest: str) -> None:
        keep(did, what, digest)
        if did == "sends":
            begun[what] = time.monotonic()
            commentary.started(what, "publish", f"to {place.name}")
        elif did == "sent":
            seconds = time.monotonic() - begun[what]
            commentary.finished(what, "publish", seconds, f"in {place.name}")

    return note


def _collected(variants: Sequence[Variant], releases: Sequence[Path]) -> list[Any]:
    """Return the variants as release directories hold them, made publishing.

    The archives are compared with their manifests when they are published.
    """
    from publisher.build.build import Built, Failed
    from publisher.destinations.local.directory import Directory
    from publisher.release.contents import folder_of

    found: dict[str, tuple[Path, Any]] = {}
    for release in releases_in(releases):
        for handle, manifest in Directory(release.absolute()).manifests().items():
            before = found.setdefault(handle, (release, manifest))
            if before[1] != manifest:
                raise DestinationError(
                    f"{handle}: {before[0]} and {release} hold it, and differ; leave one out"
                )
    results: list[Any] = []
    for variant in variants:
        release, manifest = found.get(variant.handle, (Path(), None))
        if manifest is None:
            given = ", ".join(map(str, releases))
            fault = f"{variant.handle}: is not in {given}; build it there first"
        elif (manifest.checkpoint.name, manifest.head) != (variant.checkpoint, variant.head):
            fault = f"{variant.handle}: {release} has it of another checkpoint or head than"
            fault += " models.yaml; build it again"
        else:
            results.append(Built(variant, release / folder_of(variant.handle), manifest))
            continue
        results.append(Failed(variant, DestinationError(fault)))
    return results


def _offers(results: Sequence[Any], variants: Sequence[Variant], release: Path) -> list[Any]:
    """Return what can be published: what is built, and what is withdrawn.

    Signatures are in the release directory, if somebody signed.
    """
    from publisher.build.build import Built
    from publisher.release.contents import folder_of
    from publisher.release.diff import Offer

    built = [
        Offer(
            result.variant,
            result.manifest,
            result.folder,
            release / folder_of(result.variant.handle),
        )
        for result in results
        if isinstance(result, Built)
    ]
    return built + [
        Offer(variant, None, None) for variant in variants if variant.withdrawn is not None
    ]

"""withdraw, bump: changes of models.yaml that a command makes, its comments kept."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from publisher.cli import console
from publisher.cli.options import (
    DONE,
    FAILED,
    Common,
    build_dir_option,
    common_options,
    globs_argument,
    release_option,
)
from publisher.cli.publishing import (
    Place,
    Publishing,
    opened,
    require_consent,
    to_option,
    yes_option,
)
from publisher.cli.results import Problems, shown_status
from publisher.destinations.base import DestinationError
from publisher.registry import load_registry


@click.command()
@click.argument("handle", metavar="HANDLE")
@click.option("--reason", required=True, metavar="TEXT", help="Why; its pages show it.")
@common_options
@build_dir_option
@release_option
@to_option
@yes_option
def withdraw(
    common: Common,
    handle: str,
    reason: str,
    build: Path,
    release: Path,
    to: tuple[str, ...],
    yes: bool,
) -> int:
    """Say that nobody should use a version any longer.

    HANDLE is publisher/name/version. The reason goes into models.yaml, and from there into
    the index and the pages of the release directory and of each --to. Nothing is deleted:
    programs that load the version go on working. To take it back, remove `withdrawn` from
    models.yaml and publish with --reinstate.
    """
    from publisher.destinations.local.directory import Directory
    from publisher.registry import edit
    from publisher.release.diff import Offer
    from publisher.release.publish import carry_out, prepare

    require_consent(to, yes)
    places = opened(load_registry(common.registry), to, build, to_write=True)
    _require_unsigned(places, handle, release)
    made = edit.withdraw(common.registry, handle, reason)
    edit.save(made)
    registry = load_registry(common.registry)
    (variant,) = [variant for variant in registry.variants if variant.handle == handle]
    offers = [Offer(variant, None, None)]
    templates = common.registry.absolute().parent / "templates"
    directory = Directory(release.absolute())
    with directory.locked():
        prepared = prepare(registry, offers, directory, templates)
        carry_out(prepared, directory)
        known = directory.manifests() if places else {}
    publishing = Publishing(
        common, registry, templates, release.absolute(), known, allow_synthetic=True, yes=yes
    )
    outcomes = [publishing.publish(place, place.offers(registry, offers), None) for place in places]
    (change, *_) = [one for one in prepared.plan.changes if one.handle == handle]
    problems = Problems()
    for outcome in outcomes:
        if outcome.error:
            problems.add(str(outcome.error), outcome.name, outcome.error)
    if common.as_json:
        console.print_json(
            {
                "handle": handle,
                "reason": variant.withdrawn,
                "release": str(release),
                "status": change.status,
                "destinations": [outcome.as_json() for outcome in outcomes],
            }
        )
    elif not common.quiet:
        file = common.registry
        console.print_line(f"{file}: {handle} {'is' if made.handles else 'was already'} withdrawn")
        console.print_line(f"{release}: {change.message or shown_status(change.status)}")
        for outcome in outcomes:
            console.print_line(f"{outcome.name}: {outcome.summary or 'failed'}")
    problems.print(debug=common.debug)
    return FAILED if problems or any(outcome.declined for outcome in outcomes) else DONE


def _require_unsigned(places: Sequence[Place], handle: str, release: Path) -> None:
    """Refuse before anything is changed where the index would have to be signed anew."""
    from publisher.release.contents import INDEX_SIGNATURE

    for place in places:
        if place.destination.holds_index and place.destination.read(INDEX_SIGNATURE) is not None:
            raise DestinationError(
                f"{place.name}: its index is signed, and a withdrawal changes it; nothing was"
                f" changed: leave out --to, then run `publisher sign {release}` and"
                f" `publisher publish '{handle}' --release '{release}' --to {place.name}`"
            )


@click.command()
@globs_argument
@common_options
def bump(common: Common, globs: tuple[str, ...]) -> int:
    """Raise versions in models.yaml.

    What is published never changes, so that other bytes need a new version. Of each model
    that a HANDLE matches, the newest version is raised by one.
    """
    from publisher.registry import edit

    if not globs:
        raise click.UsageError("give a HANDLE to raise; '*' raises all")
    made = edit.bump(common.registry, globs)
    edit.save(made)
    if common.as_json:
        console.print_json({"raised": dict(made.handles)})
    else:
        for before, after in made.handles.items():
            sys.stdout.write(f"{before} -> {after}\n")
    return DONE

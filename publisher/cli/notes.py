"""release-notes: what a release holds now and did not hold before."""

import sys
from pathlib import Path

import click

from publisher.cli import console
from publisher.cli.options import DONE, Common, build_dir_option, common_options, release_option
from publisher.destinations.base import Destination, DestinationError


@click.command("release-notes")
@click.option(
    "--since",
    metavar="WHERE",
    help="The last release: a release directory, or a destination of models.yaml; default: none,"
    " so that everything is new.",
)
@click.option(
    "--changelog",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Put the notes into this file as well, under --heading.",
)
@click.option("--heading", metavar="TEXT", help="For --changelog: a version or a date.")
@common_options
@build_dir_option
@release_option
def release_notes(
    common: Common,
    since: str | None,
    changelog: Path | None,
    heading: str | None,
    build: Path,
    release: Path,
) -> int:
    """Write what changed since the last release, as Markdown.

    It follows from manifests: what was added, raised, withdrawn, which pages changed, the
    versions of the tools, and the figures that moved.
    """
    from publisher.destinations.local.directory import Directory
    from publisher.release import notes
    from publisher.util.files import write_whole

    if (changelog is None) != (heading is None):
        raise click.UsageError("--changelog and --heading belong together")
    before = notes.Held()
    if since is not None:
        before = notes.held_by(_last(common, since, build))
    if not release.is_dir():
        raise DestinationError(f"{release}: there is no release here; publish one first")
    text = notes.release_notes(before, notes.held_by(Directory(release.absolute())))
    if changelog is not None and heading is not None:
        there = changelog.read_bytes().decode() if changelog.exists() else ""
        write_whole(changelog, notes.changelog(there, heading, text).encode())
    if common.as_json:
        console.print_json({"notes": text})
    else:
        sys.stdout.write(text)
    return DONE


def _last(common: Common, since: str, build: Path) -> Destination:
    """Return what a person means by `since`."""
    from publisher.cli.publishing import opened
    from publisher.destinations.local.directory import Directory
    from publisher.registry import load_registry

    registry = load_registry(common.registry)
    if since in registry.destinations:
        (place,) = opened(registry, [since], build, to_write=False)
        found: Destination = place.destination
        return found
    path = Path(since)
    if not path.is_dir():
        known = ", ".join(registry.destinations) or "none"
        raise DestinationError(
            f"{since}: is neither a release directory nor a destination of models.yaml; there"
            f" are: {known}"
        )
    return Directory(path.absolute())

"""release-notes: the changes since the last release."""

import os
import sys
from pathlib import Path

import click

from publisher.cli import console
from publisher.cli.options import DONE, Common, build_dir_option, common_options, release_option
from publisher.registry import load_registry


@click.command("release-notes")
@click.option(
    "--since",
    metavar="WHERE",
    help="The last release: a release directory, or a destination in models.yaml; without it,"
    " everything is new.",
)
@click.option(
    "--changelog",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also insert the notes into this file, under --heading.",
)
@click.option("--heading", metavar="TEXT", help="For --changelog: a version or a date.")
@release_option
@build_dir_option
@common_options
def release_notes(
    common: Common,
    since: str | None,
    changelog: Path | None,
    heading: str | None,
    build: Path,
    release: Path,
) -> int:
    """Write what changed since the last release.

    The notes are Markdown, computed from the manifests: versions added, raised and withdrawn,
    changed pages, versions of tools, and changed figures.
    """
    from publisher.release.destinations import release_at
    from publisher.release.notes import notes_since, write_changelog

    if (changelog is None) != (heading is None):
        raise click.UsageError("--changelog and --heading belong together")
    last = None
    if since is not None:
        last = release_at(load_registry(common.registry), since, build, os.environ)
    text = notes_since(last, release)
    if changelog is not None and heading is not None:
        write_changelog(changelog, heading, text)
    if common.as_json:
        console.print_json({"notes": text})
    else:
        sys.stdout.write(text)
    return DONE

"""ci: commands for the workflows in .github/workflows."""

import json
import os
import sys
from pathlib import Path

import click

from publisher.cli import console
from publisher.cli.options import (
    DONE,
    FAILED,
    Common,
    build_dir_option,
    built_option,
    common_options,
    gathered,
    globs_argument,
    output_option,
    release_option,
    release_read_option,
    to_option,
)
from publisher.cli.results import Problems
from publisher.registry import load_registry
from publisher.rehearsal.settings import RehearsalSettings


@click.group()
def ci() -> None:
    """Run steps of the workflows in .github/workflows."""


@ci.command()
@globs_argument
@to_option
@click.option(
    "--github-output", is_flag=True, help="Print lines for the file $GITHUB_OUTPUT, not JSON."
)
@common_options
def matrix(common: Common, globs: tuple[str, ...], to: tuple[str, ...], github_output: bool) -> int:
    """Print the jobs of a release, as JSON.

    A HANDLE or NAME may contain several, separated by spaces. There is one job for each
    checkpoint, in parts of at most 256 jobs, GitHub's limit for a matrix. If all chosen
    variants are withdrawn, there are no parts.
    """
    from publisher.release.matrix import destinations_in, globs_in
    from publisher.release.matrix import matrix as matrix_of

    words = globs_in(globs)
    registry, variants = common.load(words)
    parts = matrix_of(registry, variants, common.registry.with_suffix(".lock.yaml"))
    found = {"parts": parts, "only": " ".join(words)}
    if to:
        found["to"] = " ".join(destinations_in(registry, to))
    if github_output:
        for name, value in found.items():
            text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            sys.stdout.write(f"{name}={text}\n")
    else:
        console.print_json(found)
    return DONE


@ci.command()
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="NAME",
    help="A destination in models.yaml, or '*' for all; repeatable.",
)
@release_option
@built_option
@build_dir_option
@common_options
def pull(
    common: Common, sources: tuple[str, ...], release: Path, build: Path, built: tuple[Path, ...]
) -> int:
    """Copy a destination's release into the release directory.

    A new machine continues from this copy. The first --from that holds a release with an
    index is used; if none does, nothing happens. Archives come from a --built release if it
    has them, and otherwise from the destination's public address.
    """
    from publisher.release.pull import pull_first
    from publisher.release.settings import PullSettings

    registry = load_registry(common.registry)
    settings = PullSettings(build, release, sources, built)
    with console.Commentary(quiet=common.quiet) as commentary:
        pulled = pull_first(registry, settings, os.environ, commentary)
    if common.as_json:
        console.print_json({"destination": pulled.name, "handles": list(pulled.handles)})
    elif pulled.name is None:
        console.print_line(f"no release is there yet: {', '.join(sources) or 'none was named'}")
    else:
        count = f"{len(pulled.handles)} version{'s' if len(pulled.handles) != 1 else ''}"
        console.print_line(f"{release}: has the {count} that {pulled.name} holds")
    return DONE


@ci.command()
@release_option
@output_option
@common_options
def pages(common: Common, release: Path, output: Path) -> int:
    """Render a release's pages again, for comparison.

    Use this models.yaml and these templates; the release may come from another commit of the
    project. Models that models.yaml does not list are left out.
    """
    from publisher.release.review import write_pages

    written = write_pages(load_registry(common.registry), release, common.templates, output)
    if common.as_json:
        console.print_json({"output": str(output), "pages": written})
    else:
        console.print_line(f"{output}: {len(written)} pages")
    return DONE


@ci.command()
@globs_argument
@release_option
@to_option
@click.option(
    "--before",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="The output of `ci pages` without the change, to compare pages with.",
)
@build_dir_option
@common_options
def review(
    common: Common,
    globs: tuple[str, ...],
    release: Path,
    to: tuple[str, ...],
    before: Path | None,
    build: Path,
) -> int:
    """Describe in Markdown what publishing would change.

    For a pull request: the plan for each --to that is readable from here, the checks, and a
    diff of the pages.
    """
    from publisher.release.matrix import globs_in
    from publisher.release.review import review as review_of
    from publisher.release.settings import ReviewSettings

    registry, variants = common.load(globs_in(globs))
    settings = ReviewSettings(common.templates, build, release, to, before)
    found = review_of(registry, variants, settings, os.environ)
    if common.as_json:
        console.print_json({"review": found.text, "missing": list(found.missing)})
    else:
        sys.stdout.write(found.text)
    problems = Problems()
    for message, blocked in found.problems:
        problems.add(message, blocked)
    problems.print(debug=common.debug)
    return FAILED if problems else DONE


@ci.command("next-to-rebuild")
@click.argument("number", type=click.IntRange(0))
@release_read_option
@common_options
def next_to_rebuild(common: Common, number: int, release: str) -> int:
    """Print the handle that run NUMBER rebuilds.

    Consecutive NUMBERs go through all published versions that models.yaml lists.
    """
    from publisher.release.catalogue import next_to_rebuild as next_of
    from publisher.release.sources.open import open_source

    registry = load_registry(common.registry)
    handle = next_of(registry, open_source(release, os.environ), number)
    if common.as_json:
        console.print_json({"handle": handle})
    else:
        sys.stdout.write(f"{handle}\n")
    return DONE


@ci.command()
@globs_argument
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/rehearsal"),
    show_default=True,
    help="The folder to work in and publish to.",
)
@click.option("--weights", default="synthetic", show_default=True, help="As for `publish`.")
@click.option("--to", multiple=True, metavar="NAME", help="A destination; default: all.")
@click.option("--small", is_flag=True, help="Replace the networks with small stand-ins.")
@click.option("--tag", help="Run as if this tag had been pushed; default: started by hand.")
@click.option("--all-or-nothing", is_flag=True, help="The workflow's input.")
@click.option("--dry-run", is_flag=True, help="The workflow's input.")
@click.option(
    "--again", is_flag=True, help="Run failed jobs again, like GitHub's `Re-run failed jobs`."
)
@click.option(
    "--next", "further", is_flag=True, help="Release again, on top of the last rehearsal's release."
)
@gathered("settings", RehearsalSettings)
@common_options
def rehearse(common: Common, settings: RehearsalSettings) -> int:
    """Run the release workflow on this machine, without GitHub.

    Run this in the root of the checkout. It publishes to folders in --work, named after the
    destinations in models.yaml.
    """
    from publisher.rehearsal.rehearse import rehearse as run

    if settings.tag is not None and (settings.globs or settings.all_or_nothing or settings.dry_run):
        raise click.UsageError("a pushed tag has no inputs; leave out --tag, or the inputs")
    if settings.again and settings.further:
        raise click.UsageError("--again continues a run and --next starts one; give only one")
    with console.Commentary(quiet=common.quiet) as commentary:
        rehearsed = run(Path.cwd(), common.registry, settings, os.environ, commentary)
    rows = [
        [name, one.status, "as in the last run" if one.again else one.message.partition("\n")[0]]
        for name, one in rehearsed.results.items()
    ]
    if common.as_json:
        jobs = [dict(zip(("job", "result", "note"), row, strict=True)) for row in rows]
        places = {name: str(path) for name, path in rehearsed.places.items()}
        not_rehearsed = list(rehearsed.not_rehearsed)
        console.print_json({"jobs": jobs, "destinations": places, "not_rehearsed": not_rehearsed})
    else:
        console.print_table(["JOB", "RESULT", "NOTE"], rows)
        spent = console.duration(commentary.seconds)
        console.print_line("", f"rehearsed in {spent}; what was published is in:")
        for name, path in rehearsed.places.items():
            console.print_line(f"  {name}: {path}")
        if rehearsed.not_rehearsed:
            console.print_line("not rehearsed:", *(f"  {line}" for line in rehearsed.not_rehearsed))
    for one in rehearsed.results.values():
        if one.message:
            console.print_error(one.message)
    return FAILED if rehearsed.failed else DONE


@ci.command("stand-ins")
@output_option
@common_options
def stand_ins(common: Common, output: Path) -> int:
    """Write the registry with small stand-ins for its networks."""
    from publisher.rehearsal.small import write_project

    console.print_line(f"{write_project(common.registry.absolute(), output)}: written")
    return DONE

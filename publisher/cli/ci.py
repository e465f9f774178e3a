"""matrix, pull, pages, review, turn: what the workflows in .github/workflows need besides."""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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
from publisher.cli.publishing import opened, releases_in
from publisher.cli.results import Problems
from publisher.destinations.base import DestinationError
from publisher.errors import PublisherError
from publisher.registry import Registry, RegistryError, Variant, load_registry, select
from publisher.util.files import write_whole

LARGEST_MATRIX = 256  # jobs (GitHub documentation, "Usage limits")
# What a glob over handles can need. These words become variables of make.
_GLOB = re.compile(r"[\w./*?\[\]!-]+", re.ASCII)

parts_option = click.option(
    "--built",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RELEASE",
    help="A release directory that was made elsewhere, or a folder of some; may be given again.",
)


@click.command()
@globs_argument
@click.option(
    "--to",
    metavar="NAMES",
    help="Destinations of models.yaml, separated by spaces, that have to be there.",
)
@click.option("--outputs", is_flag=True, help="Print lines for the file $GITHUB_OUTPUT instead.")
@common_options
def matrix(common: Common, globs: tuple[str, ...], to: str | None, outputs: bool) -> int:
    """Print the jobs of a release, as JSON.

    A HANDLE may hold several, separated by spaces. There is one job for each checkpoint, in
    parts of at most 256, which is what one matrix of a workflow may have; no part if all that
    is chosen is withdrawn.
    """
    words = _words(globs)
    registry, variants = common.load(words)
    found = {"parts": _parts(_jobs(common, registry, variants)), "only": " ".join(words)}
    if to is not None:
        found["to"] = " ".join(_destinations(registry, to))
    if outputs:
        for name, value in found.items():
            text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            sys.stdout.write(f"{name}={text}\n")
    else:
        console.print_json(found)
    return DONE


def _words(globs: Sequence[str]) -> tuple[str, ...]:
    """Return the globs one by one. Raises `RegistryError` for what can match no handle."""
    words = tuple(word for text in globs for word in text.split())
    for word in words:
        if not _GLOB.fullmatch(word):
            raise RegistryError(
                f"{word!r} is no glob over handles; allowed: A-Z, a-z, 0-9, _./*?[]!-"
            )
    return words


def _jobs(common: Common, registry: Registry, variants: Iterable[Variant]) -> list[dict[str, str]]:
    """Return a job for each checkpoint of what is not withdrawn.

    `weights` is the SHA-256 of its weight file where that is recorded.
    """
    from publisher.documents.lock import read_lock

    recorded = read_lock(common.registry.with_suffix(".lock.yaml"))
    handles: dict[str, list[str]] = {}
    for variant in variants:
        if variant.withdrawn is None:
            handles.setdefault(variant.checkpoint, []).append(variant.handle)
    jobs = []
    for name, chosen in handles.items():
        known = recorded.get(registry.checkpoints[name].path)
        digest = known.sha256 if known else "unrecorded"
        jobs.append({"name": name, "handles": " ".join(chosen), "weights": digest})
    return jobs


def _parts(jobs: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    parts = [jobs[at : at + LARGEST_MATRIX] for at in range(0, len(jobs), LARGEST_MATRIX)]
    return [
        {"name": f"{number} of {len(parts)}", "checkpoints": part}
        for number, part in enumerate(parts, start=1)
    ]


def _destinations(registry: Registry, to: str) -> list[str]:
    from publisher.destinations.open import target_named

    names = list(dict.fromkeys(to.split()))
    if not names:
        known = ", ".join(registry.destinations) or "none"
        raise DestinationError(
            "no destination is named, so that nothing would be published; name some of"
            f" models.yaml ({known}) in the workflow's input, or in the variable DESTINATIONS of"
            " the repository"
        )
    for name in names:
        target_named(registry, name)
    return names


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@common_options
@release_option
@build_dir_option
@parts_option
def pull(
    common: Common, names: tuple[str, ...], release: Path, build: Path, built: tuple[Path, ...]
) -> int:
    """Bring here what a destination holds.

    A new machine goes on from there. Of the destinations NAME the first that holds a release
    with an index is taken; nothing happens if none does. Archives that a --built release
    holds as well are taken from there, the others from the destination's public address.
    """
    from publisher.destinations.local.directory import Directory
    from publisher.release.pull import pull as bring
    from publisher.release.sources.open import open_source

    registry = load_registry(common.registry)
    directory = Directory(release.absolute())
    parts = [Directory(part.absolute()) for part in releases_in(built)]
    build.mkdir(parents=True, exist_ok=True)
    handles: list[str] = []
    name = ""
    with console.Commentary(quiet=common.quiet) as commentary, directory.locked():
        for place in opened(registry, names, build, to_write=False):
            if not (place.destination.holds_index and place.destination.read("index.json")):
                continue
            name = place.name
            source = open_source(place.target.to, os.environ)
            handles = bring(place.destination, source, directory, parts, build, commentary)
            break
    if common.as_json:
        console.print_json({"destination": name or None, "handles": handles})
    elif not name:
        console.print_line(f"no release is there yet: {', '.join(names) or 'none was named'}")
    else:
        count = f"{len(handles)} version{'s' if len(handles) != 1 else ''}"
        console.print_line(f"{release}: has the {count} that {name} holds")
    return DONE


@click.command()
@common_options
@release_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder to write to.",
)
def pages(common: Common, release: Path, output: Path) -> int:
    """Render the pages of a release anew.

    It is done with the models.yaml and the templates that are here; the release may have
    been built by another state of this project. What models.yaml does not list is left out.
    """
    from publisher.destinations.local.directory import Directory
    from publisher.release.review import rendered

    registry = load_registry(common.registry)
    templates = common.registry.absolute().parent / "templates"
    found = rendered(registry, Directory(release.absolute()).manifests(), templates)
    for path, content in found.items():
        write_whole(output / path, content)
    if common.as_json:
        console.print_json({"output": str(output), "pages": list(found)})
    else:
        console.print_line(f"{output}: {len(found)} pages")
    return DONE


@click.command()
@globs_argument
@common_options
@release_option
@build_dir_option
@click.option(
    "--to",
    multiple=True,
    metavar="NAME",
    help="A destination of models.yaml; may be given again; default: all of them.",
)
@click.option(
    "--before",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where `pages` wrote those that there would be without the change, to compare.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it to this file, and not to stdout.",
)
def review(
    common: Common,
    globs: tuple[str, ...],
    release: Path,
    build: Path,
    to: tuple[str, ...],
    before: Path | None,
    output: Path | None,
) -> int:
    """Say in Markdown what publishing a release would change.

    For a pull request: the plan of each destination that can be read from here, the checks,
    and the pages' difference.
    """
    from publisher.destinations.local.directory import Directory
    from publisher.release import review as room

    words = _words(globs)
    registry, variants = common.load(words)
    manifests = Directory(release.absolute()).manifests()
    chosen = [variant for variant in variants if variant.withdrawn is None]
    missing = [variant.handle for variant in chosen if variant.handle not in manifests]
    plans: dict[str, Any] = {}
    problems = Problems()
    for name in dict.fromkeys(to or registry.destinations):
        try:
            plans[name] = _planned(common, registry, name, build, release, variants, manifests)
        except PublisherError as error:
            plans[name] = str(error)
            continue
        for change in plans[name].refused:
            problems.add(change.message, change.handle)
    for handle in missing:
        problems.add(f"{handle}: is not in {release}; see the job that builds it", handle)
    compared = _pages_before(before)
    if isinstance(compared, str):
        problems.add(compared, str(before))
    text = room.review(
        plans,
        missing,
        compared,
        room.pages_of(release),
        [manifests[variant.handle] for variant in chosen if variant.handle in manifests],
    )
    if common.as_json:
        console.print_json({"review": text, "missing": missing})
    elif output is None:
        sys.stdout.write(text)
    if output is not None:
        write_whole(output, text.encode())
    problems.print(debug=common.debug)
    return FAILED if problems else DONE


def _pages_before(before: Path | None) -> Any:
    """Return the pages in a folder, or why there are none; without a folder, nothing."""
    from publisher.release.review import pages_of

    if before is None:
        return None
    if not before.is_dir():  # without any page there, all would seem to be new
        return f"{before}: is not there; see the step that renders the pages without the change"
    return pages_of(before)


def _planned(
    common: Common,
    registry: Registry,
    name: str,
    build: Path,
    release: Path,
    variants: Sequence[Variant],
    manifests: Any,
) -> Any:
    """Return the plan of one destination for what a release directory holds."""
    from publisher.release.contents import folder_of
    from publisher.release.diff import Offer
    from publisher.release.publish import prepare

    (place,) = opened(registry, [name], build, to_write=False)
    offers = [Offer(variant, None, None) for variant in variants if variant.withdrawn is not None]
    for variant in variants:
        manifest = manifests.get(variant.handle)
        if variant.withdrawn is None and manifest is not None:
            folder = release.absolute() / folder_of(variant.handle)
            offers.append(Offer(variant, manifest, folder))
    templates = common.registry.absolute().parent / "templates"
    return prepare(
        registry,
        place.offers(registry, offers),
        place.destination,
        templates,
        target=place.target,
        known=manifests,
        allow_synthetic=True,
    ).plan


@click.command()
@click.argument("number", type=click.IntRange(0))
@click.option(
    "--release",
    default="dist",
    show_default=True,
    metavar="WHERE",
    help="A release directory, or a public address of one.",
)
@common_options
def turn(common: Common, number: int, release: str) -> int:
    """Print the handle whose turn it is to be rebuilt.

    As NUMBER counts up, each published version that models.yaml lists has its turn.
    """
    from publisher.release.catalogue import load
    from publisher.release.sources.open import open_source

    registry = load_registry(common.registry)
    models = load(open_source(release, os.environ)).models
    handles = [
        variant.handle
        for variant in select(registry, ())
        if variant.withdrawn is None and variant.handle in models
    ]
    if not handles:
        raise DestinationError(
            f"{release}: holds nothing that {common.registry} lists; publish first, or give"
            " another release"
        )
    handle = handles[number % len(handles)]
    if common.as_json:
        console.print_json({"handle": handle})
    else:
        sys.stdout.write(f"{handle}\n")
    return DONE

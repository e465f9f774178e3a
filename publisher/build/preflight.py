"""Finds what would make a build fail, before it starts: faulty templates, too little disk space.

Loading `models.yaml` checks its content and class names; `publisher/destinations/open.py` checks
destinations.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path

from publisher.build import engine
from publisher.build.engine import Key, StaleTask
from publisher.build.manifest import kept_arrays
from publisher.build.stages import Run, archive_path, saved_model_path, tasks_of, weights_folder
from publisher.errors import PublisherError
from publisher.families import ARCHITECTURES
from publisher.pages.format import human_size
from publisher.pages.templates import faults
from publisher.registry import Variant

# Archives of trained weights have 0.92 of their size. The estimate is lower, so that preflight
# refuses only what certainly does not fit.
PACKED = 0.9


class NoSpaceError(PublisherError):
    """The disk has too little free space for a build."""


def preflight(
    run: Run, variants: Sequence[Variant], to: Iterable[str] = (), release: Path | None = None
) -> list[PublisherError]:
    """Return the errors that would stop building these variants; none if nothing is stale.

    `to` names destinations of models.yaml, whose templates are checked too. `release` is the
    release directory, which needs space for the archives if it is on another file system.
    """
    planned = engine.dry_run(tasks_of(run, variants))
    stale = {key for key, found in planned.items() if isinstance(found, StaleTask)}
    if not stale:
        return []
    named = (run.registry.destinations.get(name) for name in to)
    styles = ["tfhub", *(target.kind for target in named if target)]
    return [*faults(run.settings.templates, styles), *_no_space(run, stale, release)]


def _no_space(run: Run, stale: Iterable[Key], release: Path | None) -> list[NoSpaceError]:
    """Return an error for each file system that is too full for the stale stages."""
    build = run.settings.build
    variants = {variant.handle: variant for variant in run.registry.variants}
    chosen = {
        stage: [variants[key.subject] for key in stale if key.stage == stage]
        for stage in ("convert", "package", "validate")
    }
    fetched = [key.subject for key in stale if key.stage == "fetch"]
    archives = sum(PACKED * _bytes(run, variant) for variant in chosen["package"])
    # New outputs replace these.
    there = [archive_path(run, variant) for variant in chosen["package"]]
    there += [saved_model_path(run, variant) for variant in chosen["convert"]]
    needed = archives + sum(_bytes(run, variant) for variant in chosen["convert"])
    if run.source.kind != "directory":  # a directory is read in place
        for name in fetched:
            checkpoint = run.registry.checkpoints[name]
            shapes = ARCHITECTURES[checkpoint.architecture].arrays(checkpoint.classes)
            needed += _bytes_of(shapes)
            there += weights_folder(run).glob(f"*/{checkpoint.path}*")
    # Validation unpacks each archive.
    unpacked = sorted((_bytes(run, variant) for variant in chosen["validate"]), reverse=True)
    needed += sum(unpacked[: run.settings.jobs]) - sum(map(_size, there))
    places = {build: (needed, "--build-dir")}
    if release is not None and _disk(release) != _disk(build):
        places[release] = (archives, "--release")
    return [
        NoSpaceError(
            f"{place}: the build needs about {human_size(round(size))}, and {human_size(free)} are"
            f" free; free space there, name another folder with {option}, or choose fewer variants"
        )
        for place, (size, option) in places.items()
        if size > (free := shutil.disk_usage(_existing(place)).free)
    ]


def _bytes(run: Run, variant: Variant) -> int:
    """Return the size of a variant's variables."""
    return _bytes_of(kept_arrays(run.registry, variant))


def _bytes_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the size of float32 arrays."""
    return 4 * sum(map(prod, shapes.values()))


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 if it does not exist."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _disk(path: Path) -> int:
    return _existing(path).stat().st_dev


def _existing(path: Path) -> Path:
    """Return the path, or its closest parent that exists."""
    return next(place for place in (path, *path.parents) if place.exists())

"""The job matrix of a release for GitHub Actions."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from publisher.destinations.base import DestinationError
from publisher.documents.lock import read_lock
from publisher.registry import Registry, RegistryError, Variant
from publisher.release.destinations import names_of

LARGEST_MATRIX = 256  # jobs (GitHub documentation, "Usage limits")
# The characters of a glob over handles. Globs become variables of make, so no others pass.
_GLOB = re.compile(r"[\w./*?\[\]!-]+", re.ASCII)


class Job(TypedDict):
    """A job that builds some handles; `weights` is the recorded SHA-256 of its weight file."""

    name: str
    handles: str
    weights: str


class Part(TypedDict):
    """A matrix of at most `LARGEST_MATRIX` jobs."""

    name: str
    checkpoints: list[Job]


def globs_in(texts: Sequence[str]) -> tuple[str, ...]:
    """Split texts of globs separated by spaces.

    Raises `RegistryError` for a glob that cannot match a handle.
    """
    globs = tuple(word for text in texts for word in text.split())
    for glob in globs:
        if not _GLOB.fullmatch(glob):
            raise RegistryError(
                f"{glob!r} is no glob over handles; allowed: A-Z, a-z, 0-9, _./*?[]!-"
            )
    return globs


def matrix(registry: Registry, variants: Iterable[Variant], lock_file: Path) -> list[Part]:
    """Return a job for each checkpoint whose variants are not all withdrawn, in parts.

    `lock_file` is models.lock.yaml, which records the digests of weight files.
    """
    recorded = read_lock(lock_file)
    handles: dict[str, list[str]] = {}
    for variant in variants:
        if variant.withdrawn is None:
            handles.setdefault(variant.checkpoint, []).append(variant.handle)
    jobs: list[Job] = []
    for name, chosen in handles.items():
        known = recorded.get(registry.checkpoints[name].path)
        digest = known.sha256 if known else "unrecorded"
        jobs.append({"name": name, "handles": " ".join(chosen), "weights": digest})
    parts = [jobs[at : at + LARGEST_MATRIX] for at in range(0, len(jobs), LARGEST_MATRIX)]
    return [
        {"name": f"{number} of {len(parts)}", "checkpoints": part}
        for number, part in enumerate(parts, start=1)
    ]


def destinations_in(registry: Registry, texts: Sequence[str]) -> list[str]:
    """Split texts of names of destinations separated by spaces.

    Raises `DestinationError` if there is no name, or one that models.yaml does not have.
    """
    names = names_of(registry, [word for text in texts for word in text.split()])
    if not names:
        known = ", ".join(registry.destinations) or "none"
        raise DestinationError(
            "no destination is named, so nothing would be published; name some of"
            f" models.yaml ({known}) in the workflow's input, or in the variable DESTINATIONS of"
            " the repository"
        )
    return names

"""Turning built variants, from here or from other machines, into offers."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from publisher.build.build import Built, Failed, Stale
from publisher.destinations.base import DestinationError
from publisher.destinations.local.directory import Directory
from publisher.documents.index import INDEX
from publisher.documents.manifest import Manifest
from publisher.registry import Variant
from publisher.release.contents import folder_of
from publisher.release.diff import Offer


def releases_in(folders: Sequence[Path]) -> list[Path]:
    """Return the release directories among folders and their subfolders.

    A missing folder holds none: a machine whose builds all failed sends nothing.
    """
    found: list[Path] = []
    for folder in folders:
        inside = [path.parent for path in sorted(folder.glob(f"*/{INDEX}"))]
        found += [folder] if (folder / INDEX).is_file() else inside
    return found


def collect_builds(variants: Sequence[Variant], folders: Sequence[Path]) -> list[Built | Failed]:
    """Look up built variants in release directories, instead of building them.

    Publishing compares the archives with their manifests. Raises `DestinationError` if two
    release directories hold a version with different manifests.
    """
    found: dict[str, tuple[Path, Manifest]] = {}
    for release in releases_in(folders):
        for handle, manifest in Directory(release.absolute()).manifests().items():
            before = found.setdefault(handle, (release, manifest))
            if before[1] != manifest:
                raise DestinationError(
                    f"{handle}: {before[0]} and {release} hold different builds; leave one out"
                )
    results: list[Built | Failed] = []
    for variant in variants:
        if variant.handle not in found:
            given = ", ".join(map(str, folders))
            fault = f"{variant.handle}: is not in {given}; build it there first"
            results.append(Failed(variant, DestinationError(fault)))
            continue
        release, manifest = found[variant.handle]
        if (manifest.checkpoint.name, manifest.head) != (variant.checkpoint, variant.head):
            fault = f"{variant.handle}: {release} has it with another checkpoint or head than"
            fault += " models.yaml; build it again"
            results.append(Failed(variant, DestinationError(fault)))
        else:
            folder = release / folder_of(variant.handle)
            results.append(Built(variant, folder, manifest))
    return results


def offers_of(
    results: Iterable[Built | Stale | Failed], variants: Iterable[Variant], release: Path
) -> list[Offer]:
    """Return offers of the built and of the withdrawn variants.

    `release` is the release directory, which may hold their signatures.
    """
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

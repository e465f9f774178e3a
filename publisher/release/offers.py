"""What a build left, here or in release directories of other machines, as offers."""

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
    """Return the release directories among these, and those that the others hold.

    One that is not there holds none: a machine that found nothing good has sent nothing.
    """
    found: list[Path] = []
    for folder in folders:
        inside = [path.parent for path in sorted(folder.glob(f"*/{INDEX}"))]
        found += [folder] if (folder / INDEX).is_file() else inside
    return found


def collect_builds(variants: Sequence[Variant], folders: Sequence[Path]) -> list[Built | Failed]:
    """Return the variants as release directories hold them, made publishing.

    The archives are compared with their manifests when they are published. Raises
    `DestinationError` where two release directories hold a version and differ.
    """
    found: dict[str, tuple[Path, Manifest]] = {}
    for release in releases_in(folders):
        for handle, manifest in Directory(release.absolute()).manifests().items():
            before = found.setdefault(handle, (release, manifest))
            if before[1] != manifest:
                raise DestinationError(
                    f"{handle}: {before[0]} and {release} hold it, and differ; leave one out"
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
            fault = f"{variant.handle}: {release} has it of another checkpoint or head than"
            fault += " models.yaml; build it again"
            results.append(Failed(variant, DestinationError(fault)))
        else:
            folder = release / folder_of(variant.handle)
            results.append(Built(variant, folder, manifest))
    return results


def offers_of(
    results: Iterable[Built | Stale | Failed], variants: Iterable[Variant], release: Path
) -> list[Offer]:
    """Return what can be published: what is built, and what is withdrawn.

    Signatures are in the release directory, if somebody signed.
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

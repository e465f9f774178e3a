"""Copying a destination back into a release directory.

A machine that is new for each release has no release directory to start from. `pull` restores
it: the versions that are no longer built, the signatures of the others, the index and its sums.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from publisher.destinations.base import Destination, DestinationError
from publisher.destinations.local.directory import Directory
from publisher.documents.index import INDEX
from publisher.documents.manifest import ARCHIVE, MANIFEST, PAGE, Manifest
from publisher.registry import Registry
from publisher.release.contents import (
    DOCUMENTS,
    INDEX_SIGNATURE,
    SIGNED,
    SUMS,
    folder_of,
    held_file,
)
from publisher.release.destinations import open_destinations
from publisher.release.downloads import download
from publisher.release.offers import releases_in
from publisher.release.settings import PullSettings
from publisher.release.sources.base import RemoteFile, Source
from publisher.release.sources.open import open_source
from publisher.util.files import sha256_file
from publisher.util.reporter import Reporter


@dataclass(frozen=True)
class Pulled:
    """The destination that a release was pulled from, and its handles; None if there was none."""

    name: str | None = None
    handles: Sequence[str] = ()


def pull_first(
    registry: Registry,
    settings: PullSettings,
    environment: Mapping[str, str],
    reporter: Reporter,
) -> Pulled:
    """Pull from the first of the destinations that holds a release with an index.

    Credentials come from `environment`. Raises `DestinationError` as `pull` does.
    """
    directory = Directory(settings.release.absolute())
    parts = [Directory(part.absolute()) for part in releases_in(settings.built)]
    work = settings.build
    work.mkdir(parents=True, exist_ok=True)
    with directory.locked():
        for one in open_destinations(registry, settings.sources, work, environment, to_write=False):
            if one.destination.holds_index and one.destination.read(INDEX):
                source = open_source(one.target.to, environment)
                handles = pull(one.destination, source, directory, parts, work, reporter)
                return Pulled(one.name, handles)
    return Pulled()


def pull(
    destination: Destination,
    source: Source,
    directory: Directory,
    parts: Sequence[Directory],
    work: Path,
    reporter: Reporter,
) -> list[str]:
    """Copy what a destination holds into a release directory, and return its handles.

    An archive that one of `parts` holds is copied from there. Others are downloaded from
    `source`, the destination's public address, to the folder `work`. Every archive is compared
    with its manifest. The caller holds the directory's lock. Raises `DestinationError` if the
    directory holds a version with other bytes, or a version cannot be copied.
    """
    index, sums = destination.read(INDEX), destination.read(SUMS)
    if index is None or sums is None:
        return []
    held, there = destination.manifests(), directory.manifests()
    built = _archives(parts)
    for handle, manifest in held.items():
        files = _small(handle, destination)
        if handle not in there:
            digest = manifest.archive.sha256
            with tempfile.TemporaryDirectory(prefix="pull-", dir=work) as folder:
                archive = built.get(digest) or _fetched(
                    handle, manifest, source, Path(folder), reporter
                )
                if sha256_file(archive) != digest:
                    raise DestinationError(
                        f"{handle}: its archive in {source.name} has other bytes than its manifest"
                        " states; restore it from a copy"
                        if archive.is_relative_to(folder)
                        else f"{archive}: has other bytes than its manifest states; build it again"
                    )
                directory.add_version(handle, {ARCHIVE: archive, **files})
        elif there[handle].archive.sha256 != manifest.archive.sha256:
            raise DestinationError(
                f"{handle}: {directory.name} holds it with other bytes than {destination.name};"
                " pull into an empty release directory"
            )
        else:
            for name, content in files.items():
                directory.write(f"{folder_of(handle)}/{name}", content)
    for path in (*_documents(sums), INDEX, SUMS, INDEX_SIGNATURE):
        document = destination.read(path)
        if document is not None:
            directory.write(path, document)
    return list(held)


def _archives(parts: Sequence[Directory]) -> dict[str, Path]:
    """Return the archives of release directories by the SHA-256 in their manifests."""
    return {
        manifest.archive.sha256: Path(part.name) / folder_of(handle) / ARCHIVE
        for part in parts
        for handle, manifest in part.manifests().items()
    }


def _small(handle: str, destination: Destination) -> dict[str, bytes]:
    """Return the small files of a version by name, including those of a signed version."""
    files = {name: held_file(handle, name, destination) for name in (MANIFEST, PAGE)}
    for name in SIGNED:
        content = destination.read(f"{folder_of(handle)}/{name}")
        if content is not None:
            files[name] = content
    return files


def _fetched(
    handle: str, manifest: Manifest, source: Source, folder: Path, reporter: Reporter
) -> Path:
    """Copy the archive of a version to `folder`, and return its path."""
    size, target = manifest.archive.size, folder / ARCHIVE
    opened = source.open(f"{folder_of(handle)}/{ARCHIVE}", size)
    if isinstance(opened, RemoteFile):
        download(opened.address, target, size, handle, reporter)
    else:
        with opened, target.open("wb") as file:
            shutil.copyfileobj(opened, file)
    return target


def _documents(sums: bytes) -> list[str]:
    lines = sums.decode(errors="replace").splitlines()
    paths = [line.partition("  ")[2] for line in lines]
    return [path for path in paths if path.startswith(f"{DOCUMENTS}/")]

"""Finds the archives that a person names, and the manifests and signatures that come with them.

A person names an archive, its address, the address of a handle, a handle in a release, or a
whole release.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from publisher.documents.errors import DocumentError
from publisher.documents.fields import HANDLE_FORM
from publisher.documents.index import INDEX
from publisher.documents.manifest import ARCHIVE, MANIFEST, Manifest, read_manifest
from publisher.release.catalogue import Catalogue, Model, Redirect, load
from publisher.release.contents import SIGNED
from publisher.release.downloads import download
from publisher.release.errors import ReleaseError
from publisher.release.sources.base import RemoteFile, Source
from publisher.release.sources.directory import DirectorySource
from publisher.release.sources.open import open_source
from publisher.release.sources.web import WebSource
from publisher.util.files import sha256_file
from publisher.util.reporter import Reporter, Silent
from publisher.verify.errors import VerifyError

_NAME = r"[a-z0-9-]+/[A-Za-z0-9_][A-Za-z0-9_.-]*"
_HANDLE = re.compile(rf"{_NAME}/[1-9][0-9]*")
# Without a version it means the newest one; it may be an old spelling, as with a hub.
_NAME_OR_HANDLE = re.compile(rf"{_NAME}(/[1-9][0-9]*)?")


@dataclass(frozen=True)
class Target:
    """What is to be verified.

    `archives` are files on this machine by handle, or by file name if the handle is unknown.
    `manifests` are their manifests by handle; `unstated` says why there is none. `files` are the
    manifest and the files of a signed version, by handle and name. `withdrawn` are reasons of
    withdrawals by handle. A whole release has a `catalogue`, and a `root` if it is a directory.
    """

    name: str
    archives: Mapping[str, Path]
    manifests: Mapping[str, Manifest]
    catalogue: Catalogue | None = None
    root: Path | None = None
    unstated: str = ""
    withdrawn: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)

    def beside(self, handle: str) -> Mapping[str, bytes]:
        """Return the small files of an archive, by name."""
        return self.files.get(handle, {})

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """The SHA-256 of each archive, by handle; each file is read once."""
        return {handle: sha256_file(path) for handle, path in self.archives.items()}


@dataclass(frozen=True)
class _Search:
    """The context of a search; downloads go to `folder`."""

    environment: Mapping[str, str]
    folder: Path
    reporter: Reporter

    def open(self, where: str) -> Source:
        return open_source(where, self.environment)

    def fetched(self, address: str, handle: str, size: int | None) -> Path:
        """Download an address, and return the file."""
        target = self.folder / handle.replace("/", "_")
        download(address, target, size, handle, self.reporter)
        return target


def target_of(
    model: str | None,
    release: str,
    environment: Mapping[str, str],
    folder: Path,
    reporter: Reporter | None = None,
) -> Target:
    """Find the target that `model` names; remote archives are downloaded to `folder`.

    A handle without an address is looked up in `release`; without a `model`, the whole release is
    the target. Raises `VerifyError` if there is no such target, and `ReleaseError` for an
    inconsistent release.
    """
    search = _Search(environment, folder, reporter or Silent())
    if model is None:
        return _whole(release, search)
    path = Path(model)
    if path.is_file():
        return _archive(path)
    if path.is_dir():
        raise VerifyError(
            f"{model}: is a directory and no archive; for the release in it, give --release {model}"
        )
    if "://" in model:
        return _at_address(model, search)
    if _NAME_OR_HANDLE.fullmatch(model):
        return _in_release(model, search.open(release), search)
    raise VerifyError(
        f"{model}: there is no such file, and it is no handle; give an archive, its address, a"
        f" release (--release {model}) or a handle: {HANDLE_FORM}"
    )


def _whole(release: str, search: _Search) -> Target:
    """Return a release directory, or a release at an address."""
    path = Path(release)
    if not path.is_dir():
        return _release(search.open(release), search, None)
    if not (path / INDEX).exists():
        raise VerifyError(
            f"{release}: holds no {INDEX}, so it is no release; give another --release, or name"
            f" an archive ({ARCHIVE})"
        )
    return _release(search.open(release), search, path)


def _archive(path: Path) -> Target:
    """Return an archive, with the manifest beside it, if any."""
    beside = path.with_name(MANIFEST)
    files = _beside(DirectorySource(path.parent))
    if not beside.is_file():
        unstated = f"no {MANIFEST} lies beside it"
        return Target(str(path), {path.name: path}, {}, unstated=unstated, files={path.name: files})
    files[MANIFEST] = beside.read_bytes()
    manifest = _manifest(files[MANIFEST], str(beside))
    handle = manifest.handle
    return Target(str(path), {handle: path}, {handle: manifest}, files={handle: files})


def _beside(source: Source) -> dict[str, bytes]:
    """Return the additional files of a signed version that exist, by name."""
    found = {}
    for name in SIGNED:
        with suppress(ReleaseError):
            found[name] = source.read(name)
    return found


def _manifest(content: bytes, where: str) -> Manifest:
    try:
        return read_manifest(content)
    except DocumentError:
        raise VerifyError(
            f"{where}: is no manifest; restore it, or verify a copy of the archive without it"
        ) from None


def _release(source: Source, search: _Search, root: Path | None) -> Target:
    catalogue = load(source)
    archives = {handle: _local(source, model, search) for handle, model in catalogue.models.items()}
    manifests = {handle: model.manifest for handle, model in catalogue.models.items()}
    return Target(
        source.name,
        archives,
        manifests,
        catalogue,
        root,
        withdrawn=_withdrawn(catalogue.models.values()),
        files=_files(catalogue, catalogue.models.values()),
    )


def _in_release(path: str, source: Source, search: _Search) -> Target:
    """Return one version of a release."""
    catalogue = load(source)
    model = _found(catalogue, path, source.name)
    handle = model.entry.handle
    archive = _local(source, model, search)
    return Target(
        f"{handle} in {source.name}",
        {handle: archive},
        {handle: model.manifest},
        withdrawn=_withdrawn([model]),
        files=_files(catalogue, [model]),
    )


def _found(catalogue: Catalogue, path: str, where: str) -> Model:
    """Return the model at a path, following redirects as at a hub. Raises `VerifyError`."""
    found = catalogue.find(path)
    while isinstance(found, Redirect):
        found = catalogue.find(found.path)
    if found is None:
        near = catalogue.near(path)
        others = f"near ones: {', '.join(near)}" if near else "nor anything like it"
        raise VerifyError(
            f"{path}: {where} does not hold it; {others}; give a handle that it holds, or another"
            " release"
        )
    return found


def _at_address(address: str, search: _Search) -> Target:
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise VerifyError(f"{address}: is no address ({error}); correct it") from None
    if parts.scheme in ("http", "https"):
        plain = parts._replace(query="", fragment="").geturl().rstrip("/")
        if parts.path.endswith(".tar.gz"):
            return _archive_at(plain, parts._replace(fragment="").geturl(), search)
        handle = "/".join(parts.path.rstrip("/").split("/")[-3:])
        if _HANDLE.fullmatch(handle):
            return _handle_at(plain, handle, search)
    raise VerifyError(
        f"{address}: is no http:// or https:// address of an archive (.tar.gz) or a handle; for a"
        f" release, give --release {address}"
    )


def _archive_at(address: str, asked: str, search: _Search) -> Target:
    """Return an archive at an address, with the manifest beside it, if any.

    `asked` is the address with its query string, which is a secret if the address is presigned.
    """
    base, _, name = address.rpartition("/")
    source = WebSource(base, base)
    try:
        content = source.read(MANIFEST)
    except ReleaseError:
        unstated = f"no {MANIFEST} lies beside it"
        archive = search.fetched(asked, name, None)
        files = {name: _beside(source)}
        return Target(address, {name: archive}, {}, unstated=unstated, files=files)
    manifest = _manifest(content, f"{base}/{MANIFEST}")
    handle = manifest.handle
    archive = search.fetched(asked, handle, manifest.archive.size)
    files = {handle: {MANIFEST: content, **_beside(source)}}
    return Target(address, {handle: archive}, {handle: manifest}, files=files)


def _handle_at(address: str, path: str, search: _Search) -> Target:
    """Return the archive that `hub.load` would get from a handle's address, with its manifest."""
    asked = f"{address}?tf-hub-format=compressed"
    source = search.open(address.removesuffix(f"/{path}"))
    try:
        source.read(INDEX)
    except ReleaseError:
        archive = search.fetched(asked, path, None)
        return Target(address, {path: archive}, {}, unstated=f"its host has no {INDEX}")
    catalogue = load(source)
    model = _found(catalogue, path, source.name)
    handle = model.entry.handle
    archive = search.fetched(asked, handle, model.entry.archive.size)
    return Target(
        address,
        {handle: archive},
        {handle: model.manifest},
        withdrawn=_withdrawn([model]),
        files=_files(catalogue, [model]),
    )


def _files(catalogue: Catalogue, models: Iterable[Model]) -> dict[str, dict[str, bytes]]:
    """Return the manifest and the additional signed files of each model, by handle and name."""
    return {
        model.entry.handle: {
            name: catalogue.files[path]
            for name in (MANIFEST, *SIGNED)
            if (path := f"{model.entry.path}/{name}") in catalogue.files
        }
        for model in models
    }


def _withdrawn(models: Iterable[Model]) -> dict[str, str]:
    entries = [model.entry for model in models]
    return {entry.handle: entry.withdrawn for entry in entries if entry.withdrawn}


def _local(source: Source, model: Model, search: _Search) -> Path:
    """Return the local path of an archive, downloading it if it is remote."""
    size = model.entry.archive.size
    opened = source.open(model.archive, size)
    if isinstance(opened, RemoteFile):
        return search.fetched(opened.address, model.entry.handle, size)
    opened.close()
    return Path(source.name) / model.archive

"""The Hugging Face Hub: one repository for each model, a folder and a tag for each version.

One commit adds all files of version 1 in `v1/`. README.md at the root is the page of the
newest version, byte for byte, and changes in the same commit. Each commit names its parent,
and the Hub refuses it if the parent is no longer the newest. A version counts once its tag
exists, which is created last. The next run therefore finishes an interrupted one, and sends
nothing that the Hub already has.

Two publishers of the same bytes may both succeed. If the bytes differ, one is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, ModelInfo

from publisher.destinations.base import NamedDestination, Style, version_file
from publisher.destinations.huggingface.client import LOGIN, Hub
from publisher.destinations.huggingface.repository import (
    MAX_SMALL_FILE,
    File,
    Repository,
    Snapshot,
    addition,
)
from publisher.destinations.huggingface.user import refusal_to_write, user_of
from publisher.documents.errors import DocumentError
from publisher.documents.manifest import ARCHIVE, MANIFEST, PAGE, Manifest, read_manifest
from publisher.pages.errors import PageError
from publisher.pages.huggingface import folder_of, repository_of
from publisher.registry.models import Target
from publisher.util.http import DEFAULT_RETRY, Retry

MOST_MODELS = 10_000  # of an owner
# The Hub assembles and hashes a large file before it answers, and its rate limits reset after
# five minutes.
RETRY = replace(DEFAULT_RETRY, read_timeout=120.0, longest_asked=330.0)

_FOLDER = re.compile(rf"v([1-9][0-9]{{0,8}})/{MANIFEST}")


@dataclass(frozen=True)
class _Version:
    """A version to publish: its archive as the manifest states it, the other files by path."""

    handle: str
    folder: str
    size: int
    sha256: str
    small: Mapping[str, bytes]

    @property
    def archive(self) -> str:
        return f"{self.folder}/{ARCHIVE}"

    @property
    def page(self) -> bytes:
        return self.small[f"{self.folder}/{PAGE}"]

    def is_archive(self, file: File | None) -> bool:
        """Return whether a file is the version's archive."""
        return file is not None and (file.size, file.digest) == (self.size, self.sha256)


class HuggingFace(NamedDestination):
    """The models of one owner. Models of other projects stay untouched."""

    style: Style = "huggingface"

    def __init__(
        self,
        name: str,
        target: Target,
        environment: Mapping[str, str],
        folder: Path,
        *,
        retry: Retry = RETRY,
    ) -> None:
        """Read HF_TOKEN, or else the token of `hf auth login`, and HF_ENDPOINT.

        `folder` is unused. Raises `DestinationError` if one of them is invalid.
        """
        super().__init__(name, target)
        self._hub = Hub(name, environment, retry)
        self._repositories: dict[str, Repository] = {}
        # The repositories that this run added to: the Hub's list may not show them at once.
        self._added: set[str] = set()

    def check(self) -> None:
        """Verify that there is a token, and that it grants write access to the owner's models."""
        if not self._hub.has_token:
            raise self._error(f"no token for Hugging Face; {LOGIN}")
        user = self._hub.ask("identifying the token's user", lambda api: user_of(api.whoami()))
        refusal = refusal_to_write(user, self._target.to)
        if refusal:
            raise self._error(refusal)

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every version, by handle; see `Destination`.

        Raises `DestinationError` if a version lacks the archive that its manifest states.
        """
        found = {}
        for name in sorted({*self._candidate_repositories(), *self._added}):
            repository = self._repository(name)
            there = repository.snapshot()
            for folder in _folders(there) if there else ():
                if there and folder in there.tags:
                    manifest = self._manifest(repository, there, folder)
                    if manifest:
                        found[manifest.handle] = manifest
        return dict(sorted(found.items()))

    def read(self, path: str) -> bytes | None:
        """Return a small file of a version, or `None` if it does not exist.

        The page of the newest version is the card at the root, which people see.
        """
        file = version_file(path)
        if file is None:
            return None
        handle, name = file
        repository = self._repository_of(handle)
        there = repository.snapshot()
        content = None
        if there and folder_of(handle) in there.tags:
            content = repository.content(there, _visible_path(there, handle, name))
        self._last_read[path] = content
        return content

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Upload the archive, add all files in one commit, and create the tag.

        Raises `DestinationError` before anything is sent if the Hub refuses the page.
        """
        what = f"publishing {handle}"
        version, archive = self._version(handle, files)
        repository = self._repository_of(handle)
        there = repository.snapshot()
        if there:
            self._require_unpublished(repository, there, version)
        self._hub.validate_card(f"the page of {handle}", _text(version.page))
        if there is None:
            repository.create(private=self._target.visibility == "private")
        repository.upload(f"sending {ARCHIVE} of {handle}", archive)

        def missing(there: Snapshot) -> Sequence[CommitOperationAdd]:
            self._require_unpublished(repository, there, version)
            new = [] if version.archive in there.files else [archive]
            pages = _root_card(there, version.folder, version.page)
            return [*new, *_additions(there, {**version.small, **pages})]

        there = repository.commit(what, f"Publish {handle}", missing)
        self._added.add(repository.name)
        if version.folder in there.tags:
            raise self._conflict(f"{handle}: another publisher published it meanwhile; run again")
        self._verify(version.is_archive(there.files.get(version.archive)), version.archive, handle)
        pages = _root_card(there, version.folder, version.page)
        for path, content in {**version.small, **pages}.items():
            self._verify(_holds(there, path, content), path, handle)
        tagging = f"creating the tag {version.folder} of {handle}"
        repository.tag(tagging, version.folder, there.commit)
        self._verify_tag(repository, version)

    def write(self, path: str, content: bytes) -> None:
        """Replace a small file of a version unless it has this content.

        Raises `ConflictError` if the file has changed since `read` last returned it.
        """
        file = version_file(path)
        if file is None or file[1] == ARCHIVE:
            raise self._error(
                f"{path}: only small files of a version can be replaced; leave it out"
            )
        handle, name = file
        repository = self._repository_of(handle)
        folder = folder_of(handle)

        def wanted(there: Snapshot) -> dict[str, bytes]:
            pages = _root_card(there, folder, content) if name == PAGE else {}
            return {f"{folder}/{name}": content, **pages}

        def changes(there: Snapshot) -> Sequence[CommitOperationAdd]:
            if folder not in there.tags or f"{folder}/{MANIFEST}" not in there.files:
                raise self._error(f"{path}: this version does not exist; publish it first")
            changed = _additions(there, wanted(there))
            shown = _visible_path(there, handle, name)
            if (
                changed
                and path in self._last_read
                and not _holds(there, shown, self._last_read[path])
            ):
                raise self._changed_meanwhile(path)
            if changed and name == PAGE:
                self._hub.validate_card(f"the page of {handle}", _text(content))
            return changed

        there = repository.commit(
            f"writing {name} of {handle}", f"Change {name} of {handle}", changes
        )
        for place, text in wanted(there).items():
            self._verify(_holds(there, place, text), place, handle)
        self._last_read[path] = content

    # Current state

    def _repository(self, name: str) -> Repository:
        return self._repositories.setdefault(name, Repository(self._hub, name))

    def _repository_of(self, handle: str) -> Repository:
        try:
            return self._repository(repository_of(self._target, handle))
        except PageError as error:
            raise self._error(str(error)) from error

    def _candidate_repositories(self) -> Iterator[str]:
        """Yield the owner's repositories that may hold versions."""

        def call(api: HfApi) -> list[ModelInfo]:
            models = api.list_models(author=self._target.to, expand=["siblings"])
            found = list(islice(models, MOST_MODELS + 1))
            if not all(isinstance(model.id, str) for model in found):
                raise TypeError("no model")
            return found

        models = self._hub.ask(f"listing the models of {self._target.to}", call)
        if len(models) > MOST_MODELS:
            raise self._error(
                f"{self._target.to} has more than {MOST_MODELS:,} models, too many to search; use"
                " another owner"
            )
        for model in models:
            files = model.siblings
            looks_so = files is None or any(_FOLDER.fullmatch(file.rfilename) for file in files)
            if looks_so and model.id.startswith(f"{self._target.to}/"):
                yield model.id

    def _manifest(self, repository: Repository, there: Snapshot, folder: str) -> Manifest | None:
        """Return the manifest of a version, or `None` if it is another project's."""
        manifest = self._read_manifest(repository, there, folder)
        try:
            ours = manifest and repository_of(self._target, manifest.handle) == repository.name
        except PageError:
            return None
        if not manifest or not ours or folder_of(manifest.handle) != folder:
            return None
        stated = manifest.archive
        archive = there.files.get(f"{folder}/{stated.file}")
        if archive is None or (archive.size, archive.digest) != (stated.size, stated.sha256):
            problem = "is missing" if archive is None else "is not the one that its manifest states"
            raise self._error(
                f"{folder} of {repository.name} is damaged: the archive {problem}; restore the"
                " earlier files, or delete the folder and its tag and publish again"
            )
        return manifest

    def _read_manifest(
        self, repository: Repository, there: Snapshot, folder: str
    ) -> Manifest | None:
        """Return the manifest in a folder, of whatever model, or `None` if it is not one."""
        path = f"{folder}/{MANIFEST}"
        try:
            if there.files[path].size > MAX_SMALL_FILE:
                return None
            return read_manifest(repository.content(there, path) or b"")
        except DocumentError:
            return None

    # A new version

    def _version(
        self, handle: str, files: Mapping[str, Path | bytes]
    ) -> tuple[_Version, CommitOperationAdd]:
        """Return a version, and the operation that adds its archive."""
        folder = folder_of(handle)
        small = {
            f"{folder}/{name}": source if isinstance(source, bytes) else source.read_bytes()
            for name, source in files.items()
            if name != ARCHIVE
        }
        stated = read_manifest(small[f"{folder}/{MANIFEST}"]).archive
        version = _Version(handle, folder, stated.size, stated.sha256, small)
        try:
            archive = addition(version.archive, files[ARCHIVE])
            same = archive.upload_info.sha256.hex() == version.sha256
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "there is no such file"
            raise self._error(
                f"{files[ARCHIVE]!s}: cannot be read ({reason}); build the variant again"
            ) from error
        if not same:
            raise self._error(
                f"{handle}: its archive is not the one that its manifest states; build the"
                " variant again"
            )
        return version, archive

    def _require_unpublished(
        self, repository: Repository, there: Snapshot, version: _Version
    ) -> None:
        """Raise an error unless the version is new, or only what is missing of it can be added."""
        place = f"{version.folder} of {repository.name}"
        if version.folder in there.tags:
            problem = (
                f"is already published there, as {place}"
                if version.archive in there.files
                else f"cannot be {place}: that tag exists and marks something else"
            )
            raise self._conflict(f"{version.handle} {problem}; raise the version")
        model = version.handle.rpartition("/")[0]
        for folder in _folders(there):
            manifest = self._read_manifest(repository, there, folder)
            other = manifest.handle.rpartition("/")[0] if manifest else model
            if other != model:
                raise self._error(
                    f"{repository.name} holds versions of {other}; give {model} another name there"
                    " with `names` in models.yaml"
                )
        begun = [path for path in (version.archive, *version.small) if path in there.files]
        if begun and not version.is_archive(there.files.get(version.archive)):
            raise self._conflict(
                f"{version.handle}: {place} holds other files; another publisher is at work or was"
                " interrupted: if nobody is publishing it, delete that folder and run again,"
                " otherwise raise the version"
            )

    def _verify(self, held: bool, path: str, handle: str) -> None:
        if not held:
            raise self._error(
                f"{handle}: Hugging Face accepted {path} but does not hold it as it was sent; run"
                " again, and if the error stays, inspect it there"
            )

    def _verify_tag(self, repository: Repository, version: _Version) -> None:
        """Verify that the tag exists and marks the version."""
        there = repository.existing_snapshot()
        commit = there.tags.get(version.folder)
        self._verify(commit is not None, f"the tag {version.folder}", version.handle)
        if not version.is_archive(repository.files(str(commit)).get(version.archive)):
            raise self._conflict(
                f"{version.handle}: the tag {version.folder} of {repository.name}"
                " marks something else; delete that tag and run again"
            )


def _folders(there: Snapshot) -> list[str]:
    """Return the folders with the name of a version, the newest last."""
    numbers = [int(match[1]) for match in map(_FOLDER.fullmatch, there.files) if match]
    return [f"v{number}" for number in sorted(numbers)]


def _is_newest(there: Snapshot, folder: str) -> bool:
    """Return whether the repository holds no later version."""
    return int(folder[1:]) >= max((int(other[1:]) for other in _folders(there)), default=0)


def _root_card(there: Snapshot, folder: str, page: bytes) -> dict[str, bytes]:
    """Return the card at the root, by path, if this version's page belongs there."""
    return {PAGE: page} if _is_newest(there, folder) else {}


def _visible_path(there: Snapshot, handle: str, name: str) -> str:
    """Return the path of the file that people see as this file of a version."""
    folder = folder_of(handle)
    at_root = name == PAGE and PAGE in there.files and _is_newest(there, folder)
    return PAGE if at_root else f"{folder}/{name}"


def _holds(there: Snapshot, path: str, content: bytes | None) -> bool:
    """Return whether a file has this content, or does not exist if `content` is `None`."""
    file = there.files.get(path)
    return file is None if content is None else file is not None and file.matches(content)


def _additions(there: Snapshot, wanted: Mapping[str, bytes]) -> list[CommitOperationAdd]:
    """Return the operations that give the files the wanted contents."""
    return [
        addition(path, content)
        for path, content in wanted.items()
        if not _holds(there, path, content)
    ]


def _text(page: bytes) -> str:
    return page.decode(errors="replace")

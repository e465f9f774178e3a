"""One repository of the Hub: its files at a commit, and new commits and tags.

A commit never changes, so its files are cached. Branch and tags move, so they are requested
each time.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from publisher.destinations.base import ConflictError
from publisher.destinations.huggingface.client import Hub, StaleError
from publisher.util.files import sha256

BRANCH = "main"
MAX_SMALL_FILE = 16 << 20  # bytes of a file to read
MOST_ENTRIES = 10_000  # files and folders of a repository
MOST_RACES = 5  # attempts to commit while others commit

_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class File:
    """A file at a commit. `digest` is the SHA-256 of a large file, or git's digest of a blob."""

    path: str
    size: int
    digest: str

    def matches(self, content: bytes) -> bool:
        """Whether it has that content."""
        return self.size == len(content) and self.digest in (
            sha256(content),
            _git_blob_digest(content),
        )


@dataclass(frozen=True)
class Snapshot:
    """A repository's state: its newest commit, the files in it, and the commits of its tags."""

    commit: str
    files: Mapping[str, File]
    tags: Mapping[str, str]


Changes = Callable[[Snapshot], Sequence[CommitOperationAdd]]


class Repository:
    """A repository, which need not exist. `name` is `owner/model`."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.name = name
        self._hub = hub
        self._trees: dict[str, dict[str, File]] = {}
        self._contents: dict[str, bytes] = {}

    def snapshot(self) -> Snapshot | None:
        """Return the current state, or `None` if the repository does not exist."""

        def call(api: HfApi) -> tuple[str, dict[str, str]] | None:
            try:
                refs = api.list_repo_refs(self.name)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None
            branches = {ref.name: _commit(ref.target_commit) for ref in refs.branches}
            return branches[BRANCH], {ref.name: _commit(ref.target_commit) for ref in refs.tags}

        found = self._hub.ask(f"looking at {self.name}", call)
        if found is None:
            return None
        commit, tags = found
        return Snapshot(commit, self.files(commit), tags)

    def existing_snapshot(self) -> Snapshot:
        """Return the current state. Raises `DestinationError` if there is no such repository."""
        there = self.snapshot()
        if there is None:
            raise self._hub.error(
                f"{self.name} does not exist, or is hidden from this token; publish a version first"
            )
        return there

    def files(self, commit: str) -> dict[str, File]:
        """Return the files of a commit, by path."""
        if commit not in self._trees:

            def call(api: HfApi) -> list[File | None]:
                tree = api.list_repo_tree(self.name, recursive=True, revision=commit)
                entries = islice(tree, MOST_ENTRIES + 1)
                return [_file(e) if isinstance(e, RepoFile) else None for e in entries]

            found = self._hub.ask(f"listing the files of {self.name}", call)
            if len(found) > MOST_ENTRIES:
                raise self._hub.error(
                    f"{self.name} holds more than {MOST_ENTRIES:,} files and folders, too many to"
                    " search; move them to another repository"
                )
            self._trees[commit] = {file.path: file for file in found if file is not None}
        return self._trees[commit]

    def content(self, there: Snapshot, path: str) -> bytes | None:
        """Return a small file's content, or `None` if it does not exist."""
        file = there.files.get(path)
        if file is None:
            return None
        if file.digest not in self._contents:
            what = f"reading {path} of {self.name}"
            if file.size > MAX_SMALL_FILE:
                raise self._hub.error(
                    f"{what}: it has {file.size:,} bytes, and the limit is {MAX_SMALL_FILE:,};"
                    " inspect the file there"
                )
            content = self._hub.content(what, self.name, there.commit, path)
            if not file.matches(content):
                raise self._hub.error(
                    f"{what}: the bytes received are not those that Hugging Face lists; run again"
                )
            self._contents[file.digest] = content
        return self._contents[file.digest]

    def create(self, *, private: bool) -> None:
        """Create the repository unless it exists."""
        self._hub.ask(
            f"creating {self.name}",
            lambda api: api.create_repo(self.name, private=private, exist_ok=True),
        )

    def upload(self, what: str, file: CommitOperationAdd) -> None:
        """Upload a large file for a later commit, unless the Hub holds it.

        Raises `DestinationError` if the Hub would not store it as a large file: only for
        those it reports the SHA-256.
        """

        def call(api: HfApi) -> None:
            api.preupload_lfs_files(self.name, [file], revision=BRANCH, free_memory=False)

        self._hub.ask(what, call)
        if file._should_ignore or file._upload_mode != "lfs":
            raise self._hub.error(
                f"{what}: {self.name} would not store it as a large file; correct .gitattributes"
                " (*.gz filter=lfs diff=lfs merge=lfs -text) and .gitignore there"
            )

    def commit(self, what: str, message: str, changes: Changes) -> Snapshot:
        """Commit `changes(current state)`, if there are any, and return the new state.

        Start again if another publisher commits meanwhile. Raises `ConflictError` after
        `MOST_RACES` attempts.
        """
        for _ in range(MOST_RACES):
            there = self.existing_snapshot()
            operations = changes(there)
            if not operations:
                return there
            try:
                self._hub.ask(what, _committing(self.name, operations, message, there.commit))
            except StaleError:
                continue
            return self.existing_snapshot()
        raise ConflictError(
            f"{self._hub.name}: {what}: others keep committing to {self.name}; run again later"
        )

    def tag(self, what: str, name: str, commit: str) -> None:
        """Create a tag unless it exists."""
        self._hub.ask(
            what, lambda api: api.create_tag(self.name, tag=name, revision=commit, exist_ok=True)
        )


def addition(path: str, content: Path | bytes) -> CommitOperationAdd:
    """Return the operation that adds or replaces a file."""
    return CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)


def _committing(
    name: str, operations: Sequence[CommitOperationAdd], message: str, parent: str
) -> Callable[[HfApi], object]:
    return lambda api: api.create_commit(
        name, operations, commit_message=message, revision=BRANCH, parent_commit=parent
    )


def _file(entry: RepoFile) -> File:
    """Return a listed file. Raises `TypeError` if its entry is malformed."""
    size, digest = entry.size, entry.blob_id
    if entry.lfs is not None:
        size, digest = entry.lfs.size, entry.lfs.sha256
    if not (isinstance(entry.path, str) and isinstance(digest, str) and type(size) is int):
        raise TypeError("no file")
    return File(entry.path, size, digest)


def _commit(text: object) -> str:
    if not isinstance(text, str) or not _COMMIT.fullmatch(text):
        raise ValueError("no commit")
    return text


def _git_blob_digest(content: bytes) -> str:
    """Return git's digest of a file's content."""
    blob = b"blob %d\0%s" % (len(content), content)
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest()

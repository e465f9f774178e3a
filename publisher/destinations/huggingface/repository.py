"""One repository of the Hub: what is in it at one commit, and what is added to it.

A commit never changes, so what was read of one is kept. What changes is where the branch
and the tags lead, and that is asked anew each time.
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
MAX_SMALL_FILE = 16 << 20  # bytes of a file that is read
MOST_ENTRIES = 10_000  # files and folders of a repository
MOST_RACES = 5  # commits of others that are met while one is made

_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class File:
    """A file at a commit. `digest` is the SHA-256 of large files, or else git's of a blob."""

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
    """What a repository holds: its newest commit, the files in it, and its tags' commits."""

    commit: str
    files: Mapping[str, File]
    tags: Mapping[str, str]


Changes = Callable[[Snapshot], Sequence[CommitOperationAdd]]


class Repository:
    """A repository, which need not be there. `name` is `owner/model`."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.name = name
        self._hub = hub
        self._trees: dict[str, dict[str, File]] = {}
        self._contents: dict[str, bytes] = {}

    def snapshot(self) -> Snapshot | None:
        """Return what it holds now; none if there is no such repository."""
        what = f"looking at {self.name}"

        def call(api: HfApi) -> tuple[str, dict[str, str]] | None:
            try:
                refs = api.list_repo_refs(self.name)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None
            branches = {ref.name: _commit(ref.target_commit) for ref in refs.branches}
            return branches[BRANCH], {ref.name: _commit(ref.target_commit) for ref in refs.tags}

        found = self._hub.ask(what, call)
        if found is None:
            return None
        commit, tags = found
        return Snapshot(commit, self.files(commit), tags)

    def existing_snapshot(self) -> Snapshot:
        """Return what it holds now. Raises `DestinationError` if there is no such repository."""
        there = self.snapshot()
        if there is None:
            raise self._hub.error(
                f"{self.name} is not there, or this token may not see it; publish a version first"
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
                    f"{self.name} holds more than {MOST_ENTRIES:,} files and folders, and they are"
                    " not looked through; move them to another repository"
                )
            self._trees[commit] = {file.path: file for file in found if file is not None}
        return self._trees[commit]

    def content(self, there: Snapshot, path: str) -> bytes | None:
        """Return a small file's content; none if there is no such file."""
        file = there.files.get(path)
        if file is None:
            return None
        if file.digest not in self._contents:
            what = f"reading {path} of {self.name}"
            if file.size > MAX_SMALL_FILE:
                raise self._hub.error(
                    f"{what}: it has {file.size:,} bytes, where at most {MAX_SMALL_FILE:,} are"
                    " read; see what lies there"
                )
            content = self._hub.content(what, self.name, there.commit, path)
            if not file.matches(content):
                raise self._hub.error(
                    f"{what}: other bytes came than Hugging Face says that it holds; run again"
                )
            self._contents[file.digest] = content
        return self._contents[file.digest]

    def create(self, *, private: bool) -> None:
        """Make the repository; one that is there is left as it is."""
        self._hub.ask(
            f"making {self.name}",
            lambda api: api.create_repo(self.name, private=private, exist_ok=True),
        )

    def upload(self, what: str, file: CommitOperationAdd) -> None:
        """Send a large file, for a commit that will follow; what is there is not sent again.

        Raises `DestinationError` if the Hub would not keep it as a large file, of which it
        tells the SHA-256.
        """

        def call(api: HfApi) -> None:
            api.preupload_lfs_files(self.name, [file], revision=BRANCH, free_memory=False)

        self._hub.ask(what, call)
        if file._should_ignore or file._upload_mode != "lfs":
            raise self._hub.error(
                f"{what}: {self.name} would not keep it as a large file; see to .gitattributes"
                " (*.gz filter=lfs diff=lfs merge=lfs -text) and .gitignore there"
            )

    def commit(self, what: str, message: str, changes: Changes) -> Snapshot:
        """Make one commit of `changes(there)` onto what is there; return what is there then.

        No change makes no commit. If somebody else commits meanwhile it is looked at again,
        a few times. Raises `ConflictError` after that.
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
            f"{self._hub.name}: {what}: others write to {self.name} all the time; run again later"
        )

    def tag(self, what: str, name: str, commit: str) -> None:
        """Make a tag; one that is there is left as it is."""
        self._hub.ask(
            what, lambda api: api.create_tag(self.name, tag=name, revision=commit, exist_ok=True)
        )


def addition(path: str, content: Path | bytes) -> CommitOperationAdd:
    """Return what adds or replaces a file."""
    return CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)


def _committing(
    name: str, operations: Sequence[CommitOperationAdd], message: str, parent: str
) -> Callable[[HfApi], object]:
    return lambda api: api.create_commit(
        name, operations, commit_message=message, revision=BRANCH, parent_commit=parent
    )


def _file(entry: RepoFile) -> File:
    """Return a file of an answer. Raises `ValueError` or `TypeError` if it is none."""
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

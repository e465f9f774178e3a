"""A release as objects in a bucket, independent of the service.

An object's name is its path in the release, below a prefix. A version exists once its
manifest does: archive and page are uploaded first, the manifest last and only if there is
none. If two publishers upload one version, the first manifest wins.

An interrupted run leaves an archive without a manifest. An archive with other bytes may
belong to a publisher that is still at work and about to upload its manifest. It is replaced
once it is older than `Objects.abandoned_after`.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from publisher.destinations.base import (
    ConflictError,
    DestinationError,
    NamedDestination,
    Payload,
    checked_path,
    failure_message,
    payload_of,
    unreadable,
)
from publisher.destinations.sessions import Sessions
from publisher.documents.errors import DocumentError
from publisher.documents.manifest import ARCHIVE, MANIFEST, PAGE, Manifest, read_manifest
from publisher.registry.models import Target
from publisher.util.http import HttpError

MAX_SMALL_FILE = 1 << 24  # bytes of a manifest, page or index
MOST_OBJECTS = 100_000
MOST_RACES = 3  # attempts to upload an object that others change meanwhile

_MANIFEST = re.compile(rf"models/([^/]+/[^/]+/[1-9][0-9]*)/{re.escape(MANIFEST)}")


class ObjectChangedError(Exception):
    """The object has changed since it was last inspected."""


class UnknownUploadError(Exception):
    """The service has dropped the upload session that was to be resumed."""


@dataclass(frozen=True)
class Stored:
    """An object's state as the service reports it.

    `tag` identifies the content, the publisher recorded `sha256`, and the service computed
    `digest`; either digest is empty if the service does not report it.
    """

    size: int
    tag: str
    written: datetime
    sha256: str = ""
    digest: str = ""

    def matches(self, payload: Payload) -> bool:
        """Return whether the object has this content, as far as the service reports it."""
        return (
            self.size == payload.size
            and self.sha256 in ("", payload.sha256)
            and self.digest in ("", payload.digest)
        )


@dataclass(frozen=True)
class Headers:
    """The HTTP headers of an object. Content-Encoding is unset: clients would unpack archives."""

    content_type: str
    cache_control: str


def headers_of(path: str) -> Headers:
    """Return the headers of a file; clients may cache only archives."""
    if path.endswith(".tar.gz"):
        return Headers("application/gzip", "public, max-age=31536000, immutable")
    kinds = {".json": "application/json", ".md": "text/markdown; charset=utf-8"}
    return Headers(kinds.get(Path(path).suffix, "text/plain; charset=utf-8"), "no-cache")


class UnfinishedUpload(BaseModel):
    """An unfinished upload: the SHA-256 of its content, and the service's key for it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    sha256: str
    # May be an address that grants write access.
    key: str = Field(repr=False)


class Objects(NamedDestination, ABC):
    """A release below `target.to`, an address `scheme://bucket/prefix`.

    Subclasses implement the abstract methods, which raise `DestinationError` on failure.
    """

    holds_index = True
    # The age at which an archive without a manifest counts as abandoned.
    abandoned_after = timedelta(hours=1)
    _anonymous = False  # without credentials, a public bucket is still readable
    # For messages: how to log in, which permission to grant, and how to create a bucket.
    login: str
    permission: str
    creation: str

    def __init__(
        self, name: str, target: Target, environment: Mapping[str, str], folder: Path
    ) -> None:
        """Store unfinished uploads in `folder`. Send no request yet."""
        bucket, _, prefix = target.to.partition("://")[2].strip("/").partition("/")
        super().__init__(name, target)
        self._address = target.to.rstrip("/")
        self._bucket_name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._environment = environment
        self._sessions = Sessions(folder, UnfinishedUpload)
        # The tag of the content that `read` last returned, by path.
        self._tags: dict[str, str | None] = {}

    @abstractmethod
    def check(self) -> None:
        """Verify that the bucket exists and is writable."""

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every version, by handle; see `Destination`.

        Raises `DestinationError` if a manifest is invalid, or if its archive is missing or
        differs in size or recorded digest.
        """
        paths = list(islice(self._paths("models/"), MOST_OBJECTS + 1))
        if len(paths) > MOST_OBJECTS:
            raise self._error(
                f"{self._address}/models holds more than {MOST_OBJECTS:,} objects;"
                " choose a prefix that holds nothing but the release"
            )
        handles = [match[1] for match in map(_MANIFEST.fullmatch, paths) if match]
        return {handle: self._manifest(handle) for handle in sorted(handles)}

    def read(self, path: str) -> bytes | None:
        """Return the content of the small file at `path`, or `None` if it does not exist."""
        held = self._get(checked_path(path))
        content, self._tags[path] = held or (None, None)
        return content

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Upload all files, the manifest last.

        Raises `ConflictError` if the version exists or another publisher is uploading it.
        """
        folder = f"models/{handle}"
        payloads = {checked_path(f"{folder}/{name}"): self._payload(f) for name, f in files.items()}
        manifest, page = f"{folder}/{MANIFEST}", f"{folder}/{PAGE}"
        self._verify_archive(handle, files, payloads)
        if self._stat(manifest) is not None:
            raise self._conflict(
                f"{handle} exists; a published version never changes: raise the version"
            )
        data = {path: payload for path, payload in payloads.items() if path != manifest}
        for path, payload in data.items():
            replaceable = timedelta() if path == page else self.abandoned_after
            self._put(path, payload, replaceable_after=replaceable)
        self._verify_held(data)
        self._put(manifest, payloads[manifest], replaceable_after=None)
        # Check again: until the manifest was there, another publisher could have replaced the
        # archive as abandoned. A page may change at any time.
        self._verify_held({path: one for path, one in payloads.items() if path != page})

    def write(self, path: str, content: bytes) -> None:
        """Replace one small file unless it has this content.

        Raises `ConflictError` if the file has changed since `read` last returned it.
        """
        if checked_path(path).endswith(f"/{ARCHIVE}"):
            raise self._error(f"{path}: a published archive never changes")
        now, tag = self._get(path) or (None, None)
        changed = path in self._tags and self._tags[path] != tag
        if now != content and not changed:
            try:
                self._store(path, self._payload(content), tag)
            except (ObjectChangedError, UnknownUploadError):
                changed = True
            now, tag = self._get(path) or (None, None)
        if now != content:
            if changed:
                raise self._changed_by_others(path)
            raise self._not_held(path)
        self._tags[path] = tag

    # Current state

    def _manifest(self, handle: str) -> Manifest:
        folder = f"models/{handle}"
        held = self._get(checked_path(f"{folder}/{MANIFEST}"))
        try:
            if held is None:
                raise DocumentError("its manifest.json has disappeared")
            manifest = read_manifest(held[0])
            if manifest.handle != handle:
                raise DocumentError(f"its manifest is that of {manifest.handle}")
            stated = manifest.archive
            archive = self._stat(f"{folder}/{stated.file}")
            if archive is None or archive.size != stated.size:
                found = f"has {archive.size:,} bytes" if archive else "is missing"
                raise DocumentError(
                    f"the archive {found} where the manifest states {stated.size:,} bytes"
                )
            if archive.sha256 not in ("", stated.sha256):
                raise DocumentError("the archive is not the one that its manifest states")
        except DocumentError as error:
            raise self._error(
                f"{self._address}/{folder} is damaged: {error}; restore it from a"
                " copy, or remove all of it and publish again"
            ) from error
        return manifest

    # A new version

    def _payload(self, content: Path | bytes) -> Payload:
        payload = payload_of(content)
        try:
            with payload.open() as file:
                return replace(payload, digest=self._digest(file))
        except OSError as error:
            raise unreadable(error, self._name) from error

    def _verify_archive(
        self, handle: str, files: Mapping[str, Path | bytes], payloads: Mapping[str, Payload]
    ) -> None:
        """Raise `DestinationError` unless the manifest describes the archive."""
        manifest, source = files[MANIFEST], files[ARCHIVE]
        content = manifest if isinstance(manifest, bytes) else manifest.read_bytes()
        try:
            stated = read_manifest(content).archive
        except DocumentError as error:
            raise DestinationError(f"{handle}: {error}; build the variant again") from error
        archive = payloads[f"models/{handle}/{ARCHIVE}"]
        if (archive.size, archive.sha256) != (stated.size, stated.sha256):
            raise DestinationError(
                f"{source if isinstance(source, Path) else handle}: is not the archive that its"
                " manifest states; build the variant again"
            )

    def _put(self, path: str, payload: Payload, *, replaceable_after: timedelta | None) -> None:
        """Upload a file of an unfinished version unless the bucket holds it.

        Replace other content only once it is as old as `replaceable_after`; `None` means
        never. Raises `ConflictError` for content that must stay or keeps changing.
        """
        manifest = f"{path.rpartition('/')[0]}/{MANIFEST}"
        for _ in range(MOST_RACES):
            there = self._stat(path)
            if there is not None:
                if there.matches(payload):
                    self._cancel_unfinished(path)
                    return
                if replaceable_after is None:
                    raise self._changed_by_others(path)
                if datetime.now(UTC) - there.written < replaceable_after:
                    raise self._changed_by_others(
                        path,
                        ", or delete the file if nobody is publishing it;"
                        f" {replaceable_after} after its upload it is replaced without asking",
                    )
                # Checked last: a publisher that finished meanwhile is not overwritten.
                if self._stat(manifest) is not None:
                    raise self._changed_by_others(path)
            try:
                self._store(path, payload, there.tag if there else None)
            except (ObjectChangedError, UnknownUploadError):
                continue
            return
        raise self._changed_by_others(path)

    def _resumable(self, path: str, payload: Payload) -> str | None:
        """Return the key of an unfinished upload of this content; cancel one of another."""
        unfinished = self._sessions.get(path)
        if unfinished is not None and unfinished.sha256 == payload.sha256:
            return unfinished.key
        self._cancel_unfinished(path)
        return None

    def _cancel_unfinished(self, path: str) -> None:
        """Cancel an unfinished upload, which would take up space."""
        unfinished = self._sessions.get(path)
        if unfinished is not None:
            self._cancel(path, unfinished.key)
            self._sessions.remove(path)

    def _verify_held(self, payloads: Mapping[str, Payload]) -> None:
        """Raise `DestinationError` unless the service holds exactly what was sent."""
        for path, payload in payloads.items():
            there = self._stat(path)
            if there is None or not there.matches(payload):
                if there is not None and there.sha256 not in ("", payload.sha256):
                    raise self._changed_by_others(path)
                raise self._not_held(path)
            self._tags[path] = there.tag

    # Errors

    def _changed_by_others(self, path: str, more: str = "") -> ConflictError:
        return self._conflict(
            f"{path}: another publisher wrote this file meanwhile, and it was left unchanged;"
            f" let that publisher finish and run again{more}"
        )

    def _not_held(self, path: str) -> DestinationError:
        return self._error(
            f"the service accepted {path} but does not hold what was sent; run again, and if"
            " the error stays, inspect the file there"
        )

    def _too_large(self, path: str) -> DestinationError:
        return self._error(f"{path}: has more than {MAX_SMALL_FILE:,} bytes; inspect it there")

    def _failure(self, what: str, error: HttpError) -> DestinationError:
        """Return the error for a request that failed."""
        remedies = {
            **dict.fromkeys((401, 403), f"this needs credentials: {self.login}"),
            404: f"check the bucket's name; {self.creation}{self._bucket_name} creates it",
            **dict.fromkeys((400, 409), f"check {self._address} and models.yaml"),
        }
        if not self._anonymous:
            remedies |= {
                401: f"the credentials are not accepted: {self.login}",
                403: f"grant {self.permission}",
            }
        return self._error(failure_message(what, error, "the service", remedies))

    # Implemented by each service

    @abstractmethod
    def _paths(self, start: str) -> Iterable[str]:
        """Return the paths of all objects that begin with `start`."""

    @abstractmethod
    def _stat(self, path: str) -> Stored | None:
        """Return an object's state, or `None` if it does not exist."""

    @abstractmethod
    def _get(self, path: str) -> tuple[bytes, str] | None:
        """Return an object's content and tag. Raises for more than `MAX_SMALL_FILE` bytes."""

    @abstractmethod
    def _store(self, path: str, payload: Payload, expected: str | None) -> None:
        """Store an object atomically if its current tag is `expected` (`None`: no object).

        Resume an unfinished upload of the same content. Raises `ObjectChangedError` if the
        tag differs, and `UnknownUploadError` if the service has dropped that upload.
        """

    @abstractmethod
    def _cancel(self, path: str, key: str) -> None:
        """Cancel an unfinished upload; ignore one that the service does not know."""

    @abstractmethod
    def _digest(self, file: BinaryIO) -> str:
        """Return the checksum that the service computes for this content."""


@contextmanager
def in_os_environ(environment: Mapping[str, str], *beginnings: str) -> Iterator[None]:
    """Copy the variables that begin so into `os.environ`, for a client library, in this block."""
    wanted = {name: value for name, value in environment.items() if name.startswith(beginnings)}
    before = {name: value for name, value in os.environ.items() if name.startswith(beginnings)}
    for name in before:
        del os.environ[name]
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(beginnings)]:
            del os.environ[name]
        os.environ.update(before)

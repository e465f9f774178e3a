"""A release as objects in a bucket: all that does not depend on whose bucket it is.

An object's name is its path in the release, below a prefix. A version exists when its
manifest does: archive and page are put first, the manifest last and only if there is none.
So of two publishers of one version the one whose manifest came first wins.

What an interrupted run left is an archive without a manifest. With other bytes it might
just as well belong to a publisher that is at work, who needs moments from there to the
manifest. Such an archive is replaced when it is older than `Objects.abandoned_after`.
"""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BufferedReader, BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from publisher.destinations.base import (
    ConflictError,
    DestinationError,
    NamedDestination,
    checked_path,
    failure_message,
)
from publisher.destinations.sessions import Sessions
from publisher.documents.errors import DocumentError
from publisher.documents.manifest import ARCHIVE, MANIFEST, PAGE, Manifest, read_manifest
from publisher.registry.models import Target
from publisher.util.http import HttpError

MAX_SMALL_FILE = 1 << 24  # bytes of a manifest, page or index
MOST_OBJECTS = 100_000
MOST_RACES = 3  # at an object that others change meanwhile

_MANIFEST = re.compile(rf"models/([^/]+/[^/]+/[1-9][0-9]*)/{re.escape(MANIFEST)}")


class ObjectChangedError(Exception):
    """The object is no longer as it was when it was looked at."""


class UnknownUploadError(Exception):
    """The service no longer knows the upload that was to be finished."""


@dataclass(frozen=True)
class Source:
    """What is to be stored. `size` in bytes, `sha256` in hexadecimal.

    `digest` is what the service itself would say of it, in the service's notation.
    """

    where: Path | bytes
    size: int
    sha256: str
    digest: str

    def open(self) -> BytesIO | BufferedReader:
        """Return the content, open for reading. Raises `OSError`."""
        return BytesIO(self.where) if isinstance(self.where, bytes) else self.where.open("rb")


@dataclass(frozen=True)
class Stored:
    """What a service says of an object it holds.

    `tag` is another one for every content, `sha256` what its publisher noted, `digest` what
    the service computed; both are empty where they are not told.
    """

    size: int
    tag: str
    written: datetime
    sha256: str = ""
    digest: str = ""

    def matches(self, source: Source) -> bool:
        """Whether this is the content of `source`, as far as the service tells."""
        return (
            self.size == source.size
            and self.sha256 in ("", source.sha256)
            and self.digest in ("", source.digest)
        )


@dataclass(frozen=True)
class Headers:
    """What comes along when an object is downloaded.

    Archives have no Content-Encoding: a client would unpack what it should store.
    """

    content_type: str
    cache_control: str


def headers_of(path: str) -> Headers:
    """Return the headers of a file of the release; only archives may be cached."""
    if path.endswith(".tar.gz"):
        return Headers("application/gzip", "public, max-age=31536000, immutable")
    kinds = {".json": "application/json", ".md": "text/markdown; charset=utf-8"}
    return Headers(kinds.get(Path(path).suffix, "text/plain; charset=utf-8"), "no-cache")


class UnfinishedUpload(BaseModel):
    """An upload that began and did not end: its content's SHA-256, and the service's key of it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    sha256: str
    # May be an address that lets anybody write.
    key: str = Field(repr=False)


class Objects(NamedDestination, ABC):
    """A release below `target.to`, an address `scheme://bucket/prefix`.

    What a service does for it are the methods at the end. They raise `DestinationError` for
    all that fails.
    """

    holds_index = True
    # An archive without a manifest that is older than this is nobody's.
    abandoned_after = timedelta(hours=1)
    _anonymous = False  # whether there are no credentials, which may do for reading
    # For messages: where credentials come from, what they need, and what makes a bucket.
    login: str
    permission: str
    creation: str

    def __init__(
        self, name: str, target: Target, environment: Mapping[str, str], folder: Path
    ) -> None:
        """Ask nothing of the service yet. `folder` keeps what began and did not end."""
        bucket, _, prefix = target.to.partition("://")[2].strip("/").partition("/")
        super().__init__(name, target)
        self._address = target.to.rstrip("/")
        self._bucket_name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._environment = environment
        self._sessions = Sessions(folder, UnfinishedUpload)
        # Of what `read` returned last, by path.
        self._tags: dict[str, str | None] = {}

    @abstractmethod
    def check(self) -> None:
        """See that the bucket is there and can be written."""

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every version, by handle; see `Destination`.

        Raises `DestinationError` if a manifest cannot be understood, or the archive beside it
        is missing, has another size, or another digest than its publisher noted.
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
        """Return the small file at `path`; none if there is none."""
        held = self._get(checked_path(path))
        content, self._tags[path] = held or (None, None)
        return content

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Put archive, page and whatever else there is, and the manifest last.

        Raises `ConflictError` if the version is there, or another publisher is at it.
        """
        folder = f"models/{handle}"
        sources = {checked_path(f"{folder}/{name}"): self._source(w) for name, w in files.items()}
        manifest, page = f"{folder}/{MANIFEST}", f"{folder}/{PAGE}"
        self._verify_archive(handle, files, sources)
        if self._stat(manifest) is not None:
            raise self._conflict(
                f"{handle} is there; a published version never changes: raise the version"
            )
        data = {path: source for path, source in sources.items() if path != manifest}
        for path, source in data.items():
            self._put(path, source, replaces=timedelta() if path == page else self.abandoned_after)
        self._verify_held(data)
        self._put(manifest, sources[manifest], replaces=None)
        # Once more, because until now others might have taken the archive for a leftover. A
        # page may change at any time.
        self._verify_held({path: s for path, s in sources.items() if path != page})

    def write(self, path: str, content: bytes) -> None:
        """Replace one small file; the same content is left as it is.

        Raises `ConflictError` if it is no longer what `read` returned last.
        """
        if checked_path(path).endswith(f"/{ARCHIVE}"):
            raise self._error(f"{path}: a published archive never changes")
        now, tag = self._get(path) or (None, None)
        taken = path in self._tags and self._tags[path] != tag
        if now != content and not taken:
            try:
                self._store(path, self._source(content), tag)
            except (ObjectChangedError, UnknownUploadError):
                taken = True
            now, tag = self._get(path) or (None, None)
        if now != content:
            if taken:
                raise self._changed_by_others(path)
            raise self._not_held(path)
        self._tags[path] = tag

    # What is there

    def _manifest(self, handle: str) -> Manifest:
        folder = f"models/{handle}"
        held = self._get(checked_path(f"{folder}/{MANIFEST}"))
        try:
            if held is None:
                raise DocumentError("its manifest.json is there no longer")
            manifest = read_manifest(held[0])
            if manifest.handle != handle:
                raise DocumentError(f"its manifest is that of {manifest.handle}")
            stated = manifest.archive
            archive = self._stat(f"{folder}/{stated.file}")
            if archive is None or archive.size != stated.size:
                there = f"has {archive.size:,} bytes" if archive else "is missing"
                raise DocumentError(
                    f"the archive {there} where the manifest states {stated.size:,} bytes"
                )
            if archive.sha256 not in ("", stated.sha256):
                raise DocumentError("the archive is another one than its manifest states")
        except DocumentError as error:
            raise self._error(
                f"{self._address}/{folder} is damaged: {error}; restore it from a"
                " copy, or remove all of it and publish again"
            ) from error
        return manifest

    # A new version

    def _source(self, where: Path | bytes) -> Source:
        try:
            with Source(where, 0, "", "").open() as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.seek(0, os.SEEK_END)
                file.seek(0)
                return Source(where, size, sha256, self._digest(file))
        except OSError as error:
            raise self._unreadable(error) from error

    def _verify_archive(
        self, handle: str, files: Mapping[str, Path | bytes], sources: Mapping[str, Source]
    ) -> None:
        """Raise `DestinationError` unless the manifest is that of the archive."""
        manifest, where = files[MANIFEST], files[ARCHIVE]
        content = manifest if isinstance(manifest, bytes) else manifest.read_bytes()
        try:
            stated = read_manifest(content).archive
        except DocumentError as error:
            raise DestinationError(f"{handle}: {error}; build the variant again") from error
        archive = sources[f"models/{handle}/{ARCHIVE}"]
        if (archive.size, archive.sha256) != (stated.size, stated.sha256):
            raise DestinationError(
                f"{where if isinstance(where, Path) else handle}: is not the archive that its"
                " manifest states; build the variant again"
            )

    def _put(self, path: str, source: Source, *, replaces: timedelta | None) -> None:
        """Store a file unless it is there.

        Other content of an unfinished version is replaced if it is at least as old as
        `replaces`, and never for none. Raises `ConflictError` if it may not be replaced, or
        changes all the time.
        """
        manifest = f"{path.rpartition('/')[0]}/{MANIFEST}"
        for _ in range(MOST_RACES):
            there = self._stat(path)
            if there is not None:
                if there.matches(source):
                    self._cancel_unfinished(path)
                    return
                if replaces is None:
                    raise self._changed_by_others(path)
                if datetime.now(UTC) - there.written < replaces:
                    raise self._changed_by_others(
                        path,
                        f", or remove it if it is nobody's; {replaces} after it came it is"
                        " replaced without asking",
                    )
                # Asked last: whoever finished meanwhile is not overwritten.
                if self._stat(manifest) is not None:
                    raise self._changed_by_others(path)
            try:
                self._store(path, source, there.tag if there else None)
            except (ObjectChangedError, UnknownUploadError):
                continue
            return
        raise self._changed_by_others(path)

    def _resumable(self, path: str, source: Source) -> str | None:
        """Return the key of an upload that began earlier, if it is of that content."""
        begun = self._sessions.get(path)
        if begun is not None and begun.sha256 == source.sha256:
            return begun.key
        self._cancel_unfinished(path)
        return None

    def _cancel_unfinished(self, path: str) -> None:
        """Cancel an upload that began earlier, so that nothing of it takes space."""
        begun = self._sessions.get(path)
        if begun is not None:
            self._cancel(path, begun.key)
            self._sessions.remove(path)

    def _verify_held(self, sources: Mapping[str, Source]) -> None:
        """Raise `DestinationError` unless the service holds exactly what was sent."""
        for path, source in sources.items():
            there = self._stat(path)
            if there is None or not there.matches(source):
                if there is not None and there.sha256 not in ("", source.sha256):
                    raise self._changed_by_others(path)
                raise self._not_held(path)
            self._tags[path] = there.tag

    # Words

    def _changed_by_others(self, path: str, more: str = "") -> ConflictError:
        return self._conflict(
            f"{path}: somebody else wrote there meanwhile and it was left as it is;"
            f" let them finish and run again{more}"
        )

    def _not_held(self, path: str) -> DestinationError:
        return self._error(
            f"the service took {path} without an error and does not hold what was"
            " sent; run again, and if that ends the same way look at it there"
        )

    def _unreadable(self, error: OSError) -> DestinationError:
        return DestinationError(
            f"{error.filename or self._name}: cannot be read ({error.strerror or error}); build the"
            " variant again"
        )

    def _too_large(self, path: str) -> DestinationError:
        return self._error(f"{path}: has more than {MAX_SMALL_FILE:,} bytes; see what lies there")

    def _failure(self, what: str, error: HttpError) -> DestinationError:
        """Return the error for a request that failed."""
        remedies = {
            **dict.fromkeys((401, 403), f"not everybody may do that: {self.login}"),
            404: f"see that the bucket is there; {self.creation}{self._bucket_name} makes it",
            **dict.fromkeys((400, 409), f"look at {self._address} and at models.yaml"),
        }
        if not self._anonymous:
            remedies |= {
                401: f"the credentials are not accepted: {self.login}",
                403: f"grant {self.permission}",
            }
        return self._error(failure_message(what, error, "the service", remedies))

    # What a service does

    @abstractmethod
    def _paths(self, start: str) -> Iterable[str]:
        """Return the paths of all objects that begin so."""

    @abstractmethod
    def _stat(self, path: str) -> Stored | None:
        """Return what the service says of an object; none if it is not there."""

    @abstractmethod
    def _get(self, path: str) -> tuple[bytes, str] | None:
        """Return content and tag of an object; raises for more than `MAX_SMALL_FILE` bytes."""

    @abstractmethod
    def _store(self, path: str, source: Source, expected: str | None) -> None:
        """Store an object whole, in place of the one with the tag `expected`, or of none.

        An upload of the same content that began earlier goes on. Raises `ObjectChangedError` if the
        object there is another one, and `UnknownUploadError` if such an upload is no longer known.
        """

    @abstractmethod
    def _cancel(self, path: str, key: str) -> None:
        """Cancel an upload that did not end; one that is not known is none."""

    @abstractmethod
    def _digest(self, file: BinaryIO) -> str:
        """Return what the service would say of this content."""


@contextmanager
def in_os_environ(environment: Mapping[str, str], *beginnings: str) -> Iterator[None]:
    """Let a client library that reads `os.environ` find the variables of `environment` there.

    Only those whose names begin so, and only within the block.
    """
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

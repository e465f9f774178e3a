"""The interface of a destination, and what its implementations share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Literal, Protocol

from publisher.documents.manifest import Manifest
from publisher.errors import PublisherError
from publisher.registry.models import Target
from publisher.util.files import sha256, sha256_file
from publisher.util.http import HttpError, advice, is_service_address

Style = Literal["tfhub", "kaggle", "huggingface", "github"]

_NAME = re.compile(r"[\w-][\w.+-]*", re.ASCII)
_FILE = re.compile(r"models/([^/]+/[^/]+/[1-9][0-9]*)/(\w[\w.-]*)", re.ASCII)


class DestinationError(PublisherError):
    """A destination is unusable, or holds something that must not be overwritten."""


class ConflictError(DestinationError):
    """Another publisher wrote to the destination meanwhile; its files stay untouched."""


class Destination(Protocol):
    """A place that holds a release: report the current state, and write to it.

    Paths are those of a release: `models/<handle>/model.tar.gz`, with `manifest.json` and
    `README.md` (the version's page) beside it, and documents. A destination may store them
    in any form, but returns the same bytes.

    Every method raises `DestinationError` if the destination is unusable or holds damaged
    data, and `ConflictError` if another publisher was faster.
    """

    @property
    def name(self) -> str:
        """The name that messages show: the one in models.yaml, a path or an address."""

    @property
    def local(self) -> bool:
        """Whether the destination is on this machine; synthetic weights may go there."""

    @property
    def style(self) -> Style:
        """The style of its pages: the folder in `templates/` that renders them."""

    @property
    def holds_versions(self) -> bool:
        """Whether it holds archives as well as pages."""

    @property
    def holds_index(self) -> bool:
        """Whether it holds a whole release, with `tfhub.dev/`, `index.json` and SHA256SUMS."""

    @property
    def shares_page(self) -> bool:
        """Whether all versions of a model share the page of the newest."""

    @property
    def seals_versions(self) -> bool:
        """Whether a published version is immutable, except for its page."""

    def check(self) -> None:
        """Verify that the credentials exist and grant write access. Leave nothing behind."""

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every version, by handle. Query the service at each call.

        A version counts only if its archive has the size that the manifest states, and the
        digest if the service reports one. An interrupted upload is not a version.
        """

    def read(self, path: str) -> bytes | None:
        """Return the content of the small file at `path`, or `None` if it does not exist."""

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Publish a version atomically. `files` maps each name to a path or a content.

        Reuse or replace what an interrupted call left. Verify afterwards that the service
        holds what was sent. Raises `ConflictError` if the version exists.
        """

    def write(self, path: str, content: bytes) -> None:
        """Replace one small file (page, manifest, document, index) atomically.

        Raises `ConflictError` if the file has changed since `read` last returned it.
        """


@dataclass(frozen=True)
class Payload:
    """The content of one file to upload. `size` in bytes, `sha256` in hexadecimal.

    `digest` is the checksum that the service computes, in its notation, if it is known.
    """

    content: Path | bytes
    size: int
    sha256: str
    digest: str = ""

    def open(self) -> BytesIO | BufferedReader:
        """Open the content for reading. Raises `OSError`."""
        return BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")


def payload_of(content: Path | bytes) -> Payload:
    """Return the payload of a file or a content. Raises `DestinationError` if unreadable."""
    try:
        if isinstance(content, bytes):
            return Payload(content, len(content), sha256(content))
        return Payload(content, content.stat().st_size, sha256_file(content))
    except OSError as error:
        raise unreadable(error, str(content)) from error


def unreadable(error: OSError, name: str) -> DestinationError:
    """Return the error for a file to upload that cannot be read."""
    return DestinationError(
        f"{error.filename or name}: cannot be read ({error.strerror or error}); build the"
        " variant again"
    )


class NamedDestination:
    """The base of the destinations that models.yaml names."""

    style: Style = "tfhub"
    local = False
    holds_versions = True
    holds_index = False
    shares_page = False

    def __init__(self, name: str, target: Target) -> None:
        self._name = name
        self._target = target
        self._last_read: dict[str, bytes | None] = {}

    @property
    def name(self) -> str:
        """Its name in models.yaml."""
        return self._name

    @property
    def seals_versions(self) -> bool:
        """Whether a published version is immutable, except for its page."""
        return False

    def _error(self, problem: str) -> DestinationError:
        return DestinationError(f"{self._name}: {problem}")

    def _conflict(self, problem: str) -> ConflictError:
        return ConflictError(f"{self._name}: {problem}")

    def _require_unchanged(self, path: str, now: bytes | None) -> None:
        """Raise `ConflictError` if a file has changed since `read` last returned it."""
        if self._last_read.get(path, now) != now:
            raise self._changed_meanwhile(path)

    def _changed_meanwhile(self, path: str) -> ConflictError:
        return self._conflict(
            f"{path}: another publisher changed it meanwhile; run again and check the plan"
        )


def checked_path(path: str) -> str:
    """Return `path` unchanged. Raises `DestinationError` if it could lead out of the release."""
    if not all(_NAME.fullmatch(name) for name in path.split("/")):
        raise DestinationError(
            f"{path!r}: not a path within a release; correct the release's file or the entry in"
            " models.yaml that names it"
        )
    return path


def version_file(path: str) -> tuple[str, str] | None:
    """Return the handle and the file name that a version's path states, `None` for other paths."""
    match = _FILE.fullmatch(path)
    return (match[1], match[2]) if match else None


def failure_message(where: str, error: HttpError, who: str, remedies: Mapping[int, str]) -> str:
    """Return the message for a failed request: where, the answer of `who`, and the remedy."""
    return f"{where}: {error.said(who)}; {advice(error, remedies)}"


def service_address(name: str, variable: str, text: str, remedy: str) -> str:
    """Return the address of a service without a trailing slash.

    Raises `DestinationError` if it is unsafe to send a secret there.
    """
    if not is_service_address(text):
        raise DestinationError(f"{name}: {variable} is not a service address; {remedy}")
    return text.rstrip("/")


def token_of(name: str, variable: str, text: str, remedy: str) -> str:
    """Return a token without surrounding white space.

    Raises `DestinationError` for invalid characters: client libraries would print the token.
    """
    token = text.strip()
    if not re.fullmatch(r"[!-~]*", token):
        raise DestinationError(
            f"{name}: the token in {variable} contains invalid characters; {remedy}"
        )
    return token

"""Where a release can be: one folder a kind, behind one small interface."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from publisher.documents.manifest import Manifest
from publisher.errors import PublisherError
from publisher.registry.models import Target
from publisher.util.http import HttpError, advice, is_service_address

Style = Literal["tfhub", "kaggle", "huggingface", "github"]

_NAME = re.compile(r"[\w-][\w.+-]*", re.ASCII)
_FILE = re.compile(r"models/([^/]+/[^/]+/[1-9][0-9]*)/(\w[\w.-]*)", re.ASCII)


class DestinationError(PublisherError):
    """A destination cannot be used, or holds something that must not be overwritten."""


class ConflictError(DestinationError):
    """Somebody else wrote there meanwhile; what they wrote is left as it is."""


class Destination(Protocol):
    """What a destination holds, and a way to put things there. Nothing else.

    Paths are those of a release: `models/<handle>/model.tar.gz`, `manifest.json` and
    `README.md` beside it (the version's page), and documents. How a destination stores
    them is its own affair, as long as it gives back the same bytes.

    Every method raises `DestinationError` if the destination cannot be used or holds
    something damaged, and `ConflictError` if somebody else was faster.
    """

    @property
    def name(self) -> str:
        """What a person calls it: its name in models.yaml, its path or address."""

    @property
    def local(self) -> bool:
        """Whether only users of this machine see it; synthetic weights may go there."""

    @property
    def style(self) -> Style:
        """Whose pages it shows: the folder of `templates/` that they are made from."""

    @property
    def holds_versions(self) -> bool:
        """Whether archives go there, and not pages alone."""

    @property
    def holds_index(self) -> bool:
        """Whether it is a whole release, with documents in `tfhub.dev/`, index and sums."""

    @property
    def shares_page(self) -> bool:
        """Whether all versions of a model have one page, that of the newest."""

    @property
    def seals_versions(self) -> bool:
        """Whether nothing of a version can change once it is there, except its page."""

    def check(self) -> None:
        """See that credentials are there and suffice to write. Leaves nothing behind."""

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every version it holds, by handle.

        Asked anew at each call. A version counts only when it is whole: its archive is
        there with the size that the manifest states, and the digest where that is known.
        What an interrupted upload left is no version.
        """

    def read(self, path: str) -> bytes | None:
        """Return the small file at `path`; none if there is none."""

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Make a new version appear, whole: its files by name, each a path or its content.

        What an interrupted call left is used or replaced. The service is asked afterwards
        whether it holds what was sent. Raises `ConflictError` if the version is there.
        """

    def write(self, path: str, content: bytes) -> None:
        """Replace one small file (page, manifest, document, index), whole.

        Raises `ConflictError` if it is no longer what `read` returned last.
        """


class NamedDestination:
    """What destinations that models.yaml names have in common; each says what it does otherwise."""

    style: Style = "tfhub"
    local = False
    holds_versions = True
    holds_index = False
    shares_page = False

    def __init__(self, name: str, target: Target) -> None:
        self._name = name
        self._target = target
        # What `read` returned last, by path.
        self._last_read: dict[str, bytes | None] = {}

    @property
    def name(self) -> str:
        """Its name in models.yaml."""
        return self._name

    @property
    def seals_versions(self) -> bool:
        """Whether nothing of a version can change once it is there, except its page."""
        return False

    def _error(self, problem: str) -> DestinationError:
        return DestinationError(f"{self._name}: {problem}")

    def _conflict(self, problem: str) -> ConflictError:
        return ConflictError(f"{self._name}: {problem}")

    def _require_unchanged(self, path: str, now: bytes | None) -> None:
        """Raise `ConflictError` if a file is no longer what `read` returned last."""
        if self._last_read.get(path, now) != now:
            raise self._changed_meanwhile(path)

    def _changed_meanwhile(self, path: str) -> ConflictError:
        return self._conflict(
            f"{path}: somebody changed it meanwhile; run again and look at the plan"
        )


def checked_path(path: str) -> str:
    """Return a path of a release. Raises `DestinationError` if it may lead out of one."""
    if not all(_NAME.fullmatch(name) for name in path.split("/")):
        raise DestinationError(
            f"{path!r}: no path within a release; correct what names it, the release's own files"
            " or models.yaml"
        )
    return path


def version_file(path: str) -> tuple[str, str] | None:
    """Return the handle and the name of a version's file; none if the path is that of no such."""
    match = _FILE.fullmatch(path)
    return (match[1], match[2]) if match else None


def failure_message(where: str, error: HttpError, who: str, remedies: Mapping[int, str]) -> str:
    """Return the message of a failed request: where, what `who` answered, and what to do."""
    return f"{where}: {error.said(who)}; {advice(error, remedies)}"


def service_address(name: str, variable: str, text: str, remedy: str) -> str:
    """Return the address of a service without a slash at its end.

    Raises `DestinationError` if a secret may not go there.
    """
    if not is_service_address(text):
        raise DestinationError(f"{name}: {variable} is no address of a service; {remedy}")
    return text.rstrip("/")


def token_of(name: str, variable: str, text: str, remedy: str) -> str:
    """Return a token without white space around it.

    Raises `DestinationError` for odd characters, which client libraries refuse, showing all.
    """
    token = text.strip()
    if not re.fullmatch(r"[!-~]*", token):
        raise DestinationError(
            f"{name}: the token in {variable} has characters that no token has; {remedy}"
        )
    return token

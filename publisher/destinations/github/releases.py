"""The releases of a GitHub repository: what can be asked and done, request by request.

It knows nothing of versions. All of it is called within a step of `Api.during`, and can be
done again from its beginning.

Sources: GitHub REST API documentation, "REST API endpoints for releases", "... for release
assets", "... for Git tags", "... for Git references".
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, RootModel

from publisher.destinations.base import ConflictError, DestinationError
from publisher.destinations.github.api import Answer, Api
from publisher.util.files import sha256, sha256_file
from publisher.util.http import TransientError

MAX_SMALL_FILE = 1 << 24  # bytes of an asset that is read back
PER_PAGE, MOST_PAGES = 100, 100  # releases a request, and requests: GitHub lists 10,000
NO_COMMIT = "0" * 40

_KINDS = {".gz": "application/gzip", ".json": "application/json"}
_SHA = "[0-9a-f]{40,64}"


class _Answered(BaseModel):
    model_config = ConfigDict(strict=True)


class Asset(_Answered):
    """A file of a release. Without the state `uploaded` it did not arrive."""

    id: int
    name: str
    state: str
    size: int
    digest: str | None = None


class Release(_Answered):
    """A release or a draft of one."""

    id: int
    tag_name: str
    name: str | None = None
    body: str | None = None
    draft: bool
    immutable: bool = False
    upload_url: str
    assets: list[Asset]

    def asset(self, name: str) -> Asset | None:
        """Return the asset of that name that arrived, if there is one."""
        return next((a for a in self.assets if (a.name, a.state) == (name, "uploaded")), None)


class Repository(_Answered):
    """What is said of the repository, and of what the token's owner may do there."""

    archived: bool
    permissions: dict[str, bool] = {}


class _Releases(RootModel[list[Release]]):
    pass


class _Assets(RootModel[list[Asset]]):
    pass


class _Object(_Answered):
    sha: Annotated[str, Field(pattern=f"^{_SHA}$")]
    type: str = ""


class _Ref(_Answered):
    object: _Object


class _Tag(_Answered):
    message: str


@dataclass(frozen=True)
class Part:
    """A file as it should be there, with its size in bytes and its SHA-256."""

    source: Path | bytes
    size: int
    sha256: str

    def matches(self, asset: Asset) -> bool:
        """Whether an asset arrived as this; one without a digest is told by its size."""
        return (
            asset.state == "uploaded"
            and asset.size == self.size
            and asset.digest in (None, f"sha256:{self.sha256}")
        )


def size_of(source: Path | bytes) -> int:
    """Return the bytes of a file. Raises `DestinationError` if it cannot be looked at."""
    with _readable(source):
        return len(source) if isinstance(source, bytes) else source.stat().st_size


def part_of(source: Path | bytes) -> Part:
    """Return a file as it should arrive. Raises `DestinationError` if it cannot be read."""
    with _readable(source):
        digest = sha256(source) if isinstance(source, bytes) else sha256_file(source)
    return Part(source, size_of(source), digest)


@contextmanager
def _readable(source: Path | bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DestinationError(
            f"{source!s}: cannot be read ({error.strerror}); build it again"
        ) from error


class Releases:
    """The releases of the repository `owner/name`."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._root = f"/repos/{repository}"
        # The content of an asset never changes; another content is another asset.
        self._contents: dict[int, bytes] = {}

    def repository(self) -> tuple[Repository, str | None]:
        """Return what is said of the repository, and the scopes of a classic token."""
        answer = self._api.ask("GET", self._root)
        return self._api.parsed(Repository, answer), answer.headers.get("X-OAuth-Scopes")

    def refusal_to_write(self) -> str:
        """Say why the token may not write, if it may not.

        What a token may do is told nowhere. So this asks for a tag on a commit that cannot be,
        which is refused as wrong (422) only where it would not be refused anyway.
        """
        asked = {"ref": "refs/tags/publisher-may-write", "sha": NO_COMMIT}
        path = f"{self._root}/git/refs"
        answer = self._api.ask("POST", path, json=asked, expected=(422,), allowed=(403, 404))
        return "" if answer.status == 422 else f"{answer.status} {answer.reason}".strip()

    def head(self) -> str:
        """Return the newest commit of the default branch."""
        kind = "application/vnd.github.sha"
        answer = self._api.ask(
            "GET", f"{self._root}/commits/HEAD", accept=kind, allowed=(404, 409, 422)
        )
        sha = answer.content.decode("ascii", "replace").strip()
        if answer.status != 200 or not re.fullmatch(_SHA, sha):
            raise self._api.error(
                "the repository has no commit, and a release needs one for its tag; push one first"
            )
        return sha

    def all(self) -> Iterator[Release]:
        """Yield all releases; drafts too, for a token that may push."""
        for number in range(1, MOST_PAGES + 1):
            answer = self._api.ask(
                "GET", f"{self._root}/releases?per_page={PER_PAGE}&page={number}"
            )
            yield from self._api.parsed(_Releases, answer).root
            if 'rel="next"' not in answer.headers.get("Link", ""):
                return
        raise self._api.error(
            "the repository has more releases than GitHub lists; choose another repository"
        )

    def published(self, tag: str) -> Release | None:
        """Return the published release with that tag."""
        answer = self._api.ask("GET", f"{self._root}/releases/tags/{quote(tag)}", allowed=(404,))
        if answer.status == 404:
            return None
        release = self._api.parsed(Release, answer)
        return None if release.draft else release

    def release(self, number: int) -> Release | None:
        """Return a release or draft, if it is still there."""
        answer = self._api.ask("GET", f"{self._root}/releases/{number}", allowed=(404,))
        return None if answer.status == 404 else self._api.parsed(Release, answer)

    def create_draft(self, tag: str, title: str, text: str) -> Release:
        """Make a draft. There may be others of the same tag."""
        fields = {"tag_name": tag, "name": title, "body": text, "draft": True}
        answer = self._api.ask("POST", f"{self._root}/releases", json=fields, expected=(201,))
        return self._api.parsed(Release, answer)

    def edit(self, release: Release, **fields: Any) -> Answer:
        """Change a release. 404 and 422 are for the caller to judge."""
        # Of many models none is the latest.
        fields["make_latest"] = "false"
        path = f"{self._root}/releases/{release.id}"
        return self._api.ask("PATCH", path, json=fields, allowed=(404, 422))

    def delete_draft(self, draft: Release) -> None:
        """Delete a draft with its assets, if it is still there and still a draft."""
        now = self.release(draft.id)
        if now is not None and now.draft:
            self._api.ask("DELETE", f"{self._root}/releases/{draft.id}", expected=(204, 404))

    def assets(self, release: Release) -> list[Asset]:
        """Return all assets of a release, those that did not arrive too."""
        path = f"{self._root}/releases/{release.id}/assets?per_page={PER_PAGE}"
        answer = self._api.ask("GET", path, allowed=(404,))
        if answer.status == 404:
            raise self._removed()
        return self._api.parsed(_Assets, answer).root

    def arrived(self, assets: list[Asset], name: str, part: Part) -> Asset | None:
        """Return the asset of that name that arrived as the part.

        A small one of which no digest is told is read.
        """
        for asset in assets:
            if asset.name == name and part.matches(asset):
                small = asset.digest is None and isinstance(part.source, bytes)
                if not small or self.content(asset) == part.source:
                    return asset
        return None

    def content(self, asset: Asset) -> bytes:
        """Return a small asset's content."""
        if asset.id not in self._contents:
            content = self._api.fetch(f"{self._root}/releases/assets/{asset.id}", MAX_SMALL_FILE)
            if not part_of(content).matches(asset):
                raise TransientError(0, "other bytes came than GitHub says that it holds")
            self._contents[asset.id] = content
        return self._contents[asset.id]

    def put(self, release: Release, name: str, part: Part) -> Asset:
        """Send an asset, unless it is there; what is there and wrong is deleted before."""
        there = self.assets(release)
        found = self.arrived(there, name, part)
        if found is not None:
            return found
        for asset in there:
            if asset.name == name:
                self.delete_asset(asset)
        address = self._api.upload_address(release.upload_url)
        kind = _KINDS.get(Path(name).suffix, "application/octet-stream")
        answer = self._api.send(address, name, part.source, kind)
        if answer.status == 404:
            raise self._removed()
        if answer.status == 422 and "already_exists" in answer.reason:
            raise TransientError(0, "another publisher sends it at the same time")
        self.require_success(answer)
        asset = self._api.parsed(Asset, answer)
        if asset.name != name or not part.matches(asset):
            raise self._api.error(
                f"{part.size:,} bytes were sent, and GitHub holds other ones ({asset.size:,} bytes,"
                f" {asset.state}); run again"
            )
        return asset

    def delete_asset(self, asset: Asset) -> None:
        """Delete an asset, if it is still there."""
        path = f"{self._root}/releases/assets/{asset.id}"
        self.require_success(self._api.ask("DELETE", path, expected=(204, 404), allowed=(422,)))

    def rename_asset(self, asset: Asset, name: str) -> None:
        """Give an asset a name that no other has."""
        path = f"{self._root}/releases/assets/{asset.id}"
        self.require_success(self._api.ask("PATCH", path, json={"name": name}, allowed=(422,)))

    def tag_message(self, tag: str) -> str | None:
        """Return a tag's message, empty if it can have none; none if there is no such tag."""
        answer = self._api.ask("GET", f"{self._root}/git/ref/tags/{quote(tag)}", allowed=(404,))
        if answer.status == 404:
            return None
        ref = self._api.parsed(_Ref, answer).object
        if ref.type != "tag":
            return ""
        answer = self._api.ask("GET", f"{self._root}/git/tags/{ref.sha}")
        return self._api.parsed(_Tag, answer).message

    def make_tag(self, tag: str, message: str) -> Answer:
        """Tag the newest commit. Of two who do so at once one is answered 422."""
        fields = {"tag": tag, "message": message, "object": self.head(), "type": "commit"}
        answer = self._api.ask("POST", f"{self._root}/git/tags", json=fields, expected=(201,))
        made = self._api.parsed(_Object, answer)
        fields = {"ref": f"refs/tags/{tag}", "sha": made.sha}
        return self._api.ask(
            "POST", f"{self._root}/git/refs", json=fields, expected=(201,), allowed=(422,)
        )

    def require_success(self, answer: Answer) -> None:
        """Raise `DestinationError` for an answer that was left to be judged."""
        if answer.status in (404, 422):
            raise self._api.error(
                f"GitHub answered {answer.status} ({answer.reason}); see to the repository's rules"
                " and settings, and run again"
            )

    def _removed(self) -> ConflictError:
        return self._api.conflict(
            "the release was removed meanwhile; see who else publishes there, and run again"
        )

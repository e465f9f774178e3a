"""Requests about the releases, assets and tags of a GitHub repository.

This module knows nothing of versions. Call it within a step of `Api.during`; every function
can be repeated.

Sources: GitHub REST API documentation, "REST API endpoints for releases", "... for release
assets", "... for Git tags", "... for Git references".
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, RootModel

from publisher.destinations.base import ConflictError, Payload
from publisher.destinations.github.api import Answer, Api
from publisher.util.files import sha256
from publisher.util.http import TransientError

MAX_SMALL_FILE = 1 << 24  # bytes of an asset to read
PER_PAGE, MOST_PAGES = 100, 100  # GitHub lists at most 10,000 releases
NO_COMMIT = "0" * 40

_KINDS = {".gz": "application/gzip", ".json": "application/json"}
_SHA = "[0-9a-f]{40,64}"


class _Answered(BaseModel):
    model_config = ConfigDict(strict=True)


class Asset(_Answered):
    """A file of a release. Its upload is incomplete unless `state` is `uploaded`."""

    id: int
    name: str
    state: str
    size: int
    digest: str | None = None

    def matches(self, size: int, sha256: str) -> bool:
        """Return whether the asset arrived with this content, as far as GitHub reports it."""
        return (
            self.state == "uploaded"
            and self.size == size
            and self.digest in (None, f"sha256:{sha256}")
        )


class Release(_Answered):
    """A release or a draft."""

    id: int
    tag_name: str
    name: str | None = None
    body: str | None = None
    draft: bool
    immutable: bool = False
    upload_url: str
    assets: list[Asset]

    def asset(self, name: str) -> Asset | None:
        """Return the uploaded asset of that name, if there is one."""
        return next((a for a in self.assets if (a.name, a.state) == (name, "uploaded")), None)


class Repository(_Answered):
    """A repository, with the permissions of the token's owner."""

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


class Releases:
    """The releases of the repository `owner/name`."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._root = f"/repos/{repository}"
        # Contents by asset id; the content of an asset never changes.
        self._contents: dict[int, bytes] = {}

    def repository(self) -> tuple[Repository, str | None]:
        """Return the repository, and the scopes of a classic token."""
        answer = self._api.ask("GET", self._root)
        return self._api.parsed(Repository, answer), answer.headers.get("X-OAuth-Scopes")

    def refusal_to_write(self) -> str:
        """Return why the token may not write, or an empty text if it may.

        No request reports a token's permissions. This one tries to tag an impossible commit:
        GitHub answers 422 if the token may write, and 403 or 404 otherwise.
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
                "the repository has no commit for the tag of a release; push one first"
            )
        return sha

    def all(self) -> Iterator[Release]:
        """Yield all releases, including drafts if the token may push."""
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
        """Return the published release with that tag, if there is one."""
        answer = self._api.ask("GET", f"{self._root}/releases/tags/{quote(tag)}", allowed=(404,))
        if answer.status == 404:
            return None
        release = self._api.parsed(Release, answer)
        return None if release.draft else release

    def release(self, number: int) -> Release | None:
        """Return a release or draft, or `None` if it was deleted."""
        answer = self._api.ask("GET", f"{self._root}/releases/{number}", allowed=(404,))
        return None if answer.status == 404 else self._api.parsed(Release, answer)

    def create_draft(self, tag: str, title: str, text: str) -> Release:
        """Create a draft. Other drafts may have the same tag."""
        fields = {"tag_name": tag, "name": title, "body": text, "draft": True}
        answer = self._api.ask("POST", f"{self._root}/releases", json=fields, expected=(201,))
        return self._api.parsed(Release, answer)

    def edit(self, release: Release, **fields: Any) -> Answer:
        """Change a release. Return 404 and 422 instead of raising."""
        # A repository holds many models, so no release is the latest.
        fields["make_latest"] = "false"
        path = f"{self._root}/releases/{release.id}"
        return self._api.ask("PATCH", path, json=fields, allowed=(404, 422))

    def delete_draft(self, draft: Release) -> None:
        """Delete a draft with its assets, unless it is already deleted or published."""
        now = self.release(draft.id)
        if now is not None and now.draft:
            self._api.ask("DELETE", f"{self._root}/releases/{draft.id}", expected=(204, 404))

    def assets(self, release: Release) -> list[Asset]:
        """Return all assets of a release, including incomplete ones."""
        path = f"{self._root}/releases/{release.id}/assets?per_page={PER_PAGE}"
        answer = self._api.ask("GET", path, allowed=(404,))
        if answer.status == 404:
            raise self._removed()
        return self._api.parsed(_Assets, answer).root

    def arrived(self, assets: list[Asset], name: str, payload: Payload) -> Asset | None:
        """Return the asset of that name with this payload, if there is one.

        Read a small asset whose digest GitHub does not report.
        """
        for asset in assets:
            if asset.name == name and asset.matches(payload.size, payload.sha256):
                must_read = asset.digest is None and isinstance(payload.content, bytes)
                if not must_read or self.content(asset) == payload.content:
                    return asset
        return None

    def content(self, asset: Asset) -> bytes:
        """Return a small asset's content."""
        if asset.id not in self._contents:
            content = self._api.fetch(f"{self._root}/releases/assets/{asset.id}", MAX_SMALL_FILE)
            if not asset.matches(len(content), sha256(content)):
                raise TransientError(0, "the bytes received are not those that GitHub lists")
            self._contents[asset.id] = content
        return self._contents[asset.id]

    def put(self, release: Release, name: str, payload: Payload) -> Asset:
        """Upload an asset unless it is there. Delete a wrong one of that name first."""
        there = self.assets(release)
        found = self.arrived(there, name, payload)
        if found is not None:
            return found
        for asset in there:
            if asset.name == name:
                self.delete_asset(asset)
        address = self._api.upload_address(release.upload_url)
        kind = _KINDS.get(Path(name).suffix, "application/octet-stream")
        answer = self._api.send(address, name, payload.content, kind)
        if answer.status == 404:
            raise self._removed()
        if answer.status == 422 and "already_exists" in answer.reason:
            raise TransientError(0, "another publisher is uploading it at the same time")
        self.require_success(answer)
        asset = self._api.parsed(Asset, answer)
        if asset.name != name or not asset.matches(payload.size, payload.sha256):
            raise self._api.error(
                f"{payload.size:,} bytes were sent, but GitHub holds {asset.size:,} other bytes"
                f" ({asset.state}); run again"
            )
        return asset

    def delete_asset(self, asset: Asset) -> None:
        """Delete an asset unless it is already deleted."""
        path = f"{self._root}/releases/assets/{asset.id}"
        self.require_success(self._api.ask("DELETE", path, expected=(204, 404), allowed=(422,)))

    def rename_asset(self, asset: Asset, name: str) -> None:
        """Give an asset a name that no other asset has."""
        path = f"{self._root}/releases/assets/{asset.id}"
        self.require_success(self._api.ask("PATCH", path, json={"name": name}, allowed=(422,)))

    def tag_message(self, tag: str) -> str | None:
        """Return a tag's message, empty for a lightweight tag, or `None` if there is no tag."""
        answer = self._api.ask("GET", f"{self._root}/git/ref/tags/{quote(tag)}", allowed=(404,))
        if answer.status == 404:
            return None
        ref = self._api.parsed(_Ref, answer).object
        if ref.type != "tag":
            return ""
        answer = self._api.ask("GET", f"{self._root}/git/tags/{ref.sha}")
        return self._api.parsed(_Tag, answer).message

    def make_tag(self, tag: str, message: str) -> Answer:
        """Tag the newest commit. GitHub answers 422 if the tag exists."""
        fields = {"tag": tag, "message": message, "object": self.head(), "type": "commit"}
        answer = self._api.ask("POST", f"{self._root}/git/tags", json=fields, expected=(201,))
        made = self._api.parsed(_Object, answer)
        fields = {"ref": f"refs/tags/{tag}", "sha": made.sha}
        return self._api.ask(
            "POST", f"{self._root}/git/refs", json=fields, expected=(201,), allowed=(422,)
        )

    def require_success(self, answer: Answer) -> None:
        """Raise `DestinationError` for a returned 404 or 422."""
        if answer.status in (404, 422):
            raise self._api.error(
                f"GitHub answered {answer.status} ({answer.reason}); check the repository's rules"
                " and settings, and run again"
            )

    def _removed(self) -> ConflictError:
        return self._api.conflict(
            "the release was deleted meanwhile; check who else publishes there, and run again"
        )

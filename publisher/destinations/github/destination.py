"""Versions as the releases of a GitHub repository.

Each version is one release. Its tag comes from `pages.github.tag_of`, its title is the
handle, its text the page, and the other files are assets. It starts as a draft, visible only
to those who may push, and the last step publishes it, so that it appears at once.

An interrupted run leaves a draft whose text lists the digests of its files. Only a run with
the same files resumes it.

The tag is the lock between concurrent publishers. GitHub allows several drafts with one tag
but creates a tag only once. The tag is created before the draft is published, and its message
lists the digests: a publisher that finds other digests was too late. Two publishers of the
same bytes both succeed, and the later page remains.

GitHub has no precondition for changing pages and small files. They are compared right before
they are replaced.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from publisher.destinations.base import (
    ConflictError,
    DestinationError,
    NamedDestination,
    Payload,
    Style,
    payload_of,
    version_file,
)
from publisher.destinations.github.api import PERMISSION, Api
from publisher.destinations.github.releases import (
    MAX_SMALL_FILE,
    Asset,
    Release,
    Releases,
)
from publisher.documents.errors import DocumentError
from publisher.documents.manifest import MANIFEST, PAGE, Manifest, read_manifest
from publisher.pages.github import LONGEST, tag_of
from publisher.registry.models import Target
from publisher.util.http import DEFAULT_RETRY, Retry, TransientError

LARGEST_ASSET = 1 << 31  # bytes; GitHub accepts files below 2 GiB
NEXT_SUFFIX = ".new"  # ends the name of an asset that will replace another
UNFINISHED = "This release is not finished. Publish again and it will be; or delete this draft."


@dataclass(frozen=True)
class _Version:
    """A version to publish: its page, and the other files by name."""

    handle: str
    tag: str
    page: str
    payloads: Mapping[str, Payload]

    @property
    def tag_message(self) -> str:
        """The message of its tag."""
        sums = "".join(f"{payload.sha256}  {name}\n" for name, payload in self.payloads.items())
        return f"{self.handle}\n\n{sums}"

    @property
    def draft_text(self) -> str:
        return f"{UNFINISHED}\n\n{self.tag_message}"

    def is_draft(self, draft: Release) -> bool:
        """Return whether a draft is for exactly these files."""
        return _normalized(draft.body) == _normalized(self.draft_text)


class GitHub(NamedDestination):
    """The releases of one repository. Releases of other projects stay untouched."""

    style: Style = "github"

    def __init__(
        self,
        name: str,
        target: Target,
        environment: Mapping[str, str],
        folder: Path,
        *,
        retry: Retry = DEFAULT_RETRY,
    ) -> None:
        """Read GITHUB_TOKEN or GH_TOKEN, and GITHUB_API_URL. `folder` is unused.

        Raises `DestinationError` if one of them is invalid.
        """
        super().__init__(name, target)
        self._api = Api(name, environment, retry)
        self._releases = Releases(self._api, target.to)
        self._sealed = False

    @property
    def seals_versions(self) -> bool:
        """Whether `manifests` last found an immutable release."""
        return self._sealed

    def check(self) -> None:
        """Verify that the token may create releases in the repository."""
        if not self._api.has_token:
            raise self._error(
                "no token for GitHub; set GITHUB_TOKEN or GH_TOKEN (GitHub's own client prints"
                f" one: gh auth token) and {PERMISSION}"
            )
        self._api.during(
            f"looking whether {self._target.to} can be written", self._check_write_access
        )

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every version, by handle; see `Destination`.

        Raises `DestinationError` if a version's release lacks its manifest, or the archive
        that the manifest states.
        """
        found = {}
        self._sealed = False
        for release in self._api.during("listing releases", lambda: list(self._releases.all())):
            reading = f"reading {MANIFEST} of {release.tag_name}"
            manifest = None
            if not release.draft:
                manifest = self._api.during(reading, partial(self._manifest, release))
            if manifest:
                found[manifest.handle] = manifest
                self._sealed |= release.immutable
        return dict(sorted(found.items()))

    def read(self, path: str) -> bytes | None:
        """Return a small file of a version, or `None` if it does not exist."""
        file = version_file(path)
        if file is None:
            return None
        handle, name = file

        def step() -> bytes | None:
            release = self._releases.published(tag_of(self._target, handle))
            return self._content(release, name)

        self._last_read[path] = self._api.during(f"reading {name} of {handle}", step)
        return self._last_read[path]

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Create a draft, upload its assets, create the tag, and publish the draft.

        Raises `DestinationError` for a file that is too large before anything is sent.
        """
        version = self._version(handle, files)
        what = f"publishing {handle}"
        self._api.during(what, lambda: self._require_new(version))
        draft = self._api.during(what, lambda: self._draft(version))
        for name, payload in version.payloads.items():
            sending = f"sending {name} of {handle}"
            self._api.during(sending, partial(self._releases.put, draft, name, payload))
        try:
            self._api.during(what, lambda: self._create_tag(version))
            self._api.during(what, lambda: self._publish(draft, version))
        except ConflictError:
            # Nobody will publish this draft. If it cannot be deleted now, it does no harm.
            with suppress(DestinationError):
                self._api.during(what, lambda: self._releases.delete_draft(draft))
            raise
        self._api.during(what, lambda: self._verify_published(draft, version))

    def write(self, path: str, content: bytes) -> None:
        """Replace a small file of a version unless it has this content.

        One request replaces a page. Another file is uploaded as an asset with a temporary
        name, the old asset is deleted, and the new one renamed; between these two steps no
        asset has the name. The same call repairs an interruption there, and `manifests`
        finds the manifest under both names.
        """
        file = version_file(path)
        if file is None:
            raise self._error(f"{path}: GitHub releases hold only versions; leave it out")
        handle, name = file
        text = self._text(handle, content) if name == PAGE else ""
        what = f"writing {name} of {handle}"
        release = self._api.during(
            what, lambda: self._release_to_change(path, handle, name, content)
        )
        if release is None:
            return
        if name == PAGE:
            self._api.during(
                what,
                lambda: self._releases.require_success(self._releases.edit(release, body=text)),
            )
        else:
            self._api.during(what, lambda: self._replace(release, name, payload_of(content)))
        if self.read(path) != content:
            raise self._error(f"GitHub accepted {path} but does not return it; run again")

    def _check_write_access(self) -> None:
        """Raise `DestinationError` if the token cannot create releases in the repository."""
        repository, scopes = self._releases.repository()
        if repository.archived:
            raise self._api.error("it is archived; unarchive it, or choose another repository")
        # The permissions are those of the token's owner, and meaningful only for a classic
        # token, which has scopes. For an app's token GitHub always reports none.
        if scopes is not None and not repository.permissions.get("push", False):
            raise self._api.error("the token's owner may not push there; ask for write access")
        self._releases.head()
        refusal = self._releases.refusal_to_write()
        if refusal:
            shown = "" if scopes is None else f"; its scopes are {ascii(scopes)[:200]}"
            raise self._api.error(f"the token may not ({refusal}{shown}); {PERMISSION}")

    # Current state

    def _manifest(self, release: Release) -> Manifest | None:
        """Return the manifest of a published release, or `None` if it is not a version."""
        title = release.name or ""
        ours = title.count("/") == 2 and tag_of(self._target, title) == release.tag_name
        asset = release.asset(MANIFEST) or release.asset(f"{MANIFEST}{NEXT_SUFFIX}")
        try:
            if asset is None or asset.size > MAX_SMALL_FILE:
                raise DocumentError(f"it has no {MANIFEST}")
            manifest = read_manifest(self._releases.content(asset))
        except DocumentError as error:
            if ours:
                raise self._damaged(release, str(error)) from error
            return None
        if tag_of(self._target, manifest.handle) != release.tag_name:
            return None
        stated = manifest.archive
        archive = release.asset(stated.file)
        if archive is None:
            raise self._damaged(release, "the archive is missing")
        if not archive.matches(stated.size, stated.sha256):
            raise self._damaged(release, "the archive is not the one that its manifest states")
        return manifest

    def _damaged(self, release: Release, why: str) -> DestinationError:
        return self._error(
            f"the release {release.tag_name} is damaged: {why}; upload the file again, or delete"
            " the release and its tag and publish again"
        )

    def _content(self, release: Release | None, name: str) -> bytes | None:
        """Return a small file of a release, or `None` if it does not exist."""
        if release is None:
            return None
        if name == PAGE:
            return _normalized(release.body).encode()
        asset = release.asset(name)
        return None if asset is None else self._releases.content(asset)

    # A new version, in steps that can be repeated

    def _version(self, handle: str, files: Mapping[str, Path | bytes]) -> _Version:
        for name, source in files.items():
            # Before the file is hashed, which takes a while.
            size = source.stat().st_size if isinstance(source, Path) and source.is_file() else 0
            if size >= LARGEST_ASSET:
                raise self._error(
                    f"{handle}: {name} has {size:,} bytes, and GitHub's limit is"
                    f" {LARGEST_ASSET - 1:,}; exclude the model with `only` in models.yaml"
                )
        payloads = {name: payload_of(source) for name, source in files.items() if name != PAGE}
        page = files[PAGE]
        content = page if isinstance(page, bytes) else page.read_bytes()
        return _Version(handle, tag_of(self._target, handle), self._text(handle, content), payloads)

    def _text(self, handle: str, content: bytes) -> str:
        """Return a page as text. Raises `DestinationError` if GitHub would change it."""
        text = content.decode(errors="replace")
        if _normalized(text).encode() != content or len(text) > LONGEST:
            raise self._error(
                f"{handle}: its page has {len(text):,} characters; GitHub accepts {LONGEST:,}, in"
                " UTF-8, with LF line ends and one at the end: correct the template"
            )
        return text

    def _require_new(self, version: _Version) -> None:
        if self._releases.published(version.tag):
            raise self._conflict(
                f"{version.handle} is already published there, as {version.tag}; raise the version"
            )
        self._is_tagged(version)

    def _is_tagged(self, version: _Version) -> bool:
        """Return whether the tag exists. Raises `ConflictError` if it is for other files."""
        message = self._releases.tag_message(version.tag)
        if message is not None and _normalized(message) != _normalized(version.tag_message):
            raise self._conflict(
                f"{version.handle}: the tag {version.tag} exists for other files; another"
                " publisher is at work or was interrupted: if nobody is publishing it, delete the"
                " tag and run again, otherwise raise the version"
            )
        return message is not None

    def _drafts(self, version: _Version) -> list[Release]:
        """Return the drafts of a version, the oldest first."""
        drafts = [
            release
            for release in self._releases.all()
            if release.draft
            and release.tag_name == version.tag
            and _normalized(release.body).startswith(UNFINISHED)
        ]
        return sorted(drafts, key=lambda draft: draft.id)

    def _draft(self, version: _Version) -> Release:
        """Return the draft for exactly these files; create it if there is none."""
        for draft in self._drafts(version):
            if version.is_draft(draft):
                return draft
        return self._releases.create_draft(version.tag, version.handle, version.draft_text)

    def _create_tag(self, version: _Version) -> None:
        """Create the version's tag. Raises `ConflictError` if it is another publisher's."""
        if not self._is_tagged(version):
            answer = self._releases.make_tag(version.tag, version.tag_message)
            if answer.status == 422 and not self._is_tagged(version):
                self._releases.require_success(answer)

    def _publish(self, draft: Release, version: _Version) -> None:
        """Publish the draft once all its assets are verified."""
        now = self._releases.release(draft.id)
        if now is None:
            raise self._too_late(version)
        self._verify_assets(self._releases.assets(draft), version)
        if not now.draft:
            if _normalized(now.body) != version.page:
                raise self._too_late(version)
            return  # an earlier attempt succeeded, and its response was lost
        for other in self._drafts(version):
            if not version.is_draft(other):
                # Its files are not those of the tag, so it cannot be published.
                self._releases.delete_draft(other)
        answer = self._releases.edit(
            draft, tag_name=version.tag, name=version.handle, body=version.page, draft=False
        )
        if answer.status == 404 or "already_exists" in answer.reason:
            raise self._too_late(version)
        self._releases.require_success(answer)

    def _verify_published(self, draft: Release, version: _Version) -> None:
        """Verify that the public release is what was sent; delete leftover drafts."""
        release = self._releases.published(version.tag)
        if release is None:
            raise TransientError(0, "GitHub accepted the release but does not show it")
        if release.id != draft.id:
            raise self._too_late(version)
        self._verify_assets(release.assets, version)
        if _normalized(release.body) != version.page:
            raise self._api.error("GitHub does not show the page that was sent; run again")
        for other in self._drafts(version):
            self._releases.delete_draft(other)

    def _verify_assets(self, assets: list[Asset], version: _Version) -> None:
        for name, payload in version.payloads.items():
            if not any(
                asset.name == name and asset.matches(payload.size, payload.sha256)
                for asset in assets
            ):
                raise self._api.error(f"GitHub does not hold {name} as it was sent; run again")

    def _too_late(self, version: _Version) -> ConflictError:
        return self._conflict(
            f"{version.handle}: another publisher was faster; run again, and if the builds differ"
            " raise the version"
        )

    # Changes of a version

    def _release_to_change(
        self, path: str, handle: str, name: str, content: bytes
    ) -> Release | None:
        """Return the release whose file is to be replaced; none if it has that content.

        Raises `ConflictError` if the file is no longer what was read.
        """
        release = self._releases.published(tag_of(self._target, handle))
        if release is None:
            raise self._api.error("this version does not exist; publish it first")
        now = self._content(release, name)
        if now == content:
            return None
        self._require_unchanged(path, now)
        return release

    def _replace(self, release: Release, name: str, payload: Payload) -> None:
        if release.immutable:
            raise self._api.error("the release is immutable except for its page; raise the version")
        there = self._releases.assets(release)
        if self._releases.arrived(there, name, payload):
            return
        old = [asset for asset in there if asset.name == name]
        if not old and all(asset.name != f"{name}{NEXT_SUFFIX}" for asset in there):
            self._releases.put(release, name, payload)
            return
        new = self._releases.put(release, f"{name}{NEXT_SUFFIX}", payload)
        for asset in old:
            self._releases.delete_asset(asset)
        self._releases.rename_asset(new, name)


def _normalized(text: str | None) -> str:
    """Return a text with LF line ends and one at the end; GitHub may return CRLF."""
    return (text or "").replace("\r\n", "\n").rstrip("\n") + "\n"

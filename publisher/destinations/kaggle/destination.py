"""Kaggle Models: a variation for each of our models, a version there for each version.

Kaggle numbers versions itself, never changes one, and tells the notes of a variation's
newest version only, of its first none at all. So every version holds its manifest.json,
which says what it is; the notes repeat it for people, and must not contradict it. The card
of a variation, and that of the model, are JSON texts (`publisher/pages/kaggle.py`).
"""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from publisher.destinations.base import (
    ConflictError,
    DestinationError,
    NamedDestination,
    Style,
    version_file,
)
from publisher.destinations.kaggle.cards import card_of, model_card, variation_card
from publisher.destinations.kaggle.client import DEFAULT_RETRY, Connection, KaggleRetry
from publisher.destinations.kaggle.service import Service
from publisher.destinations.kaggle.uploads import (
    VersionUpload,
    VersionUploads,
    file_uploads,
    send,
    temporary_folder,
    unpack,
    upload_tree,
)
from publisher.destinations.kaggle.versions import Version, Versions, notes_of
from publisher.documents.manifest import ARCHIVE, MANIFEST, PAGE, Manifest, read_manifest
from publisher.pages.kaggle import MODEL_CARD, MODEL_FIELDS, VARIATION_FIELDS, variation_of
from publisher.registry.models import Target
from publisher.util.files import sha256


class Kaggle(NamedDestination):
    """One model at Kaggle.

    Every method raises `DestinationError` where Kaggle cannot be reached or says no.
    """

    style: Style = "kaggle"
    shares_page = True
    seals_versions = True

    def __init__(
        self,
        name: str,
        target: Target,
        environment: Mapping[str, str],
        folder: Path,
        retry: KaggleRetry = DEFAULT_RETRY,
    ) -> None:
        super().__init__(name, target)
        self._retry = retry
        self._folder = folder
        self._connection = Connection(name, environment, retry)
        self._service = Service(self._connection, target.to)
        self._uploads = VersionUploads(folder)
        self._versions = Versions(self._service, target, self._uploads)

    def check(self) -> None:
        """See whose credentials there are, and whether the model is theirs as far as that shows.

        Kaggle does not tell the organizations of a user: a model of another owner has to be
        there already. It does not tell who may edit either.
        """
        user, owner = self._service.user(), self._service.owner
        model = self._service.get_model()
        if model is None and user.lower() != owner.lower():
            raise self._error(
                f"{user} sees no model {self._target.to} at Kaggle; correct `to` in"
                f" models.yaml, or if {owner} is an organization of {user}, make an empty private"
                " model of that name there first"
            )
        if model is not None:
            self._require_not_hidden(bool(model.is_private))

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every version that is whole, by handle.

        Its files must be those of a SavedModel with as many bytes as the manifest states;
        Kaggle tells no digests of them. What this machine was about to send, and never saw
        arrive, is also held to the checksums that the storage tells.
        """
        found: dict[str, Manifest] = {}
        for variation in self._service.variations():
            for version in self._versions.of(variation.slug, variation):
                if not version.defect and version.handle not in found:
                    found[version.handle] = version.manifest
                    self._uploads.remove(version.handle)
        return found

    def read(self, path: str) -> bytes | None:
        """Return a card, made from what Kaggle shows, or a small file of a version.

        None if there is none.
        """
        self._last_read[path] = self._read(path)
        return self._last_read[path]

    def write(self, path: str, content: bytes) -> None:
        """Replace a card; the same content is left as it is.

        Raises `ConflictError` if it is no longer what `read` returned last. Kaggle has no
        means against a change in the moment between. Nothing of a version can be replaced.
        """
        now = self._read(path)
        if now == content:
            return
        self._require_unchanged(path, now)
        if path != MODEL_CARD and not path.endswith(f"/{PAGE}"):
            raise self._error(
                f"{path} is part of a version, which never changes at Kaggle, and it"
                " would be another now; raise the version in models.yaml"
            )
        if now is None:
            raise self._error(f"{path} would describe what is not there; publish a version first")
        if path == MODEL_CARD:
            card = card_of(self._name, path, content, MODEL_FIELDS)
            self._require_not_hidden(json.loads(now)["isPrivate"], card["isPrivate"])
            self._service.update_model(card)
        else:
            self._service.update_variation(card_of(self._name, path, content, VARIATION_FIELDS))
        after = self.read(path)
        if after != content:
            shown = json.loads(after or b"{}")
            others = [k for k, v in json.loads(content).items() if shown.get(k) != v]
            raise self._error(
                f"took {path} without an error and shows it otherwise"
                f" ({', '.join(others)}); look at it there, and run again"
            )

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Upload the files of an archive, with the small ones beside them, as a new version.

        All bytes are there before Kaggle is asked to make the version. Raises
        `ConflictError` if the version is there, or another was made under the same handle
        meanwhile, which Kaggle cannot prevent.
        """
        archive = files[ARCHIVE]
        small = {name: file for name, file in files.items() if isinstance(file, bytes)}
        if not isinstance(archive, Path) or len(small) != len(files) - 1:
            raise TypeError(f"{ARCHIVE} is given as a path, and all else as bytes")
        page, content = small.pop(PAGE), small[MANIFEST]
        manifest = read_manifest(content)
        slug = variation_of(self._target, handle)
        path = f"models/{handle}/{PAGE}"
        card = card_of(self._name, path, page, VARIATION_FIELDS)
        upload = self._uploads.of(handle, sha256(content))
        asked = upload.asked if upload else None
        if asked is None or not self._wait_until_listed(slug, handle, content, asked):
            # What was uploaded for a version that never appeared may be used up.
            if upload is None or asked is not None:
                upload = VersionUpload(key=sha256(content), began=time.time())
            self._require_unpublished(slug, handle)
            with temporary_folder(self._folder) as place:
                unpack(archive, manifest.archive.unpacked_size, place)
                for name, file in small.items():
                    (place / name).write_bytes(file)
                self._upload(handle, place, upload)
            self._create(handle, slug, card, manifest, upload)
            if not self._wait_until_listed(slug, handle, content):
                raise self._error(
                    f"took {handle} without an error and shows no such version after"
                    f" {self._retry.processing:,.0f} s; look at {slug} there, and run again"
                )
        self._uploads.remove(handle)
        self._last_read.pop(path, None)
        self.write(path, page)

    def _upload(self, handle: str, place: Path, upload: VersionUpload) -> None:
        """Send all files below `place`, and the model's own entry if there is none."""
        if self._service.get_model() is None:
            self._service.create_model()
            self._last_read.pop(MODEL_CARD, None)
        upload.files = file_uploads(place, upload.files)
        for name, part in upload.files.items():
            what = f"{handle}: {name}"
            start = partial(self._service.start_upload, what, name.rpartition("/")[2], part.size)
            keep = partial(self._uploads.put, handle, upload)
            send(self._connection, what, place / name, part, start, keep)

    def _create(
        self,
        handle: str,
        slug: str,
        card: Mapping[str, Any],
        manifest: Manifest,
        upload: VersionUpload,
    ) -> None:
        """Ask for the version."""
        # Somebody may have been faster while the bytes were on their way.
        self._require_unpublished(slug, handle)
        known = any(one.slug == slug for one in self._service.variations())
        upload.asked = time.time()
        self._uploads.put(handle, upload)
        try:
            if known:
                notes = notes_of(manifest)
                self._service.create_version(handle, slug, notes, upload_tree(upload.files))
            else:
                self._service.create_variation(handle, card, upload_tree(upload.files))
        except DestinationError as error:
            status = getattr(error, "status", 0)
            if status in (400, 404):  # it may not know any longer what was uploaded
                self._uploads.remove(handle)
            elif status in range(400, 500) or isinstance(error, ConflictError):
                upload.asked = None
                self._uploads.put(handle, upload)
            raise

    def _wait_until_listed(
        self, slug: str, handle: str, content: bytes, asked: float | None = None
    ) -> bool:
        """Whether the version is listed and whole in time.

        `asked` is when an earlier run asked for it, in vain perhaps. Raises
        `DestinationError` if it is listed and stays incomplete, and `ConflictError` if it is
        there twice.
        """
        waits = self._retry
        end = time.monotonic() + waits.processing
        if asked is not None:
            left = waits.processing - (time.time() - asked)
            end = time.monotonic() + max(0.0, min(waits.settling, left))
        settled: float | None = None
        while True:
            versions = [v for v in self._versions.of(slug) if v.handle == handle]
            ours = [v for v in versions if v.content == content]
            if any(not version.defect for version in ours):
                self._require_one(slug, versions)
                return True
            now = time.monotonic()
            settled = (settled or now + waits.settling) if versions else None
            if settled and now >= settled:
                raise self._damaged(handle, slug, (ours or versions)[0])
            if now >= end and not versions:
                return False
            waits.sleep(waits.poll_interval)

    def _require_unpublished(self, slug: str, handle: str) -> None:
        """Raise an error if the version is there, or must not come behind what is there."""
        model, _, number = handle.rpartition("/")
        for version in self._versions.of(slug):
            other, _, there = version.handle.rpartition("/")
            if version.handle == handle and version.defect:
                raise self._damaged(handle, slug, version)
            if version.handle == handle:
                raise self._conflict(
                    f"{handle} is there already, as version {version.number} of"
                    f" {slug}; a published version never changes"
                )
            if other != model:
                raise self._error(
                    f"{slug} holds versions of {other}; give {model} another name"
                    " there with `names` in models.yaml"
                )
            if int(there) > int(number):
                raise self._error(
                    f"{version.handle} is there, and people get what was uploaded"
                    f" last; leave {handle} out with `only` in models.yaml"
                )

    def _require_one(self, slug: str, versions: Sequence[Version]) -> None:
        """Raise `ConflictError` if two publishers have made the same version."""
        if len(versions) > 1:
            numbers = [str(version.number) for version in versions]
            raise self._conflict(
                f"{versions[0].handle} was published twice at once, as the versions"
                f" {', '.join(numbers)} of {slug}; {numbers[0]} counts: remove the others at"
                " Kaggle, and run again"
            )

    def _read(self, path: str) -> bytes | None:
        if path == MODEL_CARD:
            return model_card(self._service)
        file = version_file(path)
        if file is None:
            return None
        handle, name = file
        slug = variation_of(self._target, handle)
        if name == PAGE:
            return variation_card(self._service, slug)
        for version in self._versions.of(slug):
            if version.handle == handle and not version.defect:
                if name == MANIFEST:
                    return version.content
                return self._service.content(slug, version.number, name)
        return None

    def _require_not_hidden(self, private_there: bool, private: bool | None = None) -> None:
        """Raise `DestinationError` rather than take a public model from its users."""
        wanted = self._target.visibility == "private" if private is None else private
        if wanted and not private_there:
            raise self._error(
                f"{self._target.to} is public at Kaggle and would become private; set"
                " `visibility: public` in models.yaml, or make it private there yourself"
            )

    def _damaged(self, handle: str, slug: str, version: Version) -> DestinationError:
        defect = version.defect or "it has another manifest than was sent"
        return self._error(
            f"version {version.number} of {slug} at Kaggle is to be {handle} and is"
            f" not: {defect}; remove that version there, and run again"
        )

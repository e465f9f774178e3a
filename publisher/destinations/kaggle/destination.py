"""Kaggle Models: a variation for each of our models, a Kaggle version for each version.

Kaggle numbers versions itself and never changes one. It reports the notes of a variation's
newest version only, and none for the first. The `manifest.json` in each version therefore
identifies it; the notes repeat it for people and must agree. The cards of the model and its
variations are JSON texts (`publisher/pages/kaggle.py`).
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
    """One model at Kaggle."""

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
        """Verify the credentials, and that their user can see or create the model.

        Kaggle reports neither a user's organizations nor who may edit a model. A model of
        another owner must therefore exist.
        """
        user, owner = self._service.user(), self._service.owner
        model = self._service.get_model()
        if model is None and user.lower() != owner.lower():
            raise self._error(
                f"{user} sees no model {self._target.to} at Kaggle; correct `to` in"
                f" models.yaml, or if {owner} is an organization of {user}, create an empty private"
                " model of that name there first"
            )
        if model is not None:
            self._require_not_hidden(bool(model.is_private))

    def manifests(self) -> dict[str, Manifest]:
        """Return the manifest of every complete version, by handle.

        Its files must be those of a SavedModel with the size that the manifest states; Kaggle
        reports no digests. If this machine has a record of the upload, the files must also
        have the checksums that the storage reports.
        """
        found: dict[str, Manifest] = {}
        for variation in self._service.variations():
            for version in self._versions.of(variation.slug, variation):
                if not version.defect and version.handle not in found:
                    found[version.handle] = version.manifest
                    self._uploads.remove(version.handle)
        return found

    def read(self, path: str) -> bytes | None:
        """Return a card, built from what Kaggle shows, or a small file of a version.

        Return `None` if it does not exist.
        """
        self._last_read[path] = self._read(path)
        return self._last_read[path]

    def write(self, path: str, content: bytes) -> None:
        """Replace a card unless it has this content. Other files of a version are immutable.

        Raises `ConflictError` if the card has changed since `read` last returned it. Kaggle
        has no precondition, so a change between check and write goes unnoticed.
        """
        now = self._read(path)
        if now == content:
            return
        self._require_unchanged(path, now)
        if path != MODEL_CARD and not path.endswith(f"/{PAGE}"):
            raise self._error(
                f"{path} differs, and Kaggle never changes the files of a version; raise the"
                " version in models.yaml"
            )
        if now is None:
            raise self._error(f"{path} describes a missing version; publish a version first")
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
                f"Kaggle accepted {path} but shows it otherwise ({', '.join(others)}); inspect it"
                " there, and run again"
            )

    def add_version(self, handle: str, files: Mapping[str, Path | bytes]) -> None:
        """Upload the files of an archive and the small files, then create the version of them.

        Raises `ConflictError` if the version exists, or if another publisher created it
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
            # The uploads for a version that never appeared may no longer be usable.
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
                    f"Kaggle accepted {handle} but shows no such version after"
                    f" {self._retry.processing:,.0f} s; inspect {slug} there, and run again"
                )
        self._uploads.remove(handle)
        self._last_read.pop(path, None)
        self.write(path, page)

    def _upload(self, handle: str, place: Path, upload: VersionUpload) -> None:
        """Upload all files below `place`; create the model if it does not exist."""
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
        """Request the version."""
        # Another publisher may have created it during the upload.
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
            if status in (400, 404):  # Kaggle may have dropped the uploads
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
        """Raise an error if the version exists, or if a later one does."""
        model, _, number = handle.rpartition("/")
        for version in self._versions.of(slug):
            other, _, there = version.handle.rpartition("/")
            if version.handle == handle and version.defect:
                raise self._damaged(handle, slug, version)
            if version.handle == handle:
                raise self._conflict(
                    f"{handle} exists already, as version {version.number} of"
                    f" {slug}; a published version never changes"
                )
            if other != model:
                raise self._error(
                    f"{slug} holds versions of {other}; give {model} another name"
                    " there with `names` in models.yaml"
                )
            if int(there) > int(number):
                raise self._error(
                    f"{version.handle} exists, and Kaggle serves the last upload to its users;"
                    f" exclude {handle} with `only` in models.yaml"
                )

    def _require_one(self, slug: str, versions: Sequence[Version]) -> None:
        """Raise `ConflictError` if two publishers created the same version."""
        if len(versions) > 1:
            numbers = [str(version.number) for version in versions]
            raise self._conflict(
                f"{versions[0].handle} was published twice at once, as the versions"
                f" {', '.join(numbers)} of {slug}; {numbers[0]} counts: delete the others at"
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
        """Raise `DestinationError` if a public model would become private."""
        wanted = self._target.visibility == "private" if private is None else private
        if wanted and not private_there:
            raise self._error(
                f"{self._target.to} is public at Kaggle and would become private; set"
                " `visibility: public` in models.yaml, or make the model private yourself"
            )

    def _damaged(self, handle: str, slug: str, version: Version) -> DestinationError:
        defect = version.defect or "its manifest is not the one that was sent"
        return self._error(
            f"version {version.number} of {slug} at Kaggle should be {handle} and is"
            f" not: {defect}; delete that version there, and run again"
        )

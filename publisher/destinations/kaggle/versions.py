"""Finds our versions at Kaggle and checks that they are complete."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from publisher.destinations.kaggle.client import LARGEST
from publisher.destinations.kaggle.service import Service
from publisher.destinations.kaggle.uploads import VersionUploads
from publisher.documents.errors import DocumentError
from publisher.documents.manifest import MANIFEST, Manifest, read_manifest
from publisher.pages.kaggle import variation_of
from publisher.registry.models import Target
from publisher.util.files import sha256
from publisher.validation.archive import REQUIRED

_NOTES = re.compile(r"handle=(\S+) sha256=([0-9a-f]{64})")


@dataclass(frozen=True)
class Version:
    """A Kaggle version with a manifest of ours; `defect` says why it is incomplete."""

    number: int
    manifest: Manifest
    content: bytes
    defect: str

    @property
    def handle(self) -> str:
        """Our handle of the version."""
        return self.manifest.handle


class Versions:
    """The versions of a model's variations. Methods raise the errors of `Service`."""

    def __init__(self, service: Service, target: Target, uploads: VersionUploads) -> None:
        self._service = service
        self._target = target
        self._uploads = uploads
        # Manifests by variation and number: a version never changes.
        self._contents: dict[tuple[str, int], bytes] = {}

    def of(self, slug: str, variation: Any = None) -> list[Version]:
        """Return the versions of a variation with a manifest of ours, the oldest first.

        With the `variation` (`ModelInstance`), also check the notes of its newest version.
        """
        found = []
        for number in self._service.versions(slug):
            files = self._service.files(slug, number)
            if not 0 < files.get(MANIFEST, 0) <= LARGEST:
                continue
            content = self._contents.get((slug, number))
            content = content or self._service.content(slug, number, MANIFEST) or b""
            self._contents[slug, number] = content
            try:
                manifest = read_manifest(content)
            except DocumentError:
                continue
            if variation_of(self._target, manifest.handle) != slug:
                continue
            newest = variation is not None and variation.version_number == number
            notes = str(variation.version_notes) if newest else ""
            defect = _defect(files, manifest, notes) or self._difference_from_sent(
                slug, number, files, content
            )
            found.append(Version(number, manifest, content, defect))
        return found

    def _difference_from_sent(
        self, slug: str, number: int, files: Mapping[str, int], content: bytes
    ) -> str:
        """Return how a version differs from the upload that this machine recorded, if it does."""
        upload = self._uploads.of(read_manifest(content).handle, sha256(content))
        if upload is None or upload.asked is None:
            return ""
        if files != {name: part.size for name, part in upload.files.items()}:
            return "its files are not those that were sent"
        for name, part in upload.files.items():
            told = self._service.checksum(slug, number, name)
            if told and told != part.crc32c:
                return f"the bytes of {name} are not those that were sent"
        return ""


def notes_of(manifest: Manifest) -> str:
    """Return the notes of a version: its handle and digest on one line."""
    return f"handle={manifest.handle} sha256={manifest.archive.sha256}"


def _defect(files: Mapping[str, int], manifest: Manifest, notes: str) -> str:
    """Return why a version's files do not match its manifest, judged by names and sizes."""
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        return f"{', '.join(missing)} is missing"
    # The small files beside the model's own are all at the root.
    size = sum(size for name, size in files.items() if "/" in name or name.endswith(".pb"))
    stated = manifest.archive.unpacked_size
    if size != stated:
        return f"its files have {size:,} bytes where the manifest states {stated:,}"
    told = _NOTES.search(notes)
    if told and told.groups() != (manifest.handle, manifest.archive.sha256):
        return "its notes and its manifest name different archives"
    return ""

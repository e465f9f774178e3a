"""Uploads the files of an archive to Kaggle's storage, and resumes interrupted uploads.

Kaggle hands out addresses of Google Cloud Storage; the protocol is on its documentation page
"Resumable uploads". The files stay invisible until a version is created from them.
"""

import base64
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
from isal import igzip
from kagglesdk.datasets.types.dataset_api_service import ApiDatasetNewFile, ApiUploadDirectoryInfo
from pydantic import BaseModel, ConfigDict, Field

from publisher.destinations.base import DestinationError
from publisher.destinations.kaggle.client import Connection
from publisher.destinations.sessions import Sessions, file_errors
from publisher.util.http import GoneError, TransientError
from publisher.util.http.upload import UploadSession
from publisher.validation.archive import archive_is_a_plain_saved_model

MOST_FILES = 50  # kagglehub sends more files as one zip, which Kaggle unpacks later
BLOCK = 1 << 20
TYPE = "application/octet-stream"
# An upload address is valid for a week; Kaggle's own client reuses it for six days.
LIFETIME = 6 * 24 * 3600.0  # seconds


class FileUpload(BaseModel):
    """The upload of one file, with its address until all bytes are sent."""

    model_config = ConfigDict(strict=True, extra="forbid")

    size: int
    crc32c: str
    token: str = Field("", repr=False)
    address: str = Field("", repr=False)
    sent: bool = False


class VersionUpload(BaseModel):
    """The upload of a version. `key` identifies its content; times are those of `time.time`.

    `asked` is when Kaggle was asked to create the version.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    key: str
    began: float
    asked: float | None = None
    files: dict[str, FileUpload] = {}


class VersionUploads(Sessions[VersionUpload]):
    """Uploads of versions, by handle."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, VersionUpload)

    def of(self, handle: str, key: str) -> VersionUpload | None:
        """Return the stored upload of this content, unless it has expired."""
        upload = self.get(handle)
        if upload is None or upload.key != key:
            return None
        return upload if 0 <= time.time() - upload.began < LIFETIME else None


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Create an empty folder for this block. Delete the one of a killed run first."""
    place = folder / "unpacked"
    with file_errors(folder):
        shutil.rmtree(place, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.mkdir(mode=0o700)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def unpack(archive: Path, unpacked_size: int, folder: Path) -> None:
    """Unpack an archive. Raises `DestinationError` unless it is a plain SavedModel of that size."""
    check = archive_is_a_plain_saved_model(archive)
    if check.status == "failed":
        raise DestinationError(f"{archive}: {check.summary}; build the variant again")
    there = check.figures["unpacked_bytes"]
    if there != unpacked_size:
        raise DestinationError(
            f"{archive}: unpacks to {there:,} bytes where the manifest states {unpacked_size:,};"
            " build the variant again"
        )
    with (
        igzip.open(archive, "rb") as file,  # type: ignore[no-untyped-call]
        tarfile.open(fileobj=file, mode="r|") as tar,
    ):
        tar.extractall(folder, filter="data")


def file_uploads(folder: Path, known: Mapping[str, FileUpload]) -> dict[str, FileUpload]:
    """Return an upload for each file below a folder; continue those in `known`.

    Raises `DestinationError` for more than `MOST_FILES` files.
    """
    parts = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        part = FileUpload(size=path.stat().st_size, crc32c=_crc32c(path))
        old = known.get(name)
        same = old is not None and (old.size, old.crc32c) == (part.size, part.crc32c)
        parts[name] = old if old is not None and same else part
    if len(parts) > MOST_FILES:
        raise DestinationError(
            f"the model has {len(parts)} files, and Kaggle accepts {MOST_FILES} single files;"
            " publish it elsewhere"
        )
    return parts


def send(
    connection: Connection,
    what: str,
    path: Path,
    part: FileUpload,
    start: Callable[[], tuple[str, str]],
    keep: Callable[[], None],
) -> None:
    """Send the bytes of a file that have not arrived yet.

    `start` starts an upload and returns its token and address. `keep` stores `part` after
    each change. Raises `DestinationError` if the storage refuses or does not respond.
    """

    def step() -> None:
        received = None  # unknown: the session asks the storage
        if not part.address:
            (part.token, part.address), received = start(), 0
            keep()
        session = UploadSession(
            part.address, part.size, connection.retry, received, content_type=TYPE
        )
        try:
            with path.open("rb") as file:
                while not session.finished:
                    session.advance(file)
        except GoneError as error:
            part.token = part.address = ""
            keep()
            raise TransientError(error.status, error.reason) from None
        part.address, part.sent = "", True
        keep()

    if not part.sent:
        connection.run(what, step)


def upload_tree(parts: Mapping[str, FileUpload]) -> Any:
    """Return uploaded files in their folders, in the form that creates a version."""
    root = ApiUploadDirectoryInfo()
    for path, part in parts.items():
        *folders, _ = path.split("/")
        place = root
        for name in folders:
            inner = next((one for one in place.directories if one.name == name), None)
            if inner is None:
                inner = ApiUploadDirectoryInfo()
                inner.name = name
                place.directories = [*place.directories, inner]
            place = inner
        file = ApiDatasetNewFile()
        file.token = part.token
        place.files = [*place.files, file]
    return root


def _crc32c(path: Path) -> str:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()

"""The files of an archive -> Kaggle's storage, from where an interrupted upload stopped.

Kaggle gives out addresses of Google Cloud Storage, whose documentation page "Resumable
uploads" says how bytes are sent there. Nothing is seen of them until a version is made.
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

MOST_FILES = 50  # kagglehub sends more as one zip, which Kaggle takes apart some time
BLOCK = 1 << 20
TYPE = "application/octet-stream"
# An address for an upload is good for a week; Kaggle's own client trusts it for six days.
LIFETIME = 6 * 24 * 3600.0  # seconds


class FileUpload(BaseModel):
    """One file on its way: what it is, and where its bytes go until all are there."""

    model_config = ConfigDict(strict=True, extra="forbid")

    size: int
    crc32c: str
    token: str = Field("", repr=False)
    address: str = Field("", repr=False)
    sent: bool = False


class VersionUpload(BaseModel):
    """A version on its way. `key` says of what content; times are those of `time.time`.

    `asked` is when Kaggle was asked to make the version, if it was.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    key: str
    began: float
    asked: float | None = None
    files: dict[str, FileUpload] = {}


class VersionUploads(Sessions[VersionUpload]):
    """Versions on their way, by handle."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, VersionUpload)

    def of(self, handle: str, key: str) -> VersionUpload | None:
        """Return what is remembered of a version of that content, unless it is too old."""
        upload = self.get(handle)
        if upload is None or upload.key != key:
            return None
        return upload if 0 <= time.time() - upload.began < LIFETIME else None


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Make an empty folder, gone at the end; one that a killed run left goes first."""
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
    """Unpack an archive if it is a plain SavedModel of that many bytes.

    Raises `DestinationError` if it is anything else.
    """
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
    """Return the files below a folder, each as far on its way as `known` has it.

    Raises `DestinationError` for more files than Kaggle takes one by one.
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
            f"the model has {len(parts)} files, and Kaggle takes {MOST_FILES} one by one; publish"
            " it elsewhere"
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
    """Send a file's bytes; those that arrived earlier are not sent again.

    `start` opens an upload and returns its token and address. `keep` is called whenever
    `part` has changed. Raises `DestinationError` if the storage refuses or stays away.
    """

    def step() -> None:
        received = None  # it has to be asked how many bytes are there
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
    """Return uploaded files in their folders, as the calls that make a version take them."""
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

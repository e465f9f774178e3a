"""The files of an archive -> Kaggle's storage, from where an interrupted upload stopped.

Kaggle gives out addresses of Google Cloud Storage, whose documentation page "Resumable
uploads" says how bytes are sent there. Nothing is seen of them until a version is made.
"""

import base64
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import google_crc32c
import requests
from isal import igzip
from kagglesdk.datasets.types.dataset_api_service import ApiDatasetNewFile, ApiUploadDirectoryInfo
from pydantic import BaseModel, ConfigDict, ValidationError

from publisher.destinations.base import DestinationError
from publisher.destinations.kaggle.client import PASSING, Connection, Fault
from publisher.util.http import failure
from publisher.validation.archive import archive_is_a_plain_saved_model

MOST_FILES = 50  # kagglehub sends more as one zip, which Kaggle takes apart some time
LARGEST_STATE = 1 << 20  # bytes
BLOCK = 1 << 20
# An address for an upload is good for a week; Kaggle's own client trusts it for six days.
LIFETIME = 6 * 24 * 3600.0  # seconds


class Part(BaseModel):
    """One file on its way: what it is, and where its bytes go until all are there."""

    model_config = ConfigDict(strict=True, extra="forbid")

    size: int
    crc32c: str
    token: str = ""
    address: str = ""
    sent: bool = False


class Sending(BaseModel):
    """A version on its way. `key` says of what content; times are those of `time.time`.

    `asked` is when Kaggle was asked to make the version, if it was.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    key: str
    began: float
    asked: float | None = None
    files: dict[str, Part] = {}


class Shelf:
    """Keeps what is on its way in a folder, in files that only their owner can read.

    Every method raises `DestinationError` where the file system says no.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, handle: str, key: str) -> Sending | None:
        """Return what is kept of a version of that content, unless it is too old."""
        try:
            with self._place(handle).open("rb") as file:
                sending = Sending.model_validate_json(file.read(LARGEST_STATE))
        except (OSError, ValidationError):
            return None  # whatever that is, the upload begins anew
        fresh = 0 <= time.time() - sending.began < LIFETIME
        return sending if sending.key == key and fresh else None

    def put(self, handle: str, sending: Sending) -> None:
        """Keep it, whole."""
        with self._plain_errors():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle_, name = tempfile.mkstemp(prefix=".sending-", dir=self._folder)  # mode 0600
            with os.fdopen(handle_, "w", encoding="utf-8") as file:
                json.dump(sending.model_dump(), file)
            Path(name).replace(self._place(handle))

    def remove(self, handle: str) -> None:
        """Keep nothing of that version any longer."""
        with self._plain_errors():
            self._place(handle).unlink(missing_ok=True)

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """Make an empty folder, gone at the end; one that a killed run left goes first."""
        place = self._folder / "unpacked"
        with self._plain_errors():
            shutil.rmtree(place, ignore_errors=True)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.mkdir(mode=0o700)
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def _place(self, handle: str) -> Path:
        return self._folder / f"{handle.replace('/', '_')}.json"

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException:
            raise  # is an OSError as well, and not of this disk
        except OSError as error:
            raise DestinationError(
                f"{error.filename or self._folder}: {error.strerror or error}; see to space and"
                " permissions, and run again"
            ) from error


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


def parts_of(folder: Path, known: Mapping[str, Part]) -> dict[str, Part]:
    """Return the files below a folder, each as far on its way as `known` has it.

    Raises `DestinationError` for more files than Kaggle takes one by one.
    """
    parts = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        part = Part(size=path.stat().st_size, crc32c=_crc32c(path))
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
    part: Part,
    start: Callable[[], tuple[str, str]],
    keep: Callable[[], None],
) -> None:
    """Send a file's bytes; those that arrived earlier are not sent again.

    `start` opens an upload and returns its token and address. `keep` is called whenever
    `part` has changed. Raises `DestinationError` if the storage refuses or stays away.
    """

    def once() -> Fault | None:
        done: int | Fault | None = 0
        if part.address:
            done = _received(connection, part)
        else:
            part.token, part.address = start()
            keep()
        if isinstance(done, int):
            with path.open("rb") as file:
                done = _put(connection, part, file, done)
        if isinstance(done, Fault):
            if done.status in (404, 410):  # no longer known there: begin anew
                part.token = part.address = ""
                keep()
            return done
        part.address, part.sent = "", True
        keep()
        return None

    if not part.sent:
        connection.patiently(what, once)


def tree(parts: Mapping[str, Part]) -> Any:
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


def _received(connection: Connection, part: Part) -> int | Fault | None:
    """Return how many bytes the storage has; nothing if it has them all."""
    answer = _request(connection, part, b"", {"Content-Range": f"bytes */{part.size}"})
    if isinstance(answer, Fault) and answer.status == 308:
        kind, _, last = answer.reason.rpartition("-")
        return min(int(last) + 1, part.size) if kind == "bytes=0" and last.isdigit() else 0
    return answer


def _put(connection: Connection, part: Part, file: IO[bytes], done: int) -> Fault | None:
    """Send what is behind the first `done` bytes."""
    if part.size == 0:
        return _request(connection, part, b"", {})
    file.seek(done)
    span = {"Content-Range": f"bytes {done}-{part.size - 1}/{part.size}"}
    answer = _request(connection, part, file, span)
    if isinstance(answer, Fault) and answer.status == 308:
        return Fault(308, "only a part arrived", passing=True)
    return answer


def _request(
    connection: Connection, part: Part, data: IO[bytes] | bytes, headers: Mapping[str, str]
) -> Fault | None:
    """Make one request of the storage: nothing if the file is complete, or else why not.

    The reason of a 308 is what its `Range` says. The address is a secret: it is in no reason.
    """
    try:
        with requests.put(
            part.address,
            data=data,
            headers={"Content-Type": "application/octet-stream", **headers},
            timeout=connection.patience.timeouts,
            allow_redirects=False,
            stream=True,
        ) as response:
            status = response.status_code
            if status in (200, 201):
                return None
            if status == 308:
                return Fault(status, response.headers.get("Range", ""))
            return Fault(status, response.reason or "", status in (*PASSING, 404, 410))
    except requests.RequestException as error:
        return Fault(0, failure(error), passing=True)


def _crc32c(path: Path) -> str:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()

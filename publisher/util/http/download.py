"""Downloads that resume where they stopped, in this run or the next.

Sources: RFC 9110, 13.1.5 (If-Range) and 14 (Range).
"""

import errno
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
from requests import Response, Session

from publisher.util.files import json_bytes, write_whole
from publisher.util.http.address import without_secrets
from publisher.util.http.errors import HttpError, TransientError, failure, is_transient
from publisher.util.http.request import MOST_REDIRECTS, PIECE, new_session, request, require
from publisher.util.http.retry import DEFAULT_RETRY, Retry

Progress = Callable[[int, int | None], None]


class TooLargeError(HttpError):
    """The file is larger than the caller allows."""


@dataclass(frozen=True)
class _Metadata:
    """What is known about a part file; `validator` identifies the version of the remote file."""

    url: str
    validator: str | None
    length: int | None
    hashes: str


@dataclass(frozen=True)
class _Job:
    """One download; `shown` is the address without secrets."""

    session: Session
    address: str
    shown: str
    part: Path
    largest: int
    retry: Retry
    progress: Progress | None

    @property
    def metadata(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.metadata.unlink(missing_ok=True)

    def report(self, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(done, total)

    def get(self, headers: dict[str, str]) -> Response:
        response = request(
            self.session,
            "GET",
            self.address,
            retry=self.retry,
            follow=MOST_REDIRECTS,
            headers=headers,
        )
        return require(response) if is_transient(response.status_code) else response


def receive(
    address: str,
    part: Path,
    *,
    largest: int,
    retry: Retry = DEFAULT_RETRY,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> str:
    """Download an address to the file `part`, and return its `x-goog-hash` header.

    The download resumes from an earlier `part` if the server still has the same version of the
    file. `<part>.json` identifies that version; the caller removes both. `progress` gets the
    bytes done, and the total if known; `warn` gets one line before each pause.

    Raises `TransientError` (`NoAnswerError` if no answer came) when all attempts failed,
    `TooLargeError` for more than `largest` bytes, `HttpError` for a permanent failure, and
    `OSError` if `part` cannot be written or does not fit on the disk.
    """
    with new_session() as session:
        job = _Job(session, address, without_secrets(address), part, largest, retry, progress)
        return retry.run(lambda: _attempt(job), warn).hashes


def _attempt(job: _Job) -> _Metadata:
    have, known = _resumable(job)
    if have and known:
        with job.get({"Range": f"bytes={have}-", "If-Range": known.validator or ""}) as response:
            if response.status_code == 206 and _continues(response, have, known):
                _append(response, job, known, have)
                return known
            if response.status_code == 416 and _complete(response, have, known):
                return known
            if response.status_code not in (206, 416):
                return _start(response, job)
        job.discard()
    with job.get({}) as response:
        return _start(response, job)


def _resumable(job: _Job) -> tuple[int, _Metadata | None]:
    """Return how many bytes of the part file can be kept, and its metadata."""
    try:
        known = _Metadata(**json.loads(job.metadata.read_text("utf-8")))
        have = job.part.stat().st_size
    except (OSError, ValueError, TypeError):
        return 0, None
    if known.url != job.shown or not known.validator:
        return 0, None
    return have, known


def _continues(response: Response, have: int, known: _Metadata) -> bool:
    """Whether a 206 continues exactly where the part file ends."""
    found = re.fullmatch(
        r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", response.headers.get("Content-Range", "")
    )
    if found is None:
        return False
    start, last = int(found[1]), int(found[2])
    total = known.length if found[3] == "*" else int(found[3])
    return (
        start == have <= last
        and total == known.length
        and (total is None or last < total)
        and _validator(response) in (None, known.validator)
    )


def _complete(response: Response, have: int, known: _Metadata) -> bool:
    """Whether a 416 means that the part file is already complete."""
    found = re.fullmatch(r"bytes \*/(\d{1,18})", response.headers.get("Content-Range", ""))
    total = int(found[1]) if found else known.length
    return have == total and known.length in (None, total)


def _validator(response: Response) -> str | None:
    """Return a strong validator of this version of the file, if the server sends one."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")


def _start(response: Response, job: _Job) -> _Metadata:
    headers = require(response).headers
    length = headers.get("Content-Length", "")
    metadata = _Metadata(
        job.shown,
        _validator(response),
        int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None,
        headers.get("x-goog-hash", ""),
    )
    # Order matters: a part file must never lie beside the metadata of another version.
    job.discard()
    write_whole(job.metadata, json_bytes(asdict(metadata)))
    _append(response, job, metadata, 0)
    return metadata


def _append(response: Response, job: _Job, metadata: _Metadata, have: int) -> None:
    """Append the body to the part file, which has `have` bytes."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise HttpError(
            0,
            f"it comes in Content-Encoding {encoding[:30]!r}, though it was asked for without",
            "store the file there without it",
        )
    total = metadata.length
    _refuse_too_large(job, total or 0)
    rest, free = (total or 0) - have, shutil.disk_usage(job.part.parent).free
    if rest > free:
        problem = f"{rest} more bytes have to come and the disk has {free} left"
        raise OSError(errno.ENOSPC, problem, str(job.part))
    job.report(have, total)
    try:
        with job.part.open("ab") as file:
            for piece in response.iter_content(PIECE):
                have += len(piece)
                _refuse_too_large(job, have)
                file.write(piece)
                job.report(have, total)
    except requests.RequestException as error:
        raise TransientError(
            0, f"the connection broke after {have} bytes ({failure(error)})"
        ) from None
    if total is not None and have < total:
        raise TransientError(0, f"the connection ended after {have} of {total} bytes")
    if total is not None and have > total:
        job.discard()
        raise TransientError(0, f"{have} bytes came where {total} were announced")


def _refuse_too_large(job: _Job, size: int) -> None:
    if size > job.largest:
        job.discard()
        raise TooLargeError(0, f"it has more than the {job.largest:,} bytes that are expected")

"""Downloads that go on where they stopped and are proven before they are visible.

Sources: RFC 9110 (13.1.5 If-Range, 14 Range, 10.2.3 Retry-After) and Google Cloud
Storage's description of `x-goog-hash`.
"""

import base64
import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from publisher.util.files import json_bytes, write_whole
from publisher.util.http import DEFAULT_RETRY, Retry, failure
from publisher.weights.digest import CHUNK, Digest, digest_file
from publisher.weights.errors import UnreachableError, WeightsError

# Imported where they are used, because they take long: a run with nothing to do has no
# use for them.
if TYPE_CHECKING:
    from requests import Response, Session
    from tenacity import RetryCallState

MOST_REDIRECTS = 10
LONGEST_RETRY_AFTER = 120.0  # seconds
BODY_CHUNK = 1 << 16  # bytes; a connection that breaks loses at most this much
REDIRECTS = (301, 302, 303, 307, 308)

Progress = Callable[[int, int | None], None]


class _PassingError(Exception):
    """A failure that another attempt may not meet; `pause` is what the server asked for."""

    def __init__(self, problem: str, *, answered: bool = True, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.answered = answered
        self.pause = pause


@dataclass(frozen=True)
class _Note:
    """What is known of a part file: `validator` says which version of the file it is of."""

    url: str
    validator: str | None
    length: int | None
    hashes: str


@dataclass(frozen=True)
class _Job:
    """One download; `shown` is the address without anything secret."""

    url: str
    shown: str
    target: Path
    largest: int
    progress: Progress | None
    retry: Retry
    warn: Callable[[str], None] | None

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def note(self) -> Path:
        return self.target.with_name(self.target.name + ".part.json")

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def report(self, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(done, total)


def without_secrets(url: str) -> str:
    """Return `url` without user, password, query and fragment: fit to be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address (which cannot be parsed)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def download(
    url: str,
    target: Path,
    *,
    expected: Digest | None,
    largest: int,
    progress: Progress | None = None,
    retry: Retry = DEFAULT_RETRY,
    accept: Callable[[Path, Digest], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Digest:
    """Bring the file at `url` to `target`, and return its digest.

    What comes is kept in `<target>.part` until it is whole, so that the next attempt or
    the next run goes on from there. It replaces `target` only when its length, the
    server's `x-goog-hash` and the `expected` digest are right, and `accept`, called with
    the finished file and its digest, has not raised `WeightsError`. At most `largest`
    bytes are taken. `progress` is called with the bytes done and the total, if known;
    `warn` with one line before each pause.

    Raises `UnreachableError` when no attempt had an answer, and `WeightsError` for
    anything else that cannot be mended by trying again.
    """
    job = _Job(url, without_secrets(url), target, largest, progress, retry, warn)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        note = _persistently(job)
        return _finish(job, note, expected, accept)
    except OSError as error:
        raise WeightsError(
            f"{target}: cannot be written ({error.strerror or type(error).__name__}). Make room "
            "or correct the rights, and run again: what came so far is kept."
        ) from None


def _persistently(job: _Job) -> _Note:
    """Try until the part file is whole; return what the server said of it."""
    import requests
    import tenacity

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(job.retry.attempts),
        wait=job.retry.pause,
        retry=tenacity.retry_if_exception_type(_PassingError),
        sleep=job.retry.sleep,
        before_sleep=functools.partial(_tell_of_pause, job),
        reraise=True,
    )
    with requests.Session() as session:
        try:
            return retrying(_attempt, session, job)
        except _PassingError as error:
            tried = f"{job.retry.attempts} attempts"
            if not error.answered:
                raise UnreachableError(
                    f"cannot reach {job.shown}: {error} ({tried}). Check the address and the "
                    "connection, and run again."
                ) from None
            raise WeightsError(
                f"{job.shown}: {error} ({tried}). Run again later: a download goes on from "
                "where it stopped."
            ) from None


def _tell_of_pause(job: _Job, state: "RetryCallState") -> None:
    if job.warn is not None and state.outcome is not None:
        job.warn(
            f"{job.shown}: {state.outcome.exception()}; attempt {state.attempt_number + 1} of"
            f" {job.retry.attempts} in {state.upcoming_sleep:.0f} s"
        )


def _attempt(session: "Session", job: _Job) -> _Note:
    have, known = _resumable(job)
    if have and known:
        headers = {"Range": f"bytes={have}-", "If-Range": known.validator or ""}
        with _get(session, job, headers) as response:
            if response.status_code == 206 and _fits(response, have, known):
                _receive(response, job, known, have)
                return known
            if response.status_code == 416 and _whole(response, have, known):
                return known
            if response.status_code not in (206, 416):
                return _from_the_start(response, job)
        job.discard()
    with _get(session, job, {}) as response:
        return _from_the_start(response, job)


def _resumable(job: _Job) -> tuple[int, _Note | None]:
    """Return how many bytes can be kept and of what, or zero."""
    try:
        note = _Note(**json.loads(job.note.read_text("utf-8")))
        have = job.part.stat().st_size
    except (OSError, ValueError, TypeError):
        return 0, None
    if note.url != job.shown or not note.validator:
        return 0, None
    return have, note


def _fits(response: "Response", have: int, known: _Note) -> bool:
    """Tell whether a 206 goes on exactly where the part file ends."""
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


def _whole(response: "Response", have: int, known: _Note) -> bool:
    """Tell whether a 416 means that there is nothing left to send."""
    found = re.fullmatch(r"bytes \*/(\d{1,18})", response.headers.get("Content-Range", ""))
    total = int(found[1]) if found else known.length
    return have == total and known.length in (None, total)


def _validator(response: "Response") -> str | None:
    """Return what names this version of the file byte by byte, if the server says."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")


def _from_the_start(response: "Response", job: _Job) -> _Note:
    if response.status_code != 200:
        raise WeightsError(
            f"{job.shown}: the server answered {_status(response)}. Check the address, the "
            "checkpoint's path in models.yaml and your access to it."
        )
    note = _Note(
        job.shown, _validator(response), _length(response), response.headers.get("x-goog-hash", "")
    )
    # In this order: a part file must never lie beside the note of another version.
    job.discard()
    write_whole(job.note, json_bytes(asdict(note)))
    _receive(response, job, note, 0)
    return note


def _status(response: "Response") -> str:
    return f"{response.status_code} {response.reason or ''}".strip()


def _length(response: "Response") -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None


def _receive(response: "Response", job: _Job, note: _Note, have: int) -> None:
    """Append the body to the part file, which has `have` bytes."""
    import requests

    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise WeightsError(
            f"{job.shown}: the server sends the file in Content-Encoding {encoding!r}, though it "
            "was asked not to. Store the file there without it."
        )
    total = note.length
    _refuse_too_large(job, total or 0)
    rest = (total or 0) - have
    free = shutil.disk_usage(job.target.parent).free
    if rest > free:
        raise WeightsError(
            f"{job.target}: {rest} more bytes have to come and the disk has {free} left. "
            "Make room, and run again."
        )
    job.report(have, total)
    try:
        with job.part.open("ab") as file:
            for piece in response.iter_content(BODY_CHUNK):
                have += len(piece)
                _refuse_too_large(job, have)
                file.write(piece)
                job.report(have, total)
    except requests.RequestException as error:
        raise _PassingError(f"the connection broke after {have} bytes ({failure(error)})") from None
    if total is not None and have < total:
        raise _PassingError(f"the connection ended after {have} of {total} bytes")
    if total is not None and have > total:
        job.discard()
        raise _PassingError(f"{have} bytes came where {total} were announced")


def _refuse_too_large(job: _Job, size: int) -> None:
    if size > job.largest:
        job.discard()
        raise WeightsError(
            f"{job.shown}: has more than the {job.largest} bytes that the checkpoint's "
            "architecture can need. Check its path and architecture in models.yaml."
        )


def _get(session: "Session", job: _Job, headers: Mapping[str, str]) -> "Response":
    """Ask for the file, follow redirects, and sort out the answers worth another attempt."""
    import requests

    address = job.url
    for _ in range(MOST_REDIRECTS + 1):
        try:
            response = session.get(
                address,
                headers={"Accept-Encoding": "identity", **headers},
                stream=True,
                allow_redirects=False,
                timeout=(job.retry.connect_timeout, job.retry.read_timeout),
            )
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise _PassingError(failure(error), answered=False) from None
        except (requests.RequestException, ValueError) as error:
            raise WeightsError(
                f"{without_secrets(address)}: the address cannot be used "
                f"({type(error).__name__}). Correct it."
            ) from None
        status = response.status_code
        if status in REDIRECTS and "Location" in response.headers:
            response.close()
            address = redirected(address, response.headers["Location"])
            continue
        if status in (408, 429) or status >= 500:
            response.close()
            raise _PassingError(
                f"the server answered {_status(response)}",
                pause=_retry_after(response.headers.get("Retry-After", "")),
            )
        return response
    raise WeightsError(
        f"{job.shown}: leads through more than {MOST_REDIRECTS} redirects. Give the address "
        "where the file really is."
    )


def redirected(address: str, location: str) -> str:
    """Return where a redirect from `address` leads.

    Raises `WeightsError` when it leaves HTTP, or leaves encryption.
    """
    try:
        following = urljoin(address, location)
        before, after = urlsplit(address).scheme.lower(), urlsplit(following).scheme.lower()
    except ValueError:
        raise WeightsError(
            f"{without_secrets(address)}: redirects to something that is not an address. Give "
            "the address where the file really is."
        ) from None
    if after not in ("http", "https") or (before == "https" and after == "http"):
        raise WeightsError(
            f"{without_secrets(address)}: redirects to {without_secrets(following)}, which is "
            "not secure. Give an https address where the file really is."
        )
    return following


def _retry_after(text: str) -> float:
    """Return the seconds of a Retry-After header, which may also be a date."""
    text = text.strip()
    try:
        if re.fullmatch(r"\d+", text):
            seconds = float(text)
        else:
            moment = parsedate_to_datetime(text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (aware - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _finish(
    job: _Job,
    note: _Note,
    expected: Digest | None,
    accept: Callable[[Path, Digest], None] | None,
) -> Digest:
    """Prove the part file and give it its name; a file that fails is thrown away."""
    digest = digest_file(job.part)
    try:
        _check_hashes(job, note.hashes)
        if expected is not None and digest != expected:
            raise WeightsError(
                f"{job.shown}: came as {digest}, expected was {expected}. {job.target} was not "
                "replaced. Run again if the transfer may have spoiled it; otherwise find out "
                "why the file there is another one."
            )
        if accept is not None:
            accept(job.part, digest)
    except WeightsError:
        job.discard()
        raise
    with job.part.open("rb+") as file:
        os.fsync(file.fileno())
    job.part.replace(job.target)
    job.note.unlink(missing_ok=True)
    return digest


def _check_hashes(job: _Job, header: str) -> None:
    """Compare the part file with what `x-goog-hash` says: `crc32c=<base64>,md5=<base64>`."""
    import google_crc32c

    declared = {
        kind.strip(): value.strip()
        for kind, _, value in (entry.partition("=") for entry in header.split(","))
        if kind.strip() in ("crc32c", "md5")
    }
    if not declared:
        return
    crc32c = google_crc32c.Checksum()
    md5 = hashlib.md5(usedforsecurity=False)
    with job.part.open("rb") as file:
        while chunk := file.read(CHUNK):
            if "crc32c" in declared:
                crc32c.update(chunk)
            if "md5" in declared:
                md5.update(chunk)
    measured = {"crc32c": crc32c.digest(), "md5": md5.digest()}
    for kind, value in declared.items():
        found = base64.b64encode(measured[kind]).decode()
        if found != value:
            raise WeightsError(
                f"{job.shown}: came with {kind} {found}, and the server says {value[:64]}. "
                f"{job.target} was not replaced. Run again to fetch it anew."
            )

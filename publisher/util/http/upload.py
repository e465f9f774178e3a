"""Resumable uploads to Google Cloud Storage.

Sources: Cloud Storage documentation, "Resumable uploads" and "Perform resumable uploads".
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from pydantic import BaseModel, ValidationError
from requests import Response, Session

from publisher.util.http.errors import GoneError, HttpError, TransientError, one_line
from publisher.util.http.request import body, new_session, request, require, unsigned
from publisher.util.http.retry import Retry

PIECE = 64 << 20  # bytes; the storage wants a multiple of 256 KiB
LARGEST_ANSWER = 1 << 20  # bytes


class _Error(BaseModel):
    message: str = ""


class _ErrorBody(BaseModel):
    error: _Error = _Error()


@dataclass
class UploadSession:
    """An upload of `size` bytes, of which the storage has `received`; None: not known.

    Whoever has the address can write, so it is a secret, and no credentials are sent with it.
    """

    address: str = field(repr=False)
    size: int
    retry: Retry
    received: int | None = None
    piece: int = PIECE
    content_type: str = ""
    finished: bool = False
    _session: Session = field(default_factory=new_session, repr=False)

    def advance(self, file: BinaryIO) -> None:
        """Send the next piece of `file`, or ask how many bytes the storage has.

        Raises `TransientError` if a retry may succeed, `GoneError` if the storage no longer knows
        the session, and `HttpError` if it refuses.
        """
        if self.received is None:
            self._put(b"", {"Content-Range": f"bytes */{self.size}"})
            return
        before, self.received = self.received, None
        file.seek(before)
        data = file.read(self.piece)
        span = f"bytes {before}-{before + len(data) - 1}/{self.size}"
        self._put(data, {"Content-Range": span} if data else {})
        if not self.finished and self.received is not None and self.received <= before:
            raise TransientError(503, "it kept nothing of what was sent")

    def _put(self, data: bytes, headers: dict[str, str]) -> None:
        kind = {"Content-Type": self.content_type} if self.content_type else {}
        with request(
            self._session,
            "PUT",
            self.address,
            retry=self.retry,
            sign=unsigned,
            headers={**kind, **headers},
            data=data,
        ) as answer:
            status = answer.status_code
            if status in (404, 410):
                raise GoneError(status, "the upload session is no longer known")
            if status in (400, 401, 403, 412, 413):
                raise HttpError(status, _reason(answer))
            require(answer, (200, 201, 308))
        if status != 308:
            self.finished = True
            return
        unit, _, last = answer.headers.get("Range", "").rpartition("-")
        done = int(last) + 1 if unit == "bytes=0" and last.isdecimal() else 0
        if done >= self.size:
            raise TransientError(503, "it has all bytes and does not finish")
        self.received = done

    def cancel(self) -> None:
        """Ask the storage to drop the upload, which otherwise expires after a week."""
        with suppress(HttpError):
            request(self._session, "DELETE", self.address, retry=self.retry, sign=unsigned).close()


def _reason(answer: Response) -> str:
    """Return the storage's error message."""
    try:
        said = _ErrorBody.model_validate_json(body(answer, LARGEST_ANSWER)).error.message
    except (HttpError, ValidationError):
        said = ""
    return one_line(said or answer.reason or "")

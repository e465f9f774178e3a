"""A release as objects in a bucket of Google Cloud Storage.

Sources: Cloud Storage documentation, "Request preconditions" (a generation of 0 means: no
such object), "Data validation and change detection" (CRC32C), "Resumable uploads" and
"Perform resumable uploads".
"""

import base64
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import google.auth
import google_crc32c
import requests
from google.api_core.exceptions import (
    GoogleAPICallError,
    GoogleAPIError,
    MethodNotImplemented,
    NotFound,
    PreconditionFailed,
    RetryError,
    from_http_response,
)
from google.api_core.retry import if_exception_type
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import (
    DefaultCredentialsError,
    GoogleAuthError,
    InvalidOperation,
    TransportError,
)
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from publisher.destinations.base import DestinationError
from publisher.destinations.bucket.objects import (
    LARGEST_SMALL,
    GoneError,
    Objects,
    Source,
    Stored,
    TakenError,
    headers_of,
    one_line,
    settings,
)
from publisher.util.http import failure

SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
# Unless this is set it asks about the bucket in the background, for traces that nobody makes.
UNASKED = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"
KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
SETTINGS = ("GOOGLE_", "CLOUDSDK_", "GCE_", "NO_GCE_CHECK", "STORAGE_EMULATOR_HOST")
# Replacing an object needs the permission to delete it.
PERMISSIONS = tuple(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list"))
BLOCK = 1 << 20
PASSING = (408, 429, 500, 502, 503, 504)
GONE = (404, 410)
# What the client library raises: its own errors, those of requests, and what it makes of an
# answer that is none of the service's.
ERRORS = (
    GoogleAPIError,
    InvalidResponse,
    DataCorruption,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
)


class _PassingError(Exception):
    """A request of a session failed in a way that another may not; `status` 0: no answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _TooLargeError(Exception):
    """What lies there is no small file."""


class _Bounded(BytesIO):
    """Takes no more than a small file."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > LARGEST_SMALL:
            raise _TooLargeError
        return super().write(data)


class GoogleCloudStorage(Objects):
    """A release below gs://bucket/prefix.

    Files of more than `simple` bytes go through a session in pieces of `piece` bytes, a
    multiple of 256 KiB; the next run goes on with a session that was not finished. Timeouts
    are in seconds, to connect and to wait.
    """

    simple = 8 << 20
    piece = 64 << 20
    timeout = (10.0, 60.0)
    retry = DEFAULT_RETRY.with_delay(initial=1.0, maximum=30.0, multiplier=2.0).with_timeout(300.0)
    _missing: DefaultCredentialsError | None = None
    permission = "the role Storage Object User (roles/storage.objectUser) on the bucket"
    creation = "gcloud storage buckets create gs://"
    login = (
        "set GOOGLE_APPLICATION_CREDENTIALS to the path of a key file, or run: gcloud auth"
        " application-default login"
    )

    def check(self) -> None:
        """See that the bucket is there and that the credentials suffice to write."""
        with self._during(f"looking whether {self._address} can be written"):
            # Unlike the next call this tells a missing bucket from one that cannot be asked.
            client = self._client
            if self._missing:
                raise self._missing
            for _ in client.list_blobs(self._bucket_name, max_results=1, **self._calls):
                pass
            try:
                granted = self._bucket.test_iam_permissions(PERMISSIONS, **self._calls)
            except (NotFound, MethodNotImplemented):
                return  # an emulator; the service itself knows this call
        missing = ", ".join(sorted(set(PERMISSIONS) - set(granted)))
        if missing:
            raise DestinationError(
                f"{self._name}: the credentials lack {missing}; grant {self.permission}"
            )

    # The calls of the service

    @cached_property
    def _client(self) -> storage.Client:
        address = self._environment.get("STORAGE_EMULATOR_HOST")
        options = {"api_endpoint": address} if address else None
        with settings(self._environment, *SETTINGS), warnings.catch_warnings():
            # It warns of a person's own credentials, which are good enough here.
            warnings.simplefilter("ignore")
            credentials: Credentials
            if address:
                credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
            else:
                try:
                    credentials, _ = google.auth.default(scopes=SCOPES)
                except DefaultCredentialsError as error:
                    if self._environment.get(KEY_FILE):
                        raise
                    # Then it can be read if everybody may.
                    self._missing, self._anonymous = error, True
                    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
            return storage.Client(project=None, credentials=credentials, client_options=options)

    @property
    def _bucket(self) -> storage.Bucket:
        return self._client.bucket(self._bucket_name)

    @property
    def _calls(self) -> dict[str, Any]:
        """What every call is given."""
        return {"timeout": self.timeout, "retry": self.retry}

    def _paths(self, start: str) -> Iterable[str]:
        with self._during("listing objects"):
            for blob in self._client.list_blobs(
                self._bucket_name,
                prefix=f"{self._prefix}{start}",
                fields="items(name),nextPageToken",
                **self._calls,
            ):
                yield blob.name.removeprefix(self._prefix)

    def _stat(self, path: str) -> Stored | None:
        with self._during(f"looking at {path}"):
            blob = self._bucket.get_blob(f"{self._prefix}{path}", **self._calls)
            if blob is None:
                return None
            if None in (blob.size, blob.generation, blob.updated):
                raise ValueError
            noted = (blob.metadata or {}).get("sha256", "")
            return Stored(blob.size, str(blob.generation), blob.updated, noted, blob.crc32c or "")

    def _get(self, path: str) -> tuple[bytes, str] | None:
        blob = self._bucket.blob(f"{self._prefix}{path}")
        content = _Bounded()
        with self._during(f"reading {path}"):
            try:
                blob.download_to_file(content, checksum="crc32c", **self._calls)
            except NotFound:
                return None
            except _TooLargeError:
                raise self._too_large(path) from None
            if blob.generation is None:
                raise ValueError
            return content.getvalue(), str(blob.generation)

    def _store(self, path: str, source: Source, expected: str | None) -> None:
        headers = headers_of(path)
        blob = self._bucket.blob(f"{self._prefix}{path}")
        blob.cache_control = headers.cache_control
        blob.metadata = {"sha256": source.sha256}
        # The service refuses content that has another one.
        blob.crc32c = source.digest
        calls = {
            "size": source.size,
            "content_type": headers.content_type,
            "if_generation_match": int(expected or 0),
            **self._calls,
        }
        with self._during(f"sending {path}"), source.open() as file:
            try:
                if source.size <= self.simple:
                    blob.upload_from_file(file, checksum="crc32c", **calls)
                else:
                    start = partial(blob.create_resumable_upload_session, **calls)
                    session = self._session(path, source, start)
                    advance = self.retry.with_predicate(if_exception_type(_PassingError))(
                        session.advance
                    )
                    while not session.finished:
                        advance(file)
            except (GoneError, GoogleAPICallError) as error:
                # It would end that way again.
                self._pending.remove(path)
                if isinstance(error, PreconditionFailed):
                    raise TakenError from None
                raise
            self._pending.remove(path)

    def _session(self, path: str, source: Source, start: Callable[[], str]) -> "_Session":
        """Return the session of an earlier run with the same content, or else a new one."""
        known = self._kept(path, source)
        if known is not None and self._leads_there(known):
            return _Session(known, source.size, self.piece, self.timeout, received=None)
        address = start()
        if not self._leads_there(address):
            raise DestinationError(
                f"{self._name}: the service wants the bytes of {path} at another host; see to the"
                " network"
            )
        self._pending.put(path, source.sha256, address)
        return _Session(address, source.size, self.piece, self.timeout, received=0)

    def _cancel(self, path: str, key: str) -> None:
        if self._leads_there(key):
            with suppress(requests.RequestException):  # it ends by itself after a week
                requests.delete(key, timeout=self.timeout)

    def _leads_there(self, address: str) -> bool:
        """Whether an address for an upload is one of the service."""
        there, known = urlsplit(address), urlsplit(self._client.api_endpoint)
        return (there.scheme, there.netloc) == (known.scheme, known.netloc)

    def _digest(self, file: BinaryIO) -> str:
        checksum = google_crc32c.Checksum()
        while block := file.read(BLOCK):
            checksum.update(block)
        return base64.b64encode(checksum.digest()).decode()

    @contextmanager
    def _during(self, what: str) -> Iterator[None]:
        """Make `DestinationError`s of the client library's errors.

        None is shown as it is: their texts have the address of the request, and that of a
        session lets anybody write.
        """
        try:
            with settings({UNASKED: "true"}, UNASKED):
                yield
        except (DefaultCredentialsError, GoogleAuthError) as error:
            raise self._not_let_in(what, error) from None
        except (*ERRORS, _PassingError) as error:
            cause = error.cause if isinstance(error, RetryError) else error
            if isinstance(cause, OSError) and cause.filename:
                raise self._unreadable(cause) from cause
            if isinstance(cause, GoogleAuthError):
                raise self._not_let_in(what, cause) from None
            raise self._failure(what, *self._reason(cause)) from None

    def _not_let_in(self, what: str, error: GoogleAuthError) -> DestinationError:
        reason = one_line(str(error.args[0]) if error.args else "", ())
        if isinstance(error, TransportError):
            return self._failure(what, 0, "no token for the credentials could be had")
        # The first is what a refusal ends in where there are no credentials that could be renewed.
        if not isinstance(error, InvalidOperation) and isinstance(error, DefaultCredentialsError):
            return DestinationError(f"{self._name}: no usable credentials ({reason}); {self.login}")
        return self._failure(what, 401, reason)

    def _reason(self, error: Exception | None) -> tuple[int, str]:
        """Return status and reason of a failed call; status 0 means that no answer came."""
        if isinstance(error, GoogleAPICallError) and error.code:
            errors = error.errors
            if not errors and isinstance(error.response, requests.Response):
                errors = from_http_response(error.response).errors  # type: ignore[no-untyped-call]
            first = next(iter(errors), None)
            said = [first.get("message"), first.get("reason")] if isinstance(first, dict) else []
            return int(error.code), one_line(" ".join(str(part) for part in said if part), ())
        if isinstance(error, DataCorruption):
            return 0, "what arrived is not what was sent"
        if isinstance(error, InvalidResponse):
            return int(error.response.status_code), one_line(error.response.reason or "", ())
        if isinstance(error, _PassingError):
            return error.status, str(error)
        if isinstance(error, requests.RequestException) and not isinstance(error, ValueError):
            return 0, failure(error)
        if isinstance(error, OSError) and not isinstance(error, ValueError):
            return 0, "connection failed"
        return 502, "an answer that is not understood"


@dataclass
class _Session:
    """A resumable upload. `received` bytes are there; none: that has to be asked.

    The address suffices to write, so nothing that proves who we are is sent there.
    """

    address: str
    size: int
    piece: int
    timeout: tuple[float, float]
    received: int | None
    finished: bool = False

    def advance(self, file: BinaryIO) -> None:
        """Send the next piece, or ask how many bytes are there.

        Raises `_PassingError` if it may be called again, `GoneError` if the session is no
        longer known, and `GoogleAPICallError` if the service refuses.
        """
        if self.received is None:
            self._put(b"", f"bytes */{self.size}")
            return
        before, self.received = self.received, None
        file.seek(before)
        data = file.read(self.piece)
        self._put(data, f"bytes {before}-{before + len(data) - 1}/{self.size}")
        if not self.finished and self.received is not None and self.received <= before:
            raise _PassingError(503, "it kept nothing of what was sent")

    def _put(self, data: bytes, span: str) -> None:
        try:
            with requests.put(
                self.address,
                data=data,
                headers={"Content-Range": span},
                timeout=self.timeout,
                allow_redirects=False,
            ) as answer:
                status, there = answer.status_code, answer.headers.get("Range", "")
        except requests.RequestException as error:
            raise _PassingError(0, failure(error)) from None
        if status in (200, 201):
            self.finished = True
        elif status == 308:
            kind, _, last = there.rpartition("-")
            done = int(last) + 1 if kind == "bytes=0" and last.isdecimal() else 0
            if done >= self.size:
                raise _PassingError(503, "it has all bytes and does not finish")
            self.received = done
        elif status in GONE:
            raise GoneError
        elif status in PASSING:
            raise _PassingError(status, answer.reason)
        else:
            raise from_http_response(answer)  # type: ignore[no-untyped-call]

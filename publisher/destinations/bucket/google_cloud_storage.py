"""A release as objects in a bucket of Google Cloud Storage.

Sources: Cloud Storage documentation, "Request preconditions" (generation 0 means that no
object exists), "Data validation and change detection" (CRC32C), "Resumable uploads" and
"Perform resumable uploads".
"""

import base64
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from io import BytesIO
from typing import Any, BinaryIO

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

from publisher.destinations.base import DestinationError, Payload, unreadable
from publisher.destinations.bucket.objects import (
    MAX_SMALL_FILE,
    ObjectChangedError,
    Objects,
    Stored,
    UnfinishedUpload,
    UnknownUploadError,
    headers_of,
    in_os_environ,
)
from publisher.util.http import (
    GoneError,
    HttpError,
    NoAnswerError,
    Retry,
    TransientError,
    failure,
    one_line,
    origin_of,
)
from publisher.util.http.upload import PIECE, UploadSession

SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
# Unless this is set, the client requests the bucket's metadata in the background for traces.
NO_BACKGROUND_REQUESTS = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"
KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
SETTINGS = ("GOOGLE_", "CLOUDSDK_", "GCE_", "NO_GCE_CHECK", "STORAGE_EMULATOR_HOST")
# Replacing an object needs the permission to delete it.
PERMISSIONS = tuple(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list"))
BLOCK = 1 << 20
# What the client library raises: its own errors, those of requests, and, for a malformed
# response, Python's.
ERRORS = (
    GoogleAPIError,
    InvalidResponse,
    DataCorruption,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)


class _TooLargeError(Exception):
    """The object is too large for a small file."""


class _Bounded(BytesIO):
    """A buffer limited to `MAX_SMALL_FILE` bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_SMALL_FILE:
            raise _TooLargeError
        return super().write(data)


class GoogleCloudStorage(Objects):
    """A release below gs://bucket/prefix.

    Files of more than `simple` bytes use an upload session, in chunks of `piece` bytes, a
    multiple of 256 KiB. The next run resumes an unfinished session. `timeout` is the connect
    and the read timeout in seconds.
    """

    simple = 8 << 20
    piece = PIECE
    timeout = (10.0, 60.0)
    retry = DEFAULT_RETRY.with_delay(initial=1.0, maximum=30.0, multiplier=2.0).with_timeout(300.0)
    _missing_credentials: DefaultCredentialsError | None = None
    permission = "the role Storage Object User (roles/storage.objectUser) on the bucket"
    creation = "gcloud storage buckets create gs://"
    login = (
        "set GOOGLE_APPLICATION_CREDENTIALS to the path of a key file, or run: gcloud auth"
        " application-default login"
    )

    def check(self) -> None:
        """Verify that the bucket exists and that the credentials grant write access."""
        with self._during(f"checking write access to {self._address}"):
            # Unlike the next call, this one distinguishes a missing bucket from a private one.
            client = self._client
            if self._missing_credentials:
                raise self._missing_credentials
            for _ in client.list_blobs(self._bucket_name, max_results=1, **self._call_options):
                pass
            try:
                granted = self._bucket.test_iam_permissions(PERMISSIONS, **self._call_options)
            except (NotFound, MethodNotImplemented):
                return  # an emulator; the service itself supports this call
        missing = ", ".join(sorted(set(PERMISSIONS) - set(granted)))
        if missing:
            raise self._error(f"the credentials lack {missing}; grant {self.permission}")

    # Requests

    @cached_property
    def _client(self) -> storage.Client:
        address = self._environment.get("STORAGE_EMULATOR_HOST")
        options = {"api_endpoint": address} if address else None
        with in_os_environ(self._environment, *SETTINGS), warnings.catch_warnings():
            # The library warns about a person's own credentials, which are fine here.
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
                    # A public bucket is readable without credentials.
                    self._missing_credentials, self._anonymous = error, True
                    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
            return storage.Client(project=None, credentials=credentials, client_options=options)

    @property
    def _bucket(self) -> storage.Bucket:
        return self._client.bucket(self._bucket_name)

    @property
    def _call_options(self) -> dict[str, Any]:
        """The options of every call."""
        return {"timeout": self.timeout, "retry": self.retry}

    def _paths(self, start: str) -> Iterable[str]:
        with self._during("listing objects"):
            for blob in self._client.list_blobs(
                self._bucket_name,
                prefix=f"{self._prefix}{start}",
                fields="items(name),nextPageToken",
                **self._call_options,
            ):
                yield blob.name.removeprefix(self._prefix)

    def _stat(self, path: str) -> Stored | None:
        with self._during(f"looking at {path}"):
            blob = self._bucket.get_blob(f"{self._prefix}{path}", **self._call_options)
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
                blob.download_to_file(content, checksum="crc32c", **self._call_options)
            except NotFound:
                return None
            except _TooLargeError:
                raise self._too_large(path) from None
            if blob.generation is None:
                raise ValueError
            return content.getvalue(), str(blob.generation)

    def _store(self, path: str, payload: Payload, expected: str | None) -> None:
        headers = headers_of(path)
        blob = self._bucket.blob(f"{self._prefix}{path}")
        blob.cache_control = headers.cache_control
        blob.metadata = {"sha256": payload.sha256}
        # The service refuses content with another checksum.
        blob.crc32c = payload.digest
        calls = {
            "size": payload.size,
            "content_type": headers.content_type,
            "if_generation_match": int(expected or 0),
            **self._call_options,
        }
        with self._during(f"sending {path}"), payload.open() as file:
            try:
                if payload.size <= self.simple:
                    blob.upload_from_file(file, checksum="crc32c", **calls)
                else:
                    start = partial(blob.create_resumable_upload_session, **calls)
                    session = self._session(path, payload, start)
                    advance = self.retry.with_predicate(if_exception_type(TransientError))(
                        session.advance
                    )
                    while not session.finished:
                        advance(file)
            except TransientError:
                raise
            except (HttpError, GoogleAPICallError) as error:
                # Resuming would fail again.
                self._sessions.remove(path)
                if isinstance(error, PreconditionFailed) or (
                    isinstance(error, HttpError) and error.status == 412
                ):
                    raise ObjectChangedError from None
                if isinstance(error, GoneError):
                    raise UnknownUploadError from None
                raise
            self._sessions.remove(path)

    def _session(self, path: str, payload: Payload, start: Callable[[], str]) -> UploadSession:
        """Return the unfinished session for this content, or start a new one."""
        known = self._resumable(path, payload)
        if known is not None and self._is_service_url(known):
            return UploadSession(known, payload.size, self._timeouts, None, self.piece)
        address = start()
        if not self._is_service_url(address):
            raise self._error(
                f"the service's upload address for {path} is on another host; check the network"
            )
        self._sessions.put(path, UnfinishedUpload(sha256=payload.sha256, key=address))
        return UploadSession(address, payload.size, self._timeouts, 0, self.piece)

    def _cancel(self, path: str, key: str) -> None:
        if self._is_service_url(key):
            UploadSession(key, 0, self._timeouts).cancel()

    def _is_service_url(self, address: str) -> bool:
        """Return whether an upload address is on the service's host."""
        try:
            return origin_of(address) == origin_of(self._client.api_endpoint)
        except ValueError:
            return False

    @property
    def _timeouts(self) -> Retry:
        connect, read = self.timeout
        return Retry(connect_timeout=connect, read_timeout=read)

    def _digest(self, file: BinaryIO) -> str:
        checksum = google_crc32c.Checksum()
        while block := file.read(BLOCK):
            checksum.update(block)
        return base64.b64encode(checksum.digest()).decode()

    @contextmanager
    def _during(self, what: str) -> Iterator[None]:
        """Raise the client library's errors as `DestinationError`.

        Their texts are not shown: they contain request addresses, and a session's address
        grants write access.
        """
        try:
            with in_os_environ({NO_BACKGROUND_REQUESTS: "true"}, NO_BACKGROUND_REQUESTS):
                yield
        except (DefaultCredentialsError, GoogleAuthError) as error:
            raise self._credentials_error(what, error) from None
        except (*ERRORS, HttpError) as error:
            cause = error.cause if isinstance(error, RetryError) else error
            if isinstance(cause, OSError) and cause.filename:
                raise unreadable(cause, self._name) from cause
            if isinstance(cause, GoogleAuthError):
                raise self._credentials_error(what, cause) from None
            raise self._failure(what, _http_error(cause)) from None

    def _credentials_error(self, what: str, error: GoogleAuthError) -> DestinationError:
        reason = one_line(str(error.args[0]) if error.args else "")
        if isinstance(error, TransportError):
            problem = "no answer (could not get a token for the credentials)"
            return self._failure(what, NoAnswerError(0, problem))
        # `InvalidOperation`: the service refused credentials that cannot be refreshed.
        if not isinstance(error, InvalidOperation) and isinstance(error, DefaultCredentialsError):
            return self._error(f"no usable credentials ({reason}); {self.login}")
        return self._failure(what, HttpError(401, reason))


def _http_error(error: Exception | None) -> HttpError:
    """Return the `HttpError` for a failed call of the client library."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, GoogleAPICallError) and error.code:
        errors = error.errors
        if not errors and isinstance(error.response, requests.Response):
            errors = from_http_response(error.response).errors  # type: ignore[no-untyped-call]
        first = next(iter(errors), None)
        said = [first.get("message"), first.get("reason")] if isinstance(first, dict) else []
        return HttpError(int(error.code), one_line(" ".join(str(part) for part in said if part)))
    if isinstance(error, DataCorruption):
        return HttpError(0, "the content was corrupted on the way")
    if isinstance(error, InvalidResponse):
        return HttpError(int(error.response.status_code), one_line(error.response.reason or ""))
    if isinstance(error, OSError) and not isinstance(error, ValueError):
        return NoAnswerError(0, f"no answer ({failure(error)})")
    return HttpError(502, "an answer that is not understood")

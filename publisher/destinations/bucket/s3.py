"""A release as objects in a bucket of Amazon S3 or an S3-compatible service.

Sources: Amazon S3 User Guide, "Add preconditions to S3 operations with conditional requests",
"Checking object integrity in Amazon S3", "Uploading and copying objects using multipart
upload in Amazon S3" and "Amazon S3 multipart upload limits".
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, BinaryIO

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError

from publisher.destinations.base import Payload, unreadable
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
from publisher.util.http import HttpError, Retry, TransientError, failure, one_line

BLOCK = 1 << 16
SETTINGS = ("AWS_", "BOTO_")
MISSING = ("NoSuchKey", "404", "NotFound")
# ConditionalRequestConflict: another write is in progress.
CHANGED = ("PreconditionFailed", "412", "ConditionalRequestConflict")
REFUSED_CREDENTIALS = (
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
)
NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
INTERRUPTED_BODY = (
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
    FlexibleChecksumError,
)


class S3(Objects):
    """A release below s3://bucket/prefix.

    Files of more than `part` bytes are sent in parts of that size, and the next run resumes
    an unfinished upload. Uploads of others that are older than `stale` are aborted, because
    their invisible parts cost money. Timeouts in seconds.
    """

    part = 64 << 20
    attempts = 5
    connect_timeout = 10.0
    read_timeout = 60.0
    stale = timedelta(days=1)
    login = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run: aws configure"
    permission = (
        "s3:ListBucket and s3:ListBucketMultipartUploads on the bucket, and s3:GetObject,"
        " s3:PutObject, s3:AbortMultipartUpload and s3:ListMultipartUploadParts on its objects"
    )
    creation = "aws s3 mb s3://"
    _secrets: tuple[str | None, ...] = ()

    def check(self) -> None:
        """Verify that the bucket exists and that the credentials grant write access."""
        with self._during(f"checking write access to {self._address}"):
            # Not HeadBucket: it needs the same permission and does not say why it fails.
            client = self._client
            if self._anonymous:
                raise NoCredentialsError
            client.list_objects_v2(**self._bucket, Prefix=self._prefix, MaxKeys=1)
            # This needs write permission but creates no object.
            self._abort_stale("index.json")
            upload = self._client.create_multipart_upload(**self._object("index.json"))
            self._cancel("index.json", upload["UploadId"])

    # Requests

    @cached_property
    def _client(self) -> Any:
        environment = self._environment
        endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        config = Config(
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            retries={"mode": "standard", "total_max_attempts": self.attempts},
            # Other services rarely have a host name per bucket. `publisher serve` does the same.
            s3={"addressing_style": "path"} if endpoint else None,
        )
        with in_os_environ(environment, *SETTINGS):
            session = boto3.session.Session()
            credentials = session.get_credentials()
            if credentials is None:  # a public bucket is readable without credentials
                self._anonymous = True
                config = config.merge(Config(signature_version=UNSIGNED))
            else:
                known = credentials.get_frozen_credentials()
                self._secrets = (known.secret_key, known.token)
            return session.client("s3", endpoint_url=endpoint or None, config=config)

    @property
    def _bucket(self) -> dict[str, str]:
        return {"Bucket": self._bucket_name}

    def _object(self, path: str) -> dict[str, str]:
        return {**self._bucket, "Key": f"{self._prefix}{path}"}

    def _paths(self, start: str) -> Iterable[str]:
        with self._during("listing objects"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(**self._bucket, Prefix=f"{self._prefix}{start}"):
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(self._prefix)

    def _stat(self, path: str) -> Stored | None:
        with self._during(f"looking at {path}"):
            try:
                facts = self._client.head_object(**self._object(path), ChecksumMode="ENABLED")
            except ClientError as error:
                if _code(error) in MISSING:
                    return None
                raise
            return Stored(
                facts["ContentLength"],
                facts["ETag"],
                facts["LastModified"],
                facts["Metadata"].get("sha256", ""),
                # For a multipart upload a suffix states the number of parts.
                facts.get("ChecksumSHA256", "").partition("-")[0],
            )

    def _get(self, path: str) -> tuple[bytes, str] | None:
        # boto3 retries failed requests, but not responses that break off.
        retry = Retry(attempts=self.attempts, first_pause=0.05, longest_pause=20.0)
        with self._during(f"reading {path}"):
            try:
                return retry.run(partial(self._read, path))
            except ClientError as error:
                if _code(error) in MISSING:
                    return None
                raise

    def _read(self, path: str) -> tuple[bytes, str]:
        answer = self._client.get_object(**self._object(path))
        content = bytearray()
        try:
            while block := answer["Body"].read(BLOCK):
                content += block
                if len(content) > MAX_SMALL_FILE:
                    raise self._too_large(path)
        except INTERRUPTED_BODY as error:
            raise TransientError(0, f"no answer ({failure(error)})") from error
        finally:
            answer["Body"].close()
        return bytes(content), answer["ETag"]

    def _store(self, path: str, payload: Payload, expected: str | None) -> None:
        headers = headers_of(path)
        facts = {
            "ContentType": headers.content_type,
            "CacheControl": headers.cache_control,
            "Metadata": {"sha256": payload.sha256},
            "ChecksumAlgorithm": "SHA256",
        }
        condition = {"IfMatch": expected} if expected else {"IfNoneMatch": "*"}
        with self._during(f"sending {path}"), payload.open() as file:
            try:
                if payload.size <= self.part:
                    checksum = {"ChecksumSHA256": payload.digest}
                    place = self._object(path)
                    self._client.put_object(**place, Body=file, **facts, **checksum, **condition)
                else:
                    self._store_in_parts(path, payload, file, facts, condition)
            except ClientError as error:
                code = _code(error)
                if code in CHANGED or (expected and code in MISSING):
                    self._cancel_unfinished(path)
                    raise ObjectChangedError from None
                if code == "NoSuchUpload":
                    self._sessions.remove(path)
                    raise UnknownUploadError from None
                raise

    def _store_in_parts(
        self,
        path: str,
        payload: Payload,
        file: BinaryIO,
        facts: Mapping[str, Any],
        condition: Mapping[str, str],
    ) -> None:
        """Upload the missing parts, and combine all into one object."""
        upload = {**self._object(path), "UploadId": self._upload(path, payload, facts)}
        pages = self._client.get_paginator("list_parts").paginate(**upload)
        there = {part["PartNumber"]: part for page in pages for part in page.get("Parts", ())}
        parts = []
        for number, data in enumerate(iter(partial(file.read, self.part), b""), 1):
            facts_of_part = {"PartNumber": number, "ChecksumSHA256": _sha256(data)}
            part = there.get(number, {})
            if not _part_matches(part, data):
                part = self._client.upload_part(**upload, **facts_of_part, Body=data)
            parts.append({**facts_of_part, "ETag": part["ETag"]})
        self._complete(path, {**upload, "MultipartUpload": {"Parts": parts}}, condition)
        self._sessions.remove(path)

    def _upload(self, path: str, payload: Payload, facts: Mapping[str, Any]) -> str:
        """Return the unfinished upload of this content, or start a new one.

        Only this machine's own uploads can be resumed: the service does not report the
        metadata of an upload, so the content of others is unknown.
        """
        known = self._resumable(path, payload)
        if known is not None:
            return known
        self._abort_stale(path)
        upload = self._client.create_multipart_upload(**self._object(path), **facts)["UploadId"]
        self._sessions.put(path, UnfinishedUpload(sha256=payload.sha256, key=str(upload)))
        return str(upload)

    def _complete(self, path: str, done: Mapping[str, Any], condition: Mapping[str, str]) -> None:
        try:
            self._client.complete_multipart_upload(**done, **condition)
        except ClientError as error:
            if _code(error) != "NotImplemented":
                raise
            # Some services support conditions only for single requests. The manifest, which
            # makes the version exist, is uploaded in one.
            there = self._stat(path)
            if (there.tag if there else None) != condition.get("IfMatch"):
                self._cancel_unfinished(path)
                raise ObjectChangedError from None
            self._client.complete_multipart_upload(**done)

    def _abort_stale(self, path: str) -> None:
        """Abort abandoned uploads to `path`, if the credentials allow listing them."""
        place = self._object(path)
        pages = self._client.get_paginator("list_multipart_uploads")
        before = datetime.now(UTC) - self.stale
        try:
            for page in pages.paginate(**self._bucket, Prefix=place["Key"]):
                for upload in page.get("Uploads", ()):
                    if upload["Key"] == place["Key"] and upload["Initiated"] < before:
                        self._cancel(path, upload["UploadId"])
        except ClientError as error:
            if _status(error) not in (403, 501):
                raise

    def _cancel(self, path: str, key: str) -> None:
        with self._during(f"cancelling an upload to {path}"):
            try:
                self._client.abort_multipart_upload(**self._object(path), UploadId=key)
            except ClientError as error:
                if _code(error) != "NoSuchUpload":
                    raise

    def _digest(self, file: BinaryIO) -> str:
        """Return the SHA-256 of the content, or of the digests of its parts if it has several."""
        parts = iter(partial(file.read, self.part), b"")
        digests = [hashlib.sha256(data).digest() for data in parts] or [hashlib.sha256().digest()]
        whole = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()
        return base64.b64encode(whole).decode()

    @contextmanager
    def _during(self, what: str) -> Iterator[None]:
        """Raise the client library's errors as `DestinationError`."""
        try:
            yield
        except ClientError as error:
            code = _code(error)
            said = f"{code} {error.response.get('Error', {}).get('Message', '')}"
            status = 401 if code in REFUSED_CREDENTIALS else _status(error)
            found = HttpError(status, one_line(said, self._secrets))
            raise self._failure(what, found) from None
        except NO_CREDENTIALS as error:
            reason = one_line(str(error), self._secrets)
            raise self._error(f"no usable credentials ({reason}); {self.login}") from error
        except TransientError as error:
            raise self._failure(what, error) from error
        except (ResponseParserError, KeyError) as error:
            odd = HttpError(502, "an answer that is not understood")
            raise self._failure(what, odd) from error
        except BotoCoreError as error:
            cause = getattr(error, "kwargs", {}).get("error", error)
            none = TransientError(0, f"no answer ({failure(cause)})")
            raise self._failure(what, none) from error
        except OSError as error:
            raise unreadable(error, self._name) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _part_matches(part: Mapping[str, Any], data: bytes) -> bool:
    """Return whether an uploaded part has this content; some services list only its MD5."""
    if part.get("Size") != len(data):
        return False
    if "ChecksumSHA256" in part:
        return bool(part["ChecksumSHA256"] == _sha256(data))
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return bool(part["ETag"].strip('"') == md5)

"""Where a release that is served lies: a directory, or a public bucket."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from publisher.hub.errors import HubError

LARGEST = 1 << 24  # bytes of a small file: index, manifest, page
GOOGLE, AMAZON = "https://storage.googleapis.com", "https://{bucket}.s3.amazonaws.com"


@dataclass(frozen=True)
class Elsewhere:
    """A file that clients get from another address."""

    address: str


class Source(Protocol):
    """A release that can be read. Paths are relative to it and come from checked handles.

    Every method raises `HubError` for what cannot be read.
    """

    @property
    def name(self) -> str:
        """What a person calls it: its path or address."""

    def stamp(self) -> object:
        """Return a value that is another one when the release has changed."""

    def read(self, path: str) -> bytes:
        """Return a small file."""

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""

    def open(self, path: str, size: int) -> BinaryIO | Elsewhere:
        """Return a file of that size, open for reading, or where clients can get it."""


def open_source(where: str, environment: Mapping[str, str]) -> Source:
    """Return the source that a person named: a directory, or an address of a bucket.

    `gs://bucket/prefix` and `s3://bucket/prefix` are read over HTTPS as everybody can, so
    the objects have to be public; any other host is `https://host/prefix`. The variables
    that Google's and Amazon's own clients know (`STORAGE_EMULATOR_HOST`,
    `AWS_ENDPOINT_URL_S3`) lead to another server. Raises `HubError` for what is neither.
    """
    from publisher.hub.directory import DirectorySource
    from publisher.hub.web import WebSource

    scheme, separator, rest = where.partition("://")
    if not separator:
        return DirectorySource(Path(where))
    bucket, _, prefix = rest.partition("/")
    if scheme not in ("gs", "s3", "https", "http"):
        raise HubError(
            f"{where}: no release can be read from {scheme}://; give a directory, or an address"
            " that begins with gs://, s3:// or https://"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.-]+" if scheme in ("gs", "s3") else r"[^@]+", bucket):
        raise HubError(f"{where}: names no bucket or host; give an address like gs://bucket/prefix")
    if scheme == "gs":
        host = environment.get("STORAGE_EMULATOR_HOST") or GOOGLE
        return WebSource(where, _joined(host, bucket, prefix))
    if scheme == "s3":
        other = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        base = _joined(other, bucket) if other else AMAZON.format(bucket=bucket)
        return WebSource(where, _joined(base, prefix))
    return WebSource(where, where.rstrip("/"))


def _joined(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part)

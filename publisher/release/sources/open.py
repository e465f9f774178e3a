"""Opening a source by path or address."""

import re
from collections.abc import Mapping
from pathlib import Path

from publisher.release.errors import ReleaseError
from publisher.release.sources.base import Source
from publisher.release.sources.directory import DirectorySource
from publisher.release.sources.web import WebSource

GOOGLE, AMAZON = "https://storage.googleapis.com", "https://{bucket}.s3.amazonaws.com"


def open_source(where: str, environment: Mapping[str, str]) -> Source:
    """Return the source at a path or an address.

    `gs://bucket/prefix` and `s3://bucket/prefix` are read over HTTPS without credentials, so the
    objects have to be public; any other host is `https://host/prefix`. As with Google's and
    Amazon's own clients, the variables `STORAGE_EMULATOR_HOST` and `AWS_ENDPOINT_URL_S3` in
    `environment` name another server. Raises `ReleaseError` for any other address.
    """
    scheme, separator, rest = where.partition("://")
    if not separator:
        return DirectorySource(Path(where))
    bucket, _, prefix = rest.partition("/")
    if scheme not in ("gs", "s3", "https", "http"):
        raise ReleaseError(
            f"{where}: no release can be read from {scheme}://; give a directory, or an address"
            " that begins with gs://, s3:// or https://"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.-]+" if scheme in ("gs", "s3") else r"[^@]+", bucket):
        raise ReleaseError(
            f"{where}: names no bucket or host; give an address like gs://bucket/prefix"
        )
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

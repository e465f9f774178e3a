"""Downloading an archive."""

import time
from pathlib import Path

from publisher.release.errors import ReleaseError
from publisher.release.sources.base import READING, unreadable
from publisher.util.http import HttpError
from publisher.util.reporter import Reporter

LARGEST = 8 << 30  # bytes of an archive of unknown size
STAGE = "download"


def download(
    address: str,
    target: Path,
    size: int | None,
    subject: str,
    reporter: Reporter,
) -> None:
    """Download an address to `target`.

    `size` is the stated size in bytes; None if it is not known. Raises `ReleaseError` if the
    download fails or is larger.
    """
    from publisher.util.http.download import receive

    part = target.with_name(f"{target.name}.part")
    reporter.started(subject, STAGE, "not on this machine")
    begin = time.monotonic()
    try:
        receive(
            address,
            part,
            largest=LARGEST if size is None else size,
            retry=READING,
            progress=lambda done, _: reporter.progress(subject, STAGE, done, size),
        )
        part.replace(target)
        part.with_name(f"{part.name}.json").unlink()
    except HttpError as error:
        raise unreadable(address, error) from None
    except OSError as error:
        raise ReleaseError(
            f"{target.parent}: cannot be written ({error.strerror or error}); free space, or name"
            " another folder with TMPDIR"
        ) from error
    done = target.stat().st_size
    reporter.finished(subject, STAGE, time.monotonic() - begin, f"{done / 1e6:,.1f} MB")

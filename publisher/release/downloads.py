"""Brings an archive here that lies at an address."""

import time
from pathlib import Path

from publisher.release.errors import ReleaseError
from publisher.release.sources.base import READING, unreadable
from publisher.util.http import HttpError
from publisher.util.reporter import Reporter

LARGEST = 8 << 30  # bytes of an archive that nothing states the size of
STAGE = "download"


def download(
    address: str,
    target: Path,
    size: int | None,
    subject: str,
    reporter: Reporter,
) -> None:
    """Write what an address answers to `target`.

    `size` is what it is stated to have, in bytes; no more are taken than that. Raises
    `ReleaseError` for an answer that is none, breaks off or has more.
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

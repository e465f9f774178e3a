"""Brings an archive here that lies at an address."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from publisher.release.errors import ReleaseError
from publisher.util.http import failure
from publisher.util.reporter import Reporter

PATIENCE = (10, 60)  # seconds to connect, and between two pieces
PIECE = 1 << 20
LARGEST = 8 << 30  # bytes of an archive that nothing states the size of
STAGE = "download"


def download(
    address: str, target: Path, size: int | None, subject: str, reporter: Reporter
) -> None:
    """Write what an address answers to `target`.

    `size` is what it is stated to have, in bytes; no more are taken than that. Raises
    `ReleaseError` for an answer that is none, breaks off or has more.
    """
    limit = LARGEST if size is None else size
    reporter.started(subject, STAGE, "not on this machine")
    begin = time.monotonic()
    done = 0
    try:
        with _answer(address) as response, target.open("wb") as file:
            for piece in response.iter_content(PIECE):
                done += len(piece)
                if done > limit:
                    raise ReleaseError(
                        f"{address}: gives more than the {limit:,} bytes that are expected"
                    )
                file.write(piece)
                reporter.progress(subject, STAGE, done, size)
    except (requests.RequestException, ValueError) as error:
        reason = failure(error) if isinstance(error, requests.RequestException) else error
        raise ReleaseError(
            f"{address}: cannot be downloaded ({reason}); see to the address and the network"
        ) from error
    except OSError as error:
        raise ReleaseError(
            f"{target.parent}: cannot be written ({error.strerror or error}); free space, or name"
            " another folder with TMPDIR"
        ) from error
    reporter.finished(subject, STAGE, time.monotonic() - begin, f"{done / 1e6:,.1f} MB")


@contextmanager
def _answer(address: str) -> Iterator[requests.Response]:
    headers = {"Accept-Encoding": "identity"}  # what is counted and hashed is what comes
    with requests.get(address, timeout=PATIENCE, stream=True, headers=headers) as response:
        if response.status_code != requests.codes.ok:
            raise ReleaseError(
                f"{address}: answers {response.status_code} {response.reason}; see that the"
                " address is right and that everybody may read it"
            )
        yield response

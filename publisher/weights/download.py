"""Downloads of checkpoints that are proven before they are visible.

Source: Google Cloud Storage's description of `x-goog-hash`.
"""

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from publisher.documents.lock import Digest
from publisher.util.http import (
    DEFAULT_RETRY,
    HttpError,
    NoAnswerError,
    Retry,
    TransientError,
    without_secrets,
)
from publisher.weights.digest import CHUNK, digest_file
from publisher.weights.errors import UnreachableError, WeightsError

Progress = Callable[[int, int | None], None]


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
    any other error that a retry cannot cure.
    """
    # A run with nothing to fetch has no use for what this imports.
    from publisher.util.http.download import TooLargeError, receive

    shown, part = without_secrets(url), target.with_name(f"{target.name}.part")

    def tell(line: str) -> None:
        if warn is not None:
            warn(f"{shown}: {line}")

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hashes = receive(url, part, largest=largest, retry=retry, progress=progress, warn=tell)
        return _finish(shown, part, target, hashes, expected, accept)
    except NoAnswerError as error:
        raise UnreachableError(
            f"cannot reach {shown}: {error}. Check the address and the connection, and run again."
        ) from None
    except TransientError as error:
        raise WeightsError(
            f"{shown}: {error}. Run again later: a download goes on from where it stopped."
        ) from None
    except TooLargeError as error:
        raise WeightsError(
            f"{shown}: {error} of a checkpoint of this architecture. Check its path and"
            " architecture in models.yaml."
        ) from None
    except HttpError as error:
        remedy = error.remedy.capitalize() or (
            "Check the address, the checkpoint's path in models.yaml and your access to it"
        )
        raise WeightsError(f"{shown}: {error}. {remedy}.") from None
    except OSError as error:
        raise WeightsError(
            f"{target}: cannot be written ({error.strerror or type(error).__name__}). Make room "
            "or correct the rights, and run again: what came so far is kept."
        ) from None


def _finish(
    shown: str,
    part: Path,
    target: Path,
    hashes: str,
    expected: Digest | None,
    accept: Callable[[Path, Digest], None] | None,
) -> Digest:
    """Prove the part file and give it its name; a file that fails is thrown away."""
    digest = digest_file(part)
    note = part.with_name(f"{part.name}.json")
    try:
        _check_hashes(shown, part, target, hashes)
        if expected is not None and digest != expected:
            raise WeightsError(
                f"{shown}: came as {digest}, expected was {expected}. {target} was not "
                "replaced. Run again if the transfer may have spoiled it; otherwise find out "
                "why the file there is another one."
            )
        if accept is not None:
            accept(part, digest)
    except WeightsError:
        part.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        raise
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(target)
    note.unlink(missing_ok=True)
    return digest


def _check_hashes(shown: str, part: Path, target: Path, header: str) -> None:
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
    with part.open("rb") as file:
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
                f"{shown}: came with {kind} {found}, and the server says {value[:64]}. "
                f"{target} was not replaced. Run again to fetch it anew."
            )

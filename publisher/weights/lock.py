"""Records the digests of checkpoints in `models.lock.yaml` (see `publisher.documents.lock`)."""

from pathlib import Path

from filelock import FileLock

from publisher.documents.lock import Digest, lock_bytes, read_lock
from publisher.util.files import write_whole
from publisher.weights.errors import WeightsError


def record(path: Path, checkpoint_path: str, digest: Digest) -> None:
    """Add the digest of `checkpoint_path` to the lock file at `path`.

    Several processes may do so at once. Raises `DocumentError` if the file is malformed, and
    `WeightsError` if it records another digest of this checkpoint. Only people remove entries.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        digests = read_lock(path)
        known = digests.get(checkpoint_path)
        if known == digest:
            return
        if known is not None:
            raise WeightsError(
                f"{path}: {checkpoint_path} is recorded as {known}, and is now {digest}. "
                "Remove the entry if upstream really replaced the file, then fetch again."
            )
        digests[checkpoint_path] = digest
        write_whole(path, lock_bytes(digests))

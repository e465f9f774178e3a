"""Where weights come from, and the one way they get in."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from publisher.documents.lock import Digest, read_lock
from publisher.util.http import DEFAULT_RETRY, Retry, without_secrets
from publisher.weights.digest import digest_file
from publisher.weights.download import Progress, download
from publisher.weights.errors import UnreachableError, WeightsError
from publisher.weights.lock import record

Kind = Literal["upstream", "mirror", "directory", "synthetic"]

_FORMS = (
    "nothing (upstream), a directory, an http:// or https:// address, gs://bucket/prefix, "
    "or synthetic"
)
_GOOGLE = "https://storage.googleapis.com/"
_ARRAY_OVERHEAD = 64 << 10  # bytes of headers and names around one array
_FILE_OVERHEAD = 1 << 20


@dataclass(frozen=True)
class Source:
    """A place that has checkpoints. `base` is an address that ends in `/`, or a directory."""

    kind: Kind
    base: str

    @property
    def remote(self) -> bool:
        """Whether files have to be downloaded."""
        return self.kind in ("upstream", "mirror")


@dataclass(frozen=True)
class Fetched:
    """A checkpoint on this machine; `synthetic` says that its contents are made up."""

    path: Path
    digest: Digest
    synthetic: bool


def parse_source(text: str | None, upstream: str) -> Source:
    """Return the source that `text`, the value of WEIGHTS, means.

    `upstream` is the address in `models.yaml`, for when `text` is empty. Raises
    `WeightsError` for anything else than a known form.
    """
    home = _address(upstream)
    if home is None:
        raise WeightsError(
            f"upstream {upstream!r} is not an http://, https:// or gs:// address. "
            "Correct it in models.yaml."
        )
    if not text:
        return Source("upstream", home)
    if text == "synthetic":
        return Source("synthetic", "")
    address = _address(text)
    if address is not None:
        return Source("upstream" if address == home else "mirror", address)
    shown = without_secrets(text) if "://" in text else text
    if "://" in text:
        raise WeightsError(f"WEIGHTS={shown} is not an address I know. Give {_FORMS}.")
    directory = Path(text).expanduser()
    if not directory.is_dir():
        raise WeightsError(f"WEIGHTS={shown} is not a directory. Give {_FORMS}.")
    return Source("directory", str(directory.absolute()))


def _address(text: str) -> str | None:
    """Return the HTTP address that `text` means, its path ending in `/`; None if none."""
    try:
        parts = urlsplit(text)
        scheme, host = parts.scheme.lower(), parts.hostname
    except ValueError:
        return None
    if not host:
        return None
    if scheme == "gs":
        return f"{_GOOGLE}{parts.netloc}{parts.path}".rstrip("/") + "/"
    if scheme not in ("http", "https"):
        return None
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/", fragment=""))


def fetch(
    source: Source,
    checkpoint_path: str,
    expected_arrays: Mapping[str, tuple[int, ...]],
    *,
    cache: Path,
    lock_file: Path,
    locked: bool,
    progress: Progress | None = None,
    warn: Callable[[str], None],
    retry: Retry = DEFAULT_RETRY,
) -> Fetched:
    """Bring one checkpoint here, and hold it to `models.lock.yaml`.

    `expected_arrays` are the float32 arrays of its architecture: they bound a download
    and shape synthetic weights. A digest that the lock file has must match; one that it
    lacks is recorded, with a line to `warn`, or refused when `locked`. Synthetic
    contents, wherever they come from, are neither recorded nor compared.

    Downloads lie under `cache`; the files of a directory are used in place. Raises
    `WeightsError` with what to do.
    """
    pure = PurePosixPath(checkpoint_path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in checkpoint_path:
        raise WeightsError(
            f"{checkpoint_path!r} is not a relative path with forward slashes. Correct the "
            "checkpoint's path in models.yaml."
        )
    if source.kind == "synthetic":
        from publisher.weights.synthetic import write_synthetic

        path = cache / "synthetic" / checkpoint_path
        write_synthetic(path, expected_arrays)
        return Fetched(path, digest_file(path), synthetic=True)

    recorded = read_lock(lock_file).get(checkpoint_path)
    lock = _Lock(lock_file, checkpoint_path, recorded, locked)
    if source.kind == "directory":
        fetched = _from_directory(Path(source.base), checkpoint_path, lock)
    else:
        largest = _largest(expected_arrays)
        fetched = _from_address(
            source, checkpoint_path, cache, lock, largest, progress, retry, warn
        )
    if not fetched.synthetic and recorded is None:
        record(lock_file, checkpoint_path, fetched.digest)
        warn(
            f"{checkpoint_path} was not in {lock_file.name}: recorded {fetched.digest}; "
            f"commit {lock_file.name} once you trust it"
        )
    return fetched


def _largest(expected_arrays: Mapping[str, tuple[int, ...]]) -> int:
    """Return the most bytes that a file with these float32 arrays can need."""
    total = _FILE_OVERHEAD
    for shape in expected_arrays.values():
        size = 4
        for length in shape:
            size *= length
        total += size + _ARRAY_OVERHEAD
    return total


@dataclass(frozen=True)
class _Lock:
    """What the lock file demands of one checkpoint."""

    file: Path
    checkpoint_path: str
    recorded: Digest | None
    locked: bool

    def refuse_unrecorded(self) -> None:
        """Raise `WeightsError` when only recorded files are wanted and this is none."""
        if self.locked and self.recorded is None:
            raise WeightsError(
                f"{self.checkpoint_path} is not in {self.file}, and --locked takes only what is. "
                f"Run once without --locked, and commit {self.file.name}."
            )

    def examine(self, path: Path, digest: Digest, origin: str) -> bool:
        """Return whether the file is synthetic; raise `WeightsError` if it is not the recorded.

        `origin` says in messages where the file came from.
        """
        from publisher.weights.npz import open_npz
        from publisher.weights.synthetic import is_synthetic

        if is_synthetic(open_npz(path)):
            return True
        self.refuse_unrecorded()
        if self.recorded is not None and digest != self.recorded:
            raise WeightsError(
                f"{origin} is {digest}, but {self.file.name} records {self.recorded} for "
                f"{self.checkpoint_path}; the old file was left alone. If the file was spoiled "
                "on its way, get it again. If upstream really replaced it, remove the entry from "
                f"{self.file.name} and raise the version in models.yaml."
            )
        return False


def _from_directory(directory: Path, checkpoint_path: str, lock: _Lock) -> Fetched:
    path = directory / checkpoint_path
    if not path.is_file():
        raise WeightsError(
            f"{path}: there is no such file. A directory of weights is laid out as upstream is: "
            f"{checkpoint_path} lies in it under that very path. Put it there, or give another "
            "WEIGHTS."
        )
    digest = digest_file(path)
    return Fetched(path, digest, lock.examine(path, digest, str(path)))


def _from_address(
    source: Source,
    checkpoint_path: str,
    cache: Path,
    lock: _Lock,
    largest: int,
    progress: Progress | None,
    retry: Retry,
    warn: Callable[[str], None],
) -> Fetched:
    target = _cached(source, cache) / checkpoint_path
    if target.is_file():
        digest = digest_file(target)
        if lock.recorded in (None, digest):
            return Fetched(target, digest, lock.examine(target, digest, str(target)))
    lock.refuse_unrecorded()
    parts = urlsplit(source.base)
    url = urlunsplit(parts._replace(path=parts.path + quote(checkpoint_path)))
    shown = without_secrets(url)
    synthetic = False

    def accept(part: Path, digest: Digest) -> None:
        nonlocal synthetic
        try:
            synthetic = lock.examine(part, digest, shown)
        except WeightsError as error:
            # The part file is thrown away: the address is what the user can look at.
            raise WeightsError(str(error).replace(str(part), shown)) from None

    try:
        digest = download(
            url,
            target,
            # Judged by `accept`, which lets synthetic files pass.
            expected=None,
            largest=largest,
            progress=progress,
            retry=retry,
            accept=accept,
            warn=warn,
        )
    except UnreachableError as error:
        reason = str(error).partition(". ")[0]
        raise UnreachableError(
            f"{reason}; give WEIGHTS=/path/to/weights (a directory) or another address, or "
            "rehearse with WEIGHTS=synthetic"
        ) from None
    return Fetched(target, digest, synthetic)


def _cached(source: Source, cache: Path) -> Path:
    if source.kind == "upstream":
        return cache / "upstream"
    return cache / f"mirror-{hashlib.sha256(source.base.encode()).hexdigest()[:12]}"

"""Caches the results of the graph checks, which hold for every archive with the same graph."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from publisher.util.files import json_bytes, write_whole
from publisher.validation.graph import GRAPH
from publisher.validation.graph_checks import GraphSubject
from publisher.validation.report import Check


class GraphCheckCache:
    """The cached checks of one graph, in a file named after everything they depend on.

    `folder` belongs to one version of the code and the toolchain. Without a folder, nothing is
    cached.
    """

    def __init__(self, folder: Path | None, subject: GraphSubject) -> None:
        self._path = folder / f"{_digest(subject)}.json" if folder else None

    def load(self) -> Mapping[str, Check]:
        """Return the cached checks by name; none if the file is missing or unreadable."""
        if self._path is None:
            return {}
        try:
            cached = [Check(**fields) for fields in json.loads(self._path.read_bytes())]
        except (OSError, ValueError, TypeError):
            return {}
        return {check.name: check for check in cached}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this graph's lock, so that only one process at a time checks the graph."""
        if self._path is None:
            yield
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            yield

    def store(self, checks: Iterable[Check]) -> None:
        """Cache the checks unless one of them failed. Call it with the lock held."""
        results = list(checks)
        if self._path is None or any(check.status == "failed" for check in results):
            return
        write_whole(self._path, json_bytes([check.document().as_json() for check in results]))


def _digest(subject: GraphSubject) -> str:
    tolerance = subject.tolerance
    facts = [
        subject.architecture.name,
        subject.head,
        subject.folded,
        subject.input_range,
        [tolerance.absolute, tolerance.relative],
    ]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update((subject.directory / GRAPH).read_bytes())
    return digest.hexdigest()[:32]

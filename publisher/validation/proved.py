"""Keeps what was found of a graph, which is so of every archive that holds the same graph."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from publisher.util.files import json_bytes, write_whole
from publisher.validation.graph import GRAPH
from publisher.validation.graph_checks import Unpacked
from publisher.validation.report import Check


class Proved:
    """The checks that a graph has passed, in a file named after all that they depend on.

    `folder` is for one state of the code and the toolchain. Without one nothing is kept.
    """

    def __init__(self, folder: Path | None, unpacked: Unpacked) -> None:
        self._path = folder / f"{_digest(unpacked)}.json" if folder else None

    def checks(self) -> Mapping[str, Check]:
        """Return what is kept by the name of the check; nothing if the file cannot be read."""
        if self._path is None:
            return {}
        try:
            kept = [Check(**fields) for fields in json.loads(self._path.read_bytes())]
        except (OSError, ValueError, TypeError):
            return {}
        return {check.name: check for check in kept}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process tries the same graph, and keep others waiting inside."""
        if self._path is None:
            yield
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            yield

    def keep(self, checks: Iterable[Check]) -> None:
        """Keep these checks if none of them failed. For use inside of `alone`."""
        found = list(checks)
        if self._path is None or any(check.status == "failed" for check in found):
            return
        write_whole(self._path, json_bytes([check.document().as_json() for check in found]))


def _digest(unpacked: Unpacked) -> str:
    tolerance = unpacked.tolerance
    facts = [
        unpacked.architecture.name,
        unpacked.head,
        unpacked.folded,
        unpacked.input_range,
        [tolerance.absolute, tolerance.relative],
    ]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update((unpacked.directory / GRAPH).read_bytes())
    return digest.hexdigest()[:32]

"""Checks of archives: their digests, and whether they are safe to unpack and run."""

import importlib
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from isal import igzip

from publisher.build.workers import run_alone
from publisher.families import ARCHITECTURES
from publisher.formats.archive import Header
from publisher.validation.archive import archive_is_a_plain_saved_model
from publisher.verify.findings import Finding, counted, proved_unless

GRAPH = "saved_model.pb"
LARGEST_GRAPH = 256 << 20  # bytes
# The errors of reading a damaged gzip stream or tar.
UNREADABLE = (tarfile.TarError, OSError, EOFError, ValueError)

DIGESTS, SAFETY, OPERATIONS = "digest", "archive", "operations"


def digests(
    archives: Mapping[str, Path], found: Mapping[str, str], stated: Mapping[str, tuple[int, str]]
) -> Finding:
    """Compare archives with their stated sizes in bytes and SHA-256.

    `found` are the actual SHA-256. All are by handle.
    """
    problems = []
    for handle, (size, digest) in stated.items():
        there = archives[handle].stat().st_size
        if there != size:
            problems.append(f"{handle}: {there:,} bytes where the manifest states {size:,}")
        elif found[handle] != digest:
            problems.append(f"{handle}: other bytes than the manifest describes")
    many = len(stated) > 1
    manifests = "their manifests state" if many else "its manifest states"
    sums = "" if many else f": SHA-256 {' '.join(found[handle] for handle in stated)}"
    return proved_unless(
        DIGESTS, problems, f"{counted(len(stated), 'archive')} as {manifests}{sums}"
    )


def safety(archives: Mapping[str, Path]) -> Finding:
    """Check that each archive is a complete, undamaged SavedModel and nothing else."""
    problems = []
    for handle, path in archives.items():
        check = archive_is_a_plain_saved_model(path)
        if check.status == "failed":
            problems.append(f"{handle}: {check.summary}")
    words = "plain SavedModels" if len(archives) > 1 else "a plain SavedModel"
    return proved_unless(SAFETY, problems, f"{words}: no links, nothing that leads out, undamaged")


def operations(archives: Mapping[str, Path]) -> Finding:
    """Check, in a process with TensorFlow, that the graphs hold only allowed operations."""
    counts = run_alone(inspect_graphs, dict(archives))
    problems = [f"{handle}: {', '.join(found)}" for handle, (_, found) in counts.items() if found]
    total = sum(count for count, _ in counts.values())
    return proved_unless(
        OPERATIONS,
        problems,
        f"{total:,} in the graph, none that reads files, opens connections or runs Python",
    )


def inspect_graphs(archives: Mapping[str, Path]) -> dict[str, tuple[int, list[str]]]:
    """Worker task: count the operations of each archive's graph, and name the forbidden ones."""
    from google.protobuf.message import DecodeError

    from publisher.validation.operations import forbidden_operations

    packages = {architecture.package for architecture in ARCHITECTURES.values()}
    allowed: set[str] = set()
    for package in packages:
        network = importlib.import_module(f"{package}.network")
        allowed |= network.NETWORK_OPERATIONS | network.FOLDED_NETWORK_OPERATIONS
    found = {}
    for handle, path in archives.items():
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder, GRAPH)
            problem = _extract_graph(path, graph)
            try:
                found[handle] = (0, [problem]) if problem else forbidden_operations(graph, allowed)
            except DecodeError:
                found[handle] = (0, [f"{GRAPH} holds no graph"])
    return found


def _extract_graph(archive: Path, target: Path) -> str:
    """Write the archive's graph to `target`; return an error message, or an empty text."""
    try:
        with unpacked(archive) as tar:
            for member in tar:
                if member.name == GRAPH and member.isfile():
                    if member.size > LARGEST_GRAPH:
                        return f"{GRAPH} has {member.size:,} bytes, more than {LARGEST_GRAPH:,}"
                    content: IO[bytes] | None = tar.extractfile(member)
                    target.write_bytes(content.read() if content else b"")
                    return ""
    except UNREADABLE as error:
        return f"cannot be read as a compressed tar: {error}"
    return f"{GRAPH} is missing"


@contextmanager
def unpacked(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive as a stream. Opening and reading it may raise one of `UNREADABLE`."""
    with (
        igzip.open(archive, "rb") as file,  # type: ignore[no-untyped-call]
        tarfile.open(fileobj=file, mode="r|", tarinfo=Header) as tar,
    ):
        yield tar

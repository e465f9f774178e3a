"""Builds archives again from the upstream weights, and compares them byte for byte."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

from publisher.build import engine
from publisher.build.engine import Key
from publisher.build.stages import Run, tasks_of, toolchain
from publisher.build.workers import Workers
from publisher.documents.manifest import Manifest
from publisher.documents.record import Record
from publisher.errors import PublisherError
from publisher.util.http import without_secrets
from publisher.util.reporter import Reporter, Silent
from publisher.verify.archives import UNREADABLE, unpacked
from publisher.verify.findings import SHOWN, Finding, failed, proved_unless
from publisher.verify.targets import Target

REBUILD = "rebuild"
BLOCK = 1 << 20
STAGES = ("fetch", "convert", "package")


def rebuild(run: Run, target: Target) -> Finding:
    """Build each archive again, in the run's build folder, and compare all bytes.

    The registry has to list the handles. A failure names what differs: weights, toolchain,
    members. Weights have to match the lock file beside the registry, which is not changed.
    """
    known = {variant.handle: variant for variant in run.registry.variants}
    missing = [handle for handle in target.archives if handle not in known]
    if missing:
        return failed(
            REBUILD,
            f"cannot be made: {run.settings.registry_file.name} does not list"
            f" {', '.join(missing)}; give the one that it was published from with --registry",
        )
    run = _with_own_lock_file(run)
    chosen = [known[handle] for handle in target.archives]
    todo = {
        key: replace(task, after=())
        for key, task in tasks_of(run, chosen).items()
        if key.stage in STAGES and (key.stage == "fetch" or key.subject in target.archives)
    }
    run.workers = Workers(run.settings.jobs)
    try:
        found = engine.run(todo, run.reporter, jobs=run.settings.jobs, memory=run.settings.memory)
    finally:
        run.workers.close()
    problems = []
    for variant in chosen:
        weights = found[Key("fetch", variant.checkpoint)]
        packed = found[Key("package", variant.handle)]
        problem = _problem(target, variant.handle, weights, packed)
        if problem:
            problems.append(f"{variant.handle}: {problem}")
    base = without_secrets(run.source.base) if run.source.remote else run.source.base
    source = f"the weights in {base}" if base else f"{run.source.kind} weights"
    return proved_unless(REBUILD, problems, f"made again from {source}, byte for byte the same")


class _WithoutWarnings(Silent):
    """Drops warnings, which would be about a build folder that is about to be deleted."""

    def __init__(self, reporter: Reporter) -> None:
        self.started = reporter.started  # type: ignore[method-assign]
        self.progress = reporter.progress  # type: ignore[method-assign]
        self.finished = reporter.finished  # type: ignore[method-assign]
        self.failed = reporter.failed  # type: ignore[method-assign]


def _with_own_lock_file(run: Run) -> Run:
    """Return the run with a copy of its lock file, so that it does not change the original."""
    settings = run.settings
    settings.build.mkdir(parents=True, exist_ok=True)
    copied = replace(settings, registry_file=settings.build / settings.registry_file.name)
    if settings.lock_file.is_file():
        shutil.copyfile(settings.lock_file, copied.lock_file)
    return replace(run, settings=copied, reporter=_WithoutWarnings(run.reporter))


def _problem(
    target: Target,
    handle: str,
    weights: Record | PublisherError,
    packed: Record | PublisherError,
) -> str:
    """Return what differs; empty if nothing does."""
    for result in (weights, packed):
        if isinstance(result, PublisherError):
            return f"cannot be made again: {result}"
    assert isinstance(weights, Record)  # noqa: S101  the loop has returned otherwise
    assert isinstance(packed, Record)  # noqa: S101
    if packed.result["sha256"] == target.digests[handle]:
        return ""
    (built,) = packed.outputs
    reasons = _reasons(target.manifests.get(handle), weights.result["sha256"])
    reasons.append(_differing_members(target.archives[handle], Path(built)))
    return f"other bytes ({'; '.join(reasons)})"


def _reasons(manifest: Manifest | None, weights: str) -> list[str]:
    """Return which weights and tools differ from those in the manifest."""
    if manifest is None:
        return []
    reasons = [] if weights == manifest.checkpoint.sha256 else ["other weights"]
    now = toolchain()
    return reasons + [
        f"{name} {manifest.toolchain.get(name, 'unknown')} there, {now[name]} here"
        for name in now
        if manifest.toolchain.get(name) != now[name]
    ]


def _differing_members(one: Path, other: Path) -> str:
    first, second = _members(one), _members(other)
    names = sorted(first.keys() | second.keys())
    names = [name for name in names if first.get(name) != second.get(name)]
    if not names:
        return "the same members, packed in another way"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"other members: {', '.join(names[:SHOWN])}{more}"


def _members(archive: Path) -> dict[str, str]:
    """Return the SHA-256 of each member, up to the first that cannot be read."""
    found = {}
    try:
        with unpacked(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                digest = hashlib.sha256()
                while content is not None and (block := content.read(BLOCK)):
                    digest.update(block)
                found[member.name] = digest.hexdigest()
    except UNREADABLE:
        pass
    return found

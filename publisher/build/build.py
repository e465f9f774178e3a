"""Brings variants up to date; a failure blocks its variant and no other."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from publisher.build import engine
from publisher.build.engine import Key
from publisher.build.stages import Run, tasks_of
from publisher.build.workers import Workers
from publisher.documents.manifest import MANIFEST, Manifest, read_manifest
from publisher.documents.record import Record
from publisher.errors import PublisherError
from publisher.registry import Variant

IN_WORKERS = ("expect", "convert", "validate", "try")


class BuildError(PublisherError):
    """The build folder cannot be used."""


@dataclass(frozen=True)
class Built:
    """A variant that passed all stages; `folder` holds its archive, manifest and page."""

    variant: Variant
    folder: Path
    manifest: Manifest


@dataclass(frozen=True)
class Failed:
    """A variant that is blocked by `error`, whose message is one line."""

    variant: Variant
    error: PublisherError


@dataclass(frozen=True)
class Stale:
    """A variant that would be built from `stage` on, and the reason."""

    variant: Variant
    stage: str
    reason: str


@contextmanager
def build_lock(build: Path) -> Iterator[None]:
    """Lock the build folder. Raises `BuildError` if another process holds the lock."""
    try:
        build.mkdir(parents=True, exist_ok=True)
        lock = FileLock(build / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise BuildError(
            f"{build}: another publisher is at work here; wait for it, or choose another folder"
            " with --build-dir"
        ) from error
    except OSError as error:
        raise BuildError(
            f"{build}: cannot be written ({error.strerror}); choose another folder with --build-dir"
        ) from error
    try:
        yield
    finally:
        lock.release()


def build(run: Run, variants: Sequence[Variant]) -> list[Built | Failed]:
    """Bring every variant up to date, in as many processes as the settings allow."""
    todo = tasks_of(run, variants)
    planned = engine.dry_run(todo)
    stale = [found for found in planned.values() if isinstance(found, engine.StaleTask)]
    done = {key: found for key, found in planned.items() if isinstance(found, Record)}
    run.workers = Workers(run.settings.jobs)
    try:
        if any(found.stage in ("fetch", *IN_WORKERS) for found in stale):
            run.workers.warm_up(min(run.settings.jobs, len(stale)))
        jobs, memory = run.settings.jobs, run.settings.memory
        found = engine.run(todo, run.reporter, jobs=jobs, memory=memory, done=done)
    finally:
        run.workers.close()
    _warn_of_unchosen(run, variants, found)
    results: list[Built | Failed] = []
    for variant in variants:
        result = found[Key("try", variant.handle)]
        if isinstance(result, Record):
            results.append(_built(run, variant, found))
        else:
            results.append(Failed(variant, result))
    return results


def dry_run(run: Run, variants: Sequence[Variant]) -> list[Built | Stale | Failed]:
    """Return what `build` would do, as far as that is known in advance; run nothing."""
    found = engine.dry_run(tasks_of(run, variants))
    results: list[Built | Stale | Failed] = []
    for variant in variants:
        result = found[Key("try", variant.handle)]
        if isinstance(result, Record):
            results.append(_built(run, variant, found))
        elif isinstance(result, engine.StaleTask):
            results.append(Stale(variant, result.stage, result.reason))
        else:
            results.append(Failed(variant, result))
    return results


def _warn_of_unchosen(
    run: Run, variants: Sequence[Variant], found: Mapping[Key, Record | PublisherError]
) -> None:
    """Warn of failed variants that were only built to check chosen ones against them."""
    chosen = {variant.handle for variant in variants}
    shown = {str(found[Key("try", handle)]) for handle in chosen}
    for key, result in found.items():
        unchosen = key.stage == "validate" and key.subject not in chosen
        if unchosen and isinstance(result, PublisherError) and str(result) not in shown:
            run.reporter.warn(str(result))


def _built(run: Run, variant: Variant, found: Mapping[Key, object]) -> Built:
    rendered = found[Key("render", variant.handle)]
    assert isinstance(rendered, Record)  # noqa: S101  later stages need it
    folder = run.folder(variant)
    path = folder / MANIFEST
    return Built(variant, folder, read_manifest(path.read_bytes(), str(path)))

"""One rehearsal: prepare its folder, run the release workflow, and say what came of each job."""

import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from publisher.rehearsal.actions import git, tracked_files
from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Value
from publisher.rehearsal.prepare import prepare_registry, throwaway_key
from publisher.rehearsal.run import Rehearsal, Result, inputs_of, run_workflow
from publisher.rehearsal.settings import RehearsalSettings
from publisher.rehearsal.workflow import Event, read_workflow
from publisher.util.reporter import Reporter

RELEASE = ".github/workflows/release.yml"
# The variables of this machine that steps see. A GitHub runner has them too.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")


@dataclass(frozen=True)
class Rehearsed:
    """The result of each job, the folder of each destination, and what was not rehearsed."""

    results: Mapping[str, Result]
    failed: bool
    places: Mapping[str, Path]
    not_rehearsed: tuple[str, ...]


def rehearse(
    project: Path,
    registry: Path,
    settings: RehearsalSettings,
    environment: Mapping[str, str],
    reporter: Reporter,
) -> Rehearsed:
    """Run the release workflow of the checkout `project` on this machine, without GitHub.

    Raises `RehearsalError` for a workflow that cannot be rehearsed, and if another rehearsal
    runs in the same folder.
    """
    work = settings.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / ".lock", timeout=0):
            return _rehearse(project, registry, work, settings, environment, reporter)
    except Timeout as error:
        raise RehearsalError(
            f"{work}: another rehearsal is running here; wait for it to end"
        ) from error


def _rehearse(
    project: Path,
    registry: Path,
    work: Path,
    settings: RehearsalSettings,
    environment: Mapping[str, str],
    reporter: Reporter,
) -> Rehearsed:
    workflow = read_workflow(project, RELEASE)
    event = "workflow_dispatch" if settings.tag is None else "push"
    if event not in workflow.on:
        raise RehearsalError(f"{RELEASE}: does not run on {event}; add it under on:")
    github = _github(project, event, settings.tag)
    _clear(work, again=settings.again, further=settings.further)
    places = prepare_registry(registry, work, settings.to, small=settings.small)
    untracked = git(project, "ls-files", "--others", "--exclude-standard")
    if untracked:
        reporter.warn(
            f"git does not track {len(untracked)} files here, for example {untracked[0]};"
            f" jobs only get the {len(tracked_files(project))} tracked files"
        )
    rehearsal = Rehearsal(
        project,
        work,
        _environment(environment, github),
        {
            "github": {**github, "event": {"repository": {"private": False}}},
            "vars": _variables(work, settings.weights, places),
            "secrets": defaultdict(str),
        },
        reporter,
        settings.again,
    )
    given: dict[str, Value] = {
        "globs": " ".join(settings.globs),
        "destinations": " ".join(settings.to),
        "all-or-nothing": settings.all_or_nothing,
        "dry-run": settings.dry_run,
    }
    # A push has no inputs, so GitHub treats each as empty.
    declared = workflow.on.get("workflow_dispatch", Event())
    inputs = inputs_of(declared, given if settings.tag is None else {})
    results = run_workflow(rehearsal, workflow, inputs)
    failed = any(one.status == "failure" for one in results.values())
    return Rehearsed(rehearsal.results, failed, places, tuple(rehearsal.not_rehearsed))


def _clear(work: Path, *, again: bool, further: bool) -> None:
    """Remove the files of earlier rehearsals that this one must not see."""
    # Ignore errors: a process of a killed run may still write to a job's folder.
    shutil.rmtree(work / "jobs", ignore_errors=True)
    for name in () if again else ("artifacts", "logs", "done"):
        shutil.rmtree(work / name, ignore_errors=True)
    if not (again or further):
        shutil.rmtree(work / "destinations", ignore_errors=True)
        (work / "key.pem").unlink(missing_ok=True)


def _variables(work: Path, weights: str, places: Mapping[str, Path]) -> Mapping[str, Value]:
    """Return the workflow's variables as docs/releasing.md describes them; others are empty."""
    if weights != "synthetic" and "://" not in weights:
        weights = str(Path(weights).absolute())
    releases = [str(path) for path in places.values() if not (path / "assets").exists()]
    return defaultdict(
        str,
        WEIGHTS=weights,
        DESTINATIONS=" ".join(places),
        SIGN=f"--key {throwaway_key(work / 'key.pem')}",
        RELEASE=releases[0] if releases else "",
    )


def _github(project: Path, event: str, tag: str | None) -> dict[str, str]:
    return {
        "event_name": event,
        "ref": f"refs/tags/{tag}" if tag else "refs/heads/main",
        "ref_name": tag or "main",
        "repository": "nobody/rehearsal",
        "sha": git(project, "rev-parse", "HEAD")[0],
        "run_number": "1",
    }


def _environment(environment: Mapping[str, str], github: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of every step.

    GITHUB_ACTIONS is not set, because provenance would then name GitHub as the builder.
    """
    return {
        **{name: environment[name] for name in PASSED_ON if name in environment},
        **{f"GITHUB_{name.upper()}": value for name, value in github.items()},
        "CI": "true",
    }

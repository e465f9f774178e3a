"""`python -m publisher.rehearsal`."""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout

from publisher.cli import console
from publisher.errors import PublisherError
from publisher.rehearsal.checkout import commit, tracked_files, untracked_files
from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Scope, Settable
from publisher.rehearsal.run import Rehearsal, Result, inputs_of, read_record, run_workflow
from publisher.rehearsal.stage import throw_away_key, write_stage
from publisher.rehearsal.steps import Place
from publisher.rehearsal.workflow import Workflow, read_workflow

RELEASE = ".github/workflows/release.yml"
REPOSITORY = "nobody/rehearsal"
# What a machine of GitHub has too; nothing else of this one gets in.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")


@click.command()
@click.argument("globs", nargs=-1, metavar="[HANDLE]...")
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/rehearsal"))
@click.option("--registry", type=click.Path(path_type=Path), default=Path("models.yaml"))
@click.option("--weights", default="synthetic", show_default=True, help="As for `publish`.")
@click.option("--to", multiple=True, metavar="NAME", help="A destination; default: all.")
@click.option("--small", is_flag=True, help="Put small stand-ins in the place of the networks.")
@click.option("--tag", help="As if this tag had been pushed; default: started by hand.")
@click.option("--all-or-nothing", is_flag=True, help="The workflow's input.")
@click.option("--dry-run", is_flag=True, help="The workflow's input.")
@click.option(
    "--again", is_flag=True, help="Run again what did not succeed, as `Re-run failed jobs` does."
)
@click.option(
    "--next", "further", is_flag=True, help="A further release, to what the last one published."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress, only results and errors.")
def main(
    globs: tuple[str, ...],
    work: Path,
    registry: Path,
    weights: str,
    to: tuple[str, ...],
    small: bool,
    tag: str | None,
    all_or_nothing: bool,
    dry_run: bool,
    again: bool,
    further: bool,
    quiet: bool,
) -> None:
    """Run the release workflow here, without GitHub.

    Run it in the root of the checkout. What is published goes to folders in --work, under
    the names of the destinations in models.yaml.
    """
    given = {"globs": " ".join(globs), "destinations": " ".join(to)}
    given |= {"all-or-nothing": all_or_nothing, "dry-run": dry_run}  # type: ignore[dict-item]
    if tag is not None and (globs or all_or_nothing or dry_run):
        raise click.UsageError("a tag has no inputs; leave out --tag, or the others")
    if again and further:
        raise click.UsageError("--again goes on with a run and --next begins one; give one")
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / ".lock", timeout=0):
            status = _rehearse(
                work.resolve(), registry, weights, to, small, tag, given, again, further, quiet
            )
    except Timeout:
        console.print_error(f"{work}: another rehearsal is at work here; wait for it")
        sys.exit(1)
    except PublisherError as error:
        for line in str(error).splitlines():
            console.print_error(line)
        sys.exit(1)
    except OSError as error:
        where = error.filename or work
        console.print_error(f"{where}: {error.strerror or error}; see to space and permissions")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print_error("interrupted; --again goes on")
        sys.exit(130)
    sys.exit(status)


def _rehearse(
    work: Path,
    registry: Path,
    weights: str,
    to: Sequence[str],
    small: bool,
    tag: str | None,
    given: dict[str, Any],
    again: bool,
    further: bool,
    quiet: bool,
) -> int:
    project = Path.cwd()
    workflow = read_workflow(project, RELEASE)
    event = "workflow_dispatch" if tag is None else "push"
    if event not in workflow.events:
        raise RehearsalError(f"{RELEASE}: is not on: {event}")
    count = len(tracked_files(project))
    _clear(work, ["overlay", "jobs"])
    if not again:
        _clear(work, ["artifacts", "logs", "run.json"])
    if not (again or further):
        _clear(work, ["destinations", "key.pem"])
    places = write_stage(registry, work, to, small=small)
    left = untracked_files(project)
    if left and not quiet:
        console.print_warning(
            f"git does not track {len(left)} files here, for example {left[0]}; a machine of"
            f" GitHub would have the {count} others only"
        )
    variables = _variables(work, weights, places)
    with console.Commentary(quiet=quiet) as commentary:
        rehearsal = Rehearsal(
            place=Place(
                project,
                work / "overlay",
                work / "jobs",
                work / "artifacts",
                work / "logs",
                _environment(event, tag, commit(project), workflow),
            ),
            scope=Scope(
                {
                    "github": _github(event, tag, commit(project)),
                    "vars": variables,
                    "secrets": Settable(),
                }
            ),
            reporter=commentary,
            record=work / "run.json",
            before=read_record(work / "run.json") if again else {},
        )
        begin = time.monotonic()
        results = run_workflow(rehearsal, workflow, _inputs(workflow, event, given))
        seconds = time.monotonic() - begin
    _conclude(rehearsal, places, seconds)
    return int(any(one.status == "failure" for one in results.values()))


def _clear(work: Path, names: Sequence[str]) -> None:
    for name in names:
        if (work / name).is_dir():
            # What a killed run started may still be at work in a job's folder.
            shutil.rmtree(work / name, ignore_errors=name == "jobs")
        else:
            (work / name).unlink(missing_ok=True)


def _variables(work: Path, weights: str, places: Any) -> Settable:
    """Return the variables that docs/releasing.md tells people to set, for this machine."""
    if weights != "synthetic" and "://" not in weights:
        weights = str(Path(weights).absolute())
    releases = [path for path in places.values() if not (path / "assets").exists()]
    return Settable(
        WEIGHTS=weights,
        DESTINATIONS=" ".join(places),
        SIGN=f"--key {throw_away_key(work / 'key.pem')}",
        RELEASE=str(releases[0]) if releases else "",
    )


def _inputs(workflow: Workflow, event: str, given: dict[str, Any]) -> dict[str, Any]:
    declared = workflow.inputs.get("workflow_dispatch", {})
    if event == "push":  # it has none; GitHub takes each as empty
        return dict.fromkeys(declared)
    return inputs_of(declared, {name: value for name, value in given.items() if value}, RELEASE)


def _github(event: str, tag: str | None, sha: str) -> dict[str, Any]:
    return {
        "event_name": event,
        "event": {"repository": {"private": False}},
        "ref": f"refs/tags/{tag}" if tag else "refs/heads/main",
        "ref_name": tag or "main",
        "repository": REPOSITORY,
        "sha": sha,
        "run_number": "1",
        "token": "",
    }


def _environment(event: str, tag: str | None, sha: str, workflow: Workflow) -> dict[str, str]:
    """Return the variables that every step gets.

    GITHUB_ACTIONS is not among them: this is not GitHub, and provenance would say that it is.
    """
    github = _github(event, tag, sha)
    named = ("event_name", "ref", "ref_name", "repository", "sha", "run_number")
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **{f"GITHUB_{name.upper()}": github[name] for name in named},
        "GITHUB_RUN_ID": "1",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_WORKFLOW": workflow.path,
        "CI": "true",
    }


def _conclude(rehearsal: Rehearsal, places: Any, seconds: float) -> None:
    def row(name: str, result: Result) -> list[str]:
        note = "as in the last run" if result.again else result.message.splitlines()[0:1]
        return [name, result.status, note if isinstance(note, str) else "".join(note)]

    console.print_table(
        ["JOB", "RESULT", "NOTE"],
        [row(name, result) for name, result in rehearsal.results.items()],
    )
    console.print_line(f"\nrehearsed in {console.duration(seconds)}; what was published is in:")
    for name, path in places.items():
        console.print_line(f"  {name}: {path}")
    if rehearsal.passed_over:
        console.print_line("not rehearsed:")
        for what in rehearsal.passed_over:
            console.print_line(f"  {what}")
    for result in rehearsal.results.values():
        if result.message:
            console.print_error(result.message)


if __name__ == "__main__":
    main()

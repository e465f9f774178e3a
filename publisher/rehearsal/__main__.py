"""`python -m publisher.rehearsal`."""

import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from filelock import FileLock, Timeout

from publisher.cli import console
from publisher.errors import PublisherError
from publisher.rehearsal.actions import git, tracked_files
from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Value
from publisher.rehearsal.prepare import prepare_registry, throwaway_key
from publisher.rehearsal.run import Rehearsal, inputs_of, run_workflow
from publisher.rehearsal.workflow import Event, read_workflow

RELEASE = ".github/workflows/release.yml"
# The variables of this machine that steps see. A GitHub runner has them too.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")


@click.command()
@click.argument("globs", nargs=-1, metavar="[HANDLE]...")
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/rehearsal"))
@click.option("--registry", type=click.Path(path_type=Path), default=Path("models.yaml"))
@click.option("--weights", default="synthetic", show_default=True, help="As for `publish`.")
@click.option("--to", multiple=True, metavar="NAME", help="A destination; default: all.")
@click.option("--small", is_flag=True, help="Replace the networks by small stand-ins.")
@click.option("--tag", help="Run as if this tag had been pushed; default: started by hand.")
@click.option("--all-or-nothing", is_flag=True, help="The workflow's input.")
@click.option("--dry-run", is_flag=True, help="The workflow's input.")
@click.option(
    "--again", is_flag=True, help="Rerun the jobs that did not succeed, like `Re-run failed jobs`."
)
@click.option(
    "--next", "further", is_flag=True, help="Rehearse the next release, on top of the last one."
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress, only results and errors.")
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
    """Run the release workflow on this machine, without GitHub.

    Run it in the root of the checkout. It publishes to folders in --work, named after the
    destinations in models.yaml.
    """
    if tag is not None and (globs or all_or_nothing or dry_run):
        raise click.UsageError("a pushed tag has no inputs; leave out --tag, or the inputs")
    if again and further:
        raise click.UsageError("--again continues a run and --next starts one; give only one")
    given: dict[str, Value] = {"globs": " ".join(globs), "destinations": " ".join(to)}
    given |= {"all-or-nothing": all_or_nothing, "dry-run": dry_run}
    work, project = work.absolute(), Path.cwd()
    with _errors_reported(work), console.Commentary(quiet=quiet) as commentary:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / ".lock", timeout=0):
            workflow = read_workflow(project, RELEASE)
            event = "workflow_dispatch" if tag is None else "push"
            if event not in workflow.on:
                raise RehearsalError(f"{RELEASE}: does not run on {event}; add it under on:")
            github = _github(project, event, tag)
            _clear(work, again=again, further=further)
            places = prepare_registry(registry, work, to, small=small)
            untracked = git(project, "ls-files", "--others", "--exclude-standard")
            if untracked and not quiet:
                commentary.warn(
                    f"git does not track {len(untracked)} files here, for example {untracked[0]};"
                    f" jobs only get the {len(tracked_files(project))} tracked files"
                )
            rehearsal = Rehearsal(
                project,
                work,
                _environment(github),
                {
                    "github": {**github, "event": {"repository": {"private": False}}},
                    "vars": _variables(work, weights, places),
                    "secrets": defaultdict(str),
                },
                commentary,
                again,
            )
            # A push has no inputs, so GitHub treats each as empty.
            declared = workflow.on.get("workflow_dispatch", Event())
            inputs = inputs_of(declared, given if tag is None else {})
            begin = time.monotonic()
            results = run_workflow(rehearsal, workflow, inputs)
            seconds = time.monotonic() - begin
    _conclude(rehearsal, places, seconds)
    sys.exit(any(one.status == "failure" for one in results.values()))


@contextmanager
def _errors_reported(work: Path) -> Iterator[None]:
    """Print an error and exit with its status instead of raising it."""
    status = 1
    try:
        yield
        return
    except Timeout:
        console.print_error(f"{work}: another rehearsal is running here; wait for it to end")
    except PublisherError as error:
        for line in str(error).splitlines():
            console.print_error(line)
    except OSError as error:
        where = error.filename or work
        console.print_error(f"{where}: {error.strerror or error}; check space and permissions")
    except KeyboardInterrupt:
        console.print_error("interrupted; --again continues the run")
        status = 130
    sys.exit(status)


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


def _environment(github: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of every step.

    GITHUB_ACTIONS is not set, because provenance would then name GitHub as the builder.
    """
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **{f"GITHUB_{name.upper()}": value for name, value in github.items()},
        "CI": "true",
    }


def _conclude(rehearsal: Rehearsal, places: Mapping[str, Path], seconds: float) -> None:
    """Print the results of the jobs, and the parts of the workflow that were not rehearsed."""
    rows = []
    for name, result in rehearsal.results.items():
        note = "as in the last run" if result.again else result.message.partition("\n")[0]
        rows.append([name, result.status, note])
    console.print_table(["JOB", "RESULT", "NOTE"], rows)
    console.print_line(f"\nrehearsed in {console.duration(seconds)}; published to:")
    for name, path in places.items():
        console.print_line(f"  {name}: {path}")
    if rehearsal.not_rehearsed:
        console.print_line("\n  ".join(["not rehearsed:", *rehearsal.not_rehearsed]))
    for result in rehearsal.results.values():
        if result.message:
            console.print_error(result.message)


if __name__ == "__main__":
    main()

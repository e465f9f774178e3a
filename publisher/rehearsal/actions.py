"""What actions bring into a job's folder and keep of it, as copies of files.

Source: the README files of actions/checkout, actions/upload-artifact and
actions/download-artifact. An argument that is not known here is an error.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from publisher.rehearsal.errors import RehearsalError, StepError

VENV, READY = ".venv", ".venv/.ready"  # the second is what make looks at
PINNED = ("requirements.lock", "pyproject.toml")
# Actions that have nothing to do here, and why.
IDLE = {
    "actions/setup-python": "the environment of this checkout is linked",
    "actions/cache": "nothing is kept between jobs here",
}
# The arguments of the others; some change nothing here.
ARGUMENTS = {
    "actions/checkout": {"persist-credentials"},
    "actions/upload-artifact": {
        *("name", "path", "if-no-files-found", "overwrite"),
        *("compression-level", "retention-days"),
    },
    "actions/download-artifact": {"pattern", "path", "merge-multiple"},
}


def act(
    action: str, arguments: Mapping[str, str], where: str, project: Path, work: Path, target: Path
) -> str:
    """Do what an action does in the folder `target`, and return what was done.

    It is one of `IDLE` or `ARGUMENTS`. Raises `StepError` where the action would fail, and
    `RehearsalError` for an argument that is not known.
    """
    if action in IDLE:
        return IDLE[action]
    for name in arguments.keys() - ARGUMENTS[action]:
        raise RehearsalError(f"{where}: the argument {name} is not rehearsed")
    if action == "actions/checkout":
        return _check_out(project, work / "overlay", target)
    store = work / "artifacts"
    if action == "actions/upload-artifact":
        return _upload(store, target, arguments, where)
    return _download(store, target, arguments)


def git(project: Path, *arguments: str) -> list[str]:
    """Return the lines that git says of a checkout. Raises `RehearsalError` if it fails."""
    command = ["git", "-C", str(project), "-c", "core.quotePath=false", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RehearsalError(
            f"{project}: {done.stderr.strip()}; git says what a machine of GitHub would have,"
            " so run where the project was cloned to"
        )
    return done.stdout.splitlines()


def tracked_files(project: Path) -> list[str]:
    """Return the paths of the files that git tracks and that are there."""
    return [path for path in git(project, "ls-files") if os.path.lexists(project / path)]


def _check_out(project: Path, overlay: Path, target: Path) -> str:
    """Copy the tracked files as they are now, with the files of `overlay` on top.

    The environment of the project is linked, so that `make` has nothing to install.
    """
    if not (project / READY).exists():
        raise RehearsalError(f"{project / VENV}: is not complete; run: make install")
    paths = tracked_files(project)
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / path, target / path, follow_symlinks=False)
    if overlay.exists():
        shutil.copytree(overlay, target, dirs_exist_ok=True)
    # Not newer than the environment, which make would empty and install anew otherwise.
    made = (project / READY).stat().st_mtime_ns
    for name in PINNED:
        if (target / name).exists():
            os.utime(target / name, ns=(made, made))
    (target / VENV).symlink_to((project / VENV).resolve())
    return f"{len(paths)} files that git tracks"


def _upload(store: Path, workspace: Path, arguments: Mapping[str, str], where: str) -> str:
    """Keep a folder of a job without its hidden files."""
    name, path = arguments.get("name", "artifact"), arguments.get("path", "")
    if not path or (workspace / path).is_file() or set("*?[\n") & set(path):
        raise RehearsalError(f"{where}: path: {path!r} is not rehearsed; name one folder")
    if not name or set('":<>|*?\r\n\\/') & set(name):
        raise StepError(f"{where}: {name!r} cannot be the name of an artifact")
    if not any(found.is_file() for found in (workspace / path).rglob("*")):
        if arguments.get("if-no-files-found") == "error":
            raise StepError(f"{where}: there is nothing in {path}")
        return f"nothing in {path}, so {name} is not kept"
    if (store / name).exists():
        if arguments.get("overwrite") != "true":
            raise StepError(f"{where}: an artifact {name} is there; add overwrite: true")
        shutil.rmtree(store / name)
    _copy(workspace / path, store / name)
    return f"{name} kept"


def _download(store: Path, workspace: Path, arguments: Mapping[str, str]) -> str:
    """Copy what other jobs kept into a job's folder."""
    target, pattern = workspace / arguments.get("path", "."), arguments.get("pattern", "*")
    there = sorted(path.name for path in store.iterdir()) if store.is_dir() else []
    names = [name for name in there if fnmatchcase(name, pattern)]
    # One alone gets no folder of its own.
    together = arguments.get("merge-multiple") == "true" or len(names) == 1
    for name in names:
        _copy(store / name, target if together else target / name)
    return ", ".join(names) or f"no artifact is named like {pattern}"


def _copy(source: Path, target: Path) -> None:
    # An artifact keeps no permissions, and no hidden files.
    hidden = shutil.ignore_patterns(".*")
    shutil.copytree(
        source, target, ignore=hidden, copy_function=shutil.copyfile, dirs_exist_ok=True
    )

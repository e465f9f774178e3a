"""Does what the workflow's actions do, by copying files to and from a job's folder.

Source: the README files of actions/checkout, actions/upload-artifact and
actions/download-artifact. An argument that this module does not support is an error.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from publisher.rehearsal.errors import RehearsalError, StepError

VENV, READY = ".venv", ".venv/.ready"  # make compares the age of READY with that of PINNED
PINNED = ("requirements.lock", "pyproject.toml")
# Actions that do nothing in a rehearsal, and why.
IDLE = {
    "actions/setup-python": "jobs use the environment of this checkout",
    "actions/cache": "a rehearsal has no cache",
}
# The supported arguments of the other actions. Some have no effect in a rehearsal.
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
    """Do what an action of `IDLE` or `ARGUMENTS` does in the folder `target`.

    Returns a note on what it did. Raises `StepError` where the action would fail, and
    `RehearsalError` for an argument that is not supported.
    """
    if action in IDLE:
        return IDLE[action]
    for name in arguments.keys() - ARGUMENTS[action]:
        raise RehearsalError(f"{where}: a rehearsal does not support the argument {name}")
    if action == "actions/checkout":
        return _check_out(project, work / "overlay", target)
    store = work / "artifacts"
    if action == "actions/upload-artifact":
        return _upload(store, target, arguments, where)
    return _download(store, target, arguments)


def git(project: Path, *arguments: str) -> list[str]:
    """Return the lines that a git command prints. Raises `RehearsalError` if it fails."""
    command = ["git", "-C", str(project), "-c", "core.quotePath=false", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RehearsalError(
            f"{project}: {done.stderr.strip()}; a rehearsal needs a git checkout of the project,"
            " so run it there"
        )
    return done.stdout.splitlines()


def tracked_files(project: Path) -> list[str]:
    """Return the paths of the tracked files that exist."""
    return [path for path in git(project, "ls-files") if os.path.lexists(project / path)]


def _check_out(project: Path, overlay: Path, target: Path) -> str:
    """Copy the tracked files as they are now, then the files of `overlay`.

    Links the environment of the project, so that `make` has nothing to install.
    """
    if not (project / READY).exists():
        raise RehearsalError(f"{project / VENV}: is incomplete; run: make install")
    paths = tracked_files(project)
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / path, target / path, follow_symlinks=False)
    if overlay.exists():
        shutil.copytree(overlay, target, dirs_exist_ok=True)
    # If these files were newer than the environment, make would reinstall it.
    made = (project / READY).stat().st_mtime_ns
    for name in PINNED:
        if (target / name).exists():
            os.utime(target / name, ns=(made, made))
    (target / VENV).symlink_to((project / VENV).resolve())
    return f"{len(paths)} tracked files"


def _upload(store: Path, workspace: Path, arguments: Mapping[str, str], where: str) -> str:
    """Copy a folder of a job to the store, without its hidden files."""
    name, path = arguments.get("name", "artifact"), arguments.get("path", "")
    if not path or (workspace / path).is_file() or set("*?[\n") & set(path):
        raise RehearsalError(
            f"{where}: a rehearsal does not support path: {path!r}; name one folder"
        )
    if not name or set('":<>|*?\r\n\\/') & set(name):
        raise StepError(f"{where}: {name!r} is not a valid name of an artifact")
    if not any(found.is_file() for found in (workspace / path).rglob("*")):
        if arguments.get("if-no-files-found") == "error":
            raise StepError(f"{where}: no files in {path}")
        return f"no files in {path}, so {name} is not uploaded"
    if (store / name).exists():
        if arguments.get("overwrite") != "true":
            raise StepError(f"{where}: the artifact {name} exists; add overwrite: true")
        shutil.rmtree(store / name)
    _copy(workspace / path, store / name)
    return f"{name} uploaded"


def _download(store: Path, workspace: Path, arguments: Mapping[str, str]) -> str:
    """Copy artifacts from the store into a job's folder."""
    target, pattern = workspace / arguments.get("path", "."), arguments.get("pattern", "*")
    there = sorted(path.name for path in store.iterdir()) if store.is_dir() else []
    names = [name for name in there if fnmatchcase(name, pattern)]
    # The action gives a single artifact no folder of its own.
    together = arguments.get("merge-multiple") == "true" or len(names) == 1
    for name in names:
        _copy(store / name, target if together else target / name)
    return ", ".join(names) or f"no artifact matches {pattern}"


def _copy(source: Path, target: Path) -> None:
    # Artifacts keep neither permissions nor hidden files.
    hidden = shutil.ignore_patterns(".*")
    shutil.copytree(
        source, target, ignore=hidden, copy_function=shutil.copyfile, dirs_exist_ok=True
    )

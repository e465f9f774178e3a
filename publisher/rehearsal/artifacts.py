"""What one job leaves for another, as copies in a folder.

Source: the README files of actions/upload-artifact and actions/download-artifact. What is
not known here of them is an error.
"""

import shutil
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from publisher.rehearsal.errors import RehearsalError, StepError

# Arguments that change nothing here.
_PASSED_OVER = ("compression-level", "retention-days")
_FORBIDDEN = set('":<>|*?\r\n\\/')


def upload(store: Path, workspace: Path, arguments: Mapping[str, Any], where: str) -> str:
    """Keep files of a job, and return what was done. Hidden ones are left out.

    Raises `StepError` where the action would fail.
    """
    known = ("name", "path", "if-no-files-found", "overwrite")
    _require_known(arguments, known, where)
    name, path = str(arguments.get("name", "artifact")), str(arguments.get("path", ""))
    if not name or _FORBIDDEN & set(name):
        raise RehearsalError(f"{where}: {name!r} cannot be the name of an artifact")
    if not path or set("*?[\n") & set(path):
        raise RehearsalError(f"{where}: path: {path!r} is not rehearsed; name one file or folder")
    source = workspace / path
    files = {source.name: source} if source.is_file() else _files(source)
    if not files:
        if arguments.get("if-no-files-found", "warn") == "error":
            raise StepError(f"{where}: there is nothing in {path}")
        return f"nothing in {path}, so {name} is not kept"
    target = store / name
    if target.exists():
        if arguments.get("overwrite") is not True:
            raise StepError(f"{where}: an artifact {name} is there; add overwrite: true")
        shutil.rmtree(target)
    _copy(files, target)
    return f"{name}: {len(files)} files kept"


def download(store: Path, workspace: Path, arguments: Mapping[str, Any], where: str) -> str:
    """Copy what other jobs kept into a job's folder, and return what was done.

    Raises `StepError` where the action would fail.
    """
    _require_known(arguments, ("name", "pattern", "path", "merge-multiple"), where)
    target = workspace / str(arguments.get("path", "."))
    if "name" in arguments:
        name = str(arguments["name"])
        if not name or _FORBIDDEN & set(name) or not (store / name).is_dir():
            raise StepError(f"{where}: no job of this run kept an artifact {name}")
        _copy(_files(store / name), target)
        return name
    pattern = str(arguments.get("pattern", "*"))
    there = sorted(path.name for path in store.iterdir()) if store.is_dir() else []
    names = [name for name in there if fnmatchcase(name, pattern)]
    # One alone gets no folder of its own.
    together = arguments.get("merge-multiple") is True or len(names) == 1
    for name in names:
        _copy(_files(store / name), target if together else target / name)
    return ", ".join(names) or f"no artifact is named like {pattern}"


def _files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by relative path, hidden ones left out."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path
        for name, path in sorted(found.items())
        if not any(part.startswith(".") for part in Path(name).parts)
    }


def _copy(files: Mapping[str, Path], target: Path) -> None:
    for name, path in files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _require_known(arguments: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in arguments:
        if name not in (*known, *_PASSED_OVER):
            raise RehearsalError(f"{where}: the argument {name} is not rehearsed")

"""What `actions/checkout` brings: the files that git tracks, in a clean folder."""

import os
import shutil
import subprocess
from pathlib import Path

from publisher.rehearsal.errors import RehearsalError

VENV = ".venv"
READY = f"{VENV}/.ready"  # what make looks at
PINNED = ("requirements.lock", "pyproject.toml")


def tracked_files(project: Path) -> tuple[str, ...]:
    """Return the paths of the files that git tracks. Raises `RehearsalError` outside of git."""
    listed = _git(project, "ls-files", "-z")
    if listed is None:
        raise RehearsalError(
            f"{project}: is no checkout of git, which says what a machine of GitHub would have;"
            " run where the project was cloned to"
        )
    return tuple(path for path in listed.split("\0") if os.path.lexists(project / path) and path)


def untracked_files(project: Path) -> tuple[str, ...]:
    """Return the paths of files that git neither tracks nor ignores."""
    listed = _git(project, "ls-files", "-z", "--others", "--exclude-standard") or ""
    return tuple(path for path in listed.split("\0") if path)


def commit(project: Path) -> str:
    """Return the checkout's commit; zeros if there is none yet."""
    return (_git(project, "rev-parse", "--verify", "--quiet", "HEAD") or "0" * 40).strip()


def check_out(project: Path, overlay: Path, target: Path) -> int:
    """Copy the tracked files as they are now, and return how many there are.

    The files below `overlay` come on top. The environment of the project is linked, so that
    `make` has nothing to install. Raises `RehearsalError` if there is none.
    """
    if not (project / READY).exists():
        raise RehearsalError(f"{project / VENV}: is not complete; run: make install")
    paths = tracked_files(project)
    for root, names in ((project, paths), (overlay, _below(overlay))):
        for name in names:
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            shutil.copy2(root / name, place, follow_symlinks=False)
    # Not newer than the environment, which make would empty and install anew otherwise.
    made = (project / READY).stat().st_mtime_ns
    for name in PINNED:
        if (target / name).exists():
            os.utime(target / name, ns=(made, made))
    (target / VENV).symlink_to((project / VENV).resolve())
    return len(paths)


def _below(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def _git(project: Path, *arguments: str) -> str | None:
    """Return what git says; None if it is not there or says no."""
    program = shutil.which("git")
    if program is None:
        return None
    done = subprocess.run(  # noqa: S603  fixed words
        [program, "-C", str(project), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.stdout.decode(errors="surrogateescape") if done.returncode == 0 else None

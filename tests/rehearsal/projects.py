"""Checkouts that are rehearsed in the tests."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.builds import ROOT, project

# What the workflow's steps need of this repository, besides a registry.
PARTS = ("Makefile", "pyproject.toml", "requirements.lock", ".gitignore")
FOLDERS = ("publisher", "templates", ".github")


def git(folder: Path, *arguments: str) -> None:
    """Run git on nobody's behalf."""
    named = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.invalid"]
    subprocess.run(
        [shutil.which("git") or "git", "-C", str(folder), *named, *arguments],
        check=True,
        capture_output=True,
    )


def link_environment(folder: Path) -> None:
    """Give a checkout the environment that the tests run in, which counts as complete."""
    venv = folder / ".venv"
    venv.mkdir(parents=True)
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".ready":
            (venv / entry.name).symlink_to(entry)
    (venv / ".ready").touch()


def committed(folder: Path) -> Path:
    """Make a folder a checkout with all that is in it."""
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Begin")
    return folder


def checkout(folder: Path, registry: str) -> Path:
    """Return a checkout of this project with another registry."""
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in PARTS:
        shutil.copyfile(ROOT / name, folder / name)
    project(folder, registry)
    link_environment(folder)
    return committed(folder)

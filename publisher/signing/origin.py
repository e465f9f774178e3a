"""Where a build comes from: the checkout it is made in, and the builder.

In GitHub Actions the environment of the run says it (GitHub documentation, "Variables
reference"); elsewhere git does. What neither knows stays unknown.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

LOCAL = "local"
RUNNER = "https://github.com/actions/runner"
GIT_TIMEOUT = 60  # seconds

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_SERVER = re.compile(r"https://[\w.:-]+", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,20}")
_WORKFLOW = re.compile(r"[\w.-]+/[\w.-]+/[\w./-]+@[\w./+-]+", re.ASCII)
_ADDRESS = re.compile(r"[!-~]{1,300}")
_HOSTS = ("github-hosted", "self-hosted")


@dataclass(frozen=True)
class Origin:
    """Where a build comes from: commit, repository and builder; None is what is not known.

    `dirty` says whether files that git knows are not as committed; `builder`, `workflow`
    and `invocation` are those of SLSA: what ran, by which instructions, and which run.
    """

    commit: str | None = None
    repository: str | None = None
    dirty: bool | None = None
    builder: str = LOCAL
    workflow: str | None = None
    invocation: str | None = None


def origin_of(registry_file: Path, environment: Mapping[str, str]) -> Origin:
    """Return what is known of the checkout that holds `models.yaml`, and of this run.

    A checkout that does not know the file says nothing of it. No path of this machine and
    no user or password of an address gets in.
    """
    commit = repository = dirty = None
    if _git(registry_file, environment, "ls-files", "--error-unmatch", registry_file.name):
        commit = _matching(_COMMIT, _git(registry_file, environment, "rev-parse", "HEAD"))
        repository = _public(_git(registry_file, environment, "remote", "get-url", "origin"))
        changes = _git(registry_file, environment, "status", "--porcelain", "--untracked-files=no")
        dirty = None if changes is None else changes != ""
    if environment.get("GITHUB_ACTIONS") != "true":
        return Origin(commit, repository, dirty)

    def told(pattern: re.Pattern[str], variable: str) -> str | None:
        return _matching(pattern, environment.get(variable))

    host = environment.get("RUNNER_ENVIRONMENT")
    server, name = told(_SERVER, "GITHUB_SERVER_URL"), told(_REPOSITORY, "GITHUB_REPOSITORY")
    workflow, run = told(_WORKFLOW, "GITHUB_WORKFLOW_REF"), told(_NUMBER, "GITHUB_RUN_ID")
    attempt = told(_NUMBER, "GITHUB_RUN_ATTEMPT") or "1"
    home = f"{server}/{name}" if server and name else None
    return Origin(
        commit or told(_COMMIT, "GITHUB_SHA"),
        home or repository,
        dirty,
        f"{RUNNER}/{host}" if host in _HOSTS else RUNNER,
        f"{server}/{workflow}" if server and workflow else None,
        f"{home}/actions/runs/{run}/attempts/{attempt}" if home and run else None,
    )


def _git(file: Path, environment: Mapping[str, str], *arguments: str) -> str | None:
    """Return what git says in the folder of `file`; None if it is not there or says no."""
    program = shutil.which("git", path=environment.get("PATH"))
    if program is None:
        return None
    try:
        # A checkout's own settings can name a program for git to run, and variables another
        # checkout.
        done = subprocess.run(  # noqa: S603  fixed words, and the name of a file that was read
            [program, "-c", "core.fsmonitor=false", *arguments],
            cwd=file.absolute().parent,
            env={name: environment[name] for name in ("PATH", "HOME") if name in environment}
            | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _matching(pattern: re.Pattern[str], text: str | None) -> str | None:
    return text if text is not None and pattern.fullmatch(text) else None


def _public(address: str | None) -> str | None:
    """Return a repository's address without user and password; None if it is a path."""
    if _matching(_ADDRESS, address) is None or address is None:
        return None
    if "://" not in address:
        # git's short form of ssh: user@host:path
        short = re.fullmatch(r"(?:[^@/:]+@)?([\w.-]+):(?!/)(.+)", address)
        return f"ssh://{short[1]}/{short[2]}" if short else None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("https", "http", "ssh", "git") or not host:
        return None
    return urlunsplit((parts.scheme, host, parts.path, "", ""))

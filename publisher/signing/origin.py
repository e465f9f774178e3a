"""Finds the checkout and the builder that a build comes from.

In GitHub Actions, the environment names them (GitHub documentation, "Variables reference");
elsewhere git does. Facts that neither knows stay unknown.
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
    """The commit, repository and builder of a build; `None` if unknown.

    `dirty` is true if tracked files differ from the commit. `builder`, `workflow` and
    `invocation` are SLSA's terms: the platform, its instructions, and this run of them.
    """

    commit: str | None = None
    repository: str | None = None
    dirty: bool | None = None
    builder: str = LOCAL
    workflow: str | None = None
    invocation: str | None = None


def origin_of(registry_file: Path, environment: Mapping[str, str]) -> Origin:
    """Return the origin of a build from the checkout that holds `models.yaml`, and of this run.

    Ignores the checkout if git does not track the file. The result contains no local path, and no
    user name or password from an address.
    """
    commit = repository = dirty = None
    if _git(registry_file, environment, "ls-files", "--error-unmatch", registry_file.name):
        commit = _matching(_COMMIT, _git(registry_file, environment, "rev-parse", "HEAD"))
        repository = _public(_git(registry_file, environment, "remote", "get-url", "origin"))
        changes = _git(registry_file, environment, "status", "--porcelain", "--untracked-files=no")
        dirty = None if changes is None else changes != ""
    if environment.get("GITHUB_ACTIONS") != "true":
        return Origin(commit, repository, dirty)

    def valid(pattern: re.Pattern[str], variable: str) -> str | None:
        return _matching(pattern, environment.get(variable))

    host = environment.get("RUNNER_ENVIRONMENT")
    server, name = valid(_SERVER, "GITHUB_SERVER_URL"), valid(_REPOSITORY, "GITHUB_REPOSITORY")
    workflow, run = valid(_WORKFLOW, "GITHUB_WORKFLOW_REF"), valid(_NUMBER, "GITHUB_RUN_ID")
    attempt = valid(_NUMBER, "GITHUB_RUN_ATTEMPT") or "1"
    home = f"{server}/{name}" if server and name else None
    return Origin(
        commit or valid(_COMMIT, "GITHUB_SHA"),
        home or repository,
        dirty,
        f"{RUNNER}/{host}" if host in _HOSTS else RUNNER,
        f"{server}/{workflow}" if server and workflow else None,
        f"{home}/actions/runs/{run}/attempts/{attempt}" if home and run else None,
    )


def _git(file: Path, environment: Mapping[str, str], *arguments: str) -> str | None:
    """Return the output of git in the folder of `file`; `None` if git is missing or fails."""
    program = shutil.which("git", path=environment.get("PATH"))
    if program is None:
        return None
    try:
        # A checkout's settings can make git run a program, and environment variables can point
        # git to another checkout. Allow neither.
        done = subprocess.run(  # noqa: S603  fixed arguments, and the name of a file we have read
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
    """Return a repository's address without user and password; `None` for a local path."""
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

"""What is known of the checkout and of the run, from git and from GitHub's variables."""

import os
import subprocess
from pathlib import Path

import pytest

from publisher.signing.origin import RUNNER, Origin, origin_of

COMMIT, OTHER = "c" * 40, "d" * 40
ACTIONS = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "somebody/bit",
    "GITHUB_SHA": COMMIT,
    "GITHUB_WORKFLOW_REF": "somebody/bit/.github/workflows/release.yml@refs/tags/v1",
    "GITHUB_RUN_ID": "123456789",
    "GITHUB_RUN_ATTEMPT": "2",
    "RUNNER_ENVIRONMENT": "github-hosted",
}
GIT = {"PATH": os.environ["PATH"]}


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, *arguments],  # noqa: S607
        cwd=folder,
        env={**GIT, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with models.yaml in it, which it knows."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "models.yaml").write_text("a")
    git(folder, "add", "models.yaml")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def test_a_checkout_says_its_commit(checkout: Path) -> None:
    found = origin_of(checkout / "models.yaml", GIT)
    assert found == Origin(git(checkout, "rev-parse", "HEAD"), None, False)
    assert found.builder == "local"


def test_files_that_differ_from_the_commit_are_said(checkout: Path) -> None:
    (checkout / "models.yaml").write_text("b")
    assert origin_of(checkout / "models.yaml", GIT).dirty is True


def test_files_that_git_does_not_know_are_no_change(checkout: Path) -> None:
    (checkout / "dist").mkdir()
    (checkout / "dist" / "index.json").write_text("{}")
    assert origin_of(checkout / "models.yaml", GIT).dirty is False


def test_a_checkout_that_does_not_know_the_registry_says_nothing_of_it(checkout: Path) -> None:
    (checkout / "other.yaml").write_text("a")
    assert origin_of(checkout / "other.yaml", GIT) == Origin()


def test_without_a_checkout_all_is_unknown(tmp_path: Path) -> None:
    assert origin_of(tmp_path / "models.yaml", GIT) == Origin()


def test_without_git_all_is_unknown(checkout: Path, tmp_path: Path) -> None:
    assert origin_of(checkout / "models.yaml", {"PATH": str(tmp_path / "empty")}) == Origin()


def test_looking_changes_nothing(checkout: Path) -> None:
    index = checkout / ".git" / "index"
    (checkout / "models.yaml").touch()
    before = index.read_bytes(), index.stat().st_mtime_ns
    origin_of(checkout / "models.yaml", GIT)
    assert (index.read_bytes(), index.stat().st_mtime_ns) == before


def test_a_checkout_cannot_make_git_run_a_program(checkout: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    git(checkout, "config", "core.fsmonitor", str(program))
    assert origin_of(checkout / "models.yaml", GIT).commit is not None
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://git.example/some/bit.git", "https://git.example/some/bit.git"),
        ("https://user:secret@git.example/bit", "https://git.example/bit"),
        ("https://git.example/bit?token=secret#secret", "https://git.example/bit"),
        ("ssh://git@git.example:22/bit", "ssh://git.example:22/bit"),
        ("git@git.example:some/bit.git", "ssh://git.example/some/bit.git"),
        ("/srv/git/bit", None),
        ("../bit", None),
        ("file:///srv/git/bit", None),
        ("https://[broken", None),
        ("https:///bit", None),
    ],
)
def test_of_a_repository_s_address_only_what_is_public_is_said(
    address: str, shown: str | None, checkout: Path
) -> None:
    git(checkout, "remote", "add", "origin", address)
    assert origin_of(checkout / "models.yaml", GIT).repository == shown


def test_a_run_of_github_actions_says_who_builds(tmp_path: Path) -> None:
    assert origin_of(tmp_path / "models.yaml", ACTIONS) == Origin(
        COMMIT,
        "https://github.com/somebody/bit",
        None,
        f"{RUNNER}/github-hosted",
        "https://github.com/somebody/bit/.github/workflows/release.yml@refs/tags/v1",
        "https://github.com/somebody/bit/actions/runs/123456789/attempts/2",
    )


def test_in_a_run_the_checkout_knows_best_which_commit_it_is(checkout: Path) -> None:
    git(checkout, "remote", "add", "origin", "https://git.example/mirror")
    found = origin_of(checkout / "models.yaml", {**GIT, **ACTIONS})
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert found.dirty is False
    assert found.repository == "https://github.com/somebody/bit"


def test_variables_count_in_a_run_only(tmp_path: Path) -> None:
    environment = {**ACTIONS, "GITHUB_ACTIONS": ""}
    assert origin_of(tmp_path / "models.yaml", environment) == Origin()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GITHUB_SERVER_URL", "javascript:alert(1)"),
        ("GITHUB_REPOSITORY", "a/b\nc"),
        ("GITHUB_SHA", "main"),
        ("GITHUB_WORKFLOW_REF", "a b"),
        ("GITHUB_RUN_ID", "1/../2"),
        ("RUNNER_ENVIRONMENT", "elsewhere"),
    ],
)
def test_what_is_not_as_github_documents_it_is_unknown(
    variable: str, value: str, tmp_path: Path
) -> None:
    found = origin_of(tmp_path / "models.yaml", {**ACTIONS, variable: value})
    assert value not in repr(found)
    assert found != origin_of(tmp_path / "models.yaml", ACTIONS)

"""`publisher ci rehearse` as people type it, with a release of a few lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.builds import REGISTRY, ROOT, Finished, project
from tests.rehearsal.projects import committed, link_environment

RELEASE = """\
on:
  push: {tags: ["v*"]}
  workflow_dispatch:
    inputs:
      globs: {type: string}
      destinations: {type: string}
      dry-run: {type: boolean}
      all-or-nothing: {type: boolean}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - run: echo no room && test "$WEIGHTS" = synthetic
        env: {WEIGHTS: "${{ vars.WEIGHTS }}"}
  release:
    needs: build
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@0
      - run: |
          mkdir -p "$RELEASE"
          echo "$EVENT $GITHUB_REF_NAME [$GLOBS] [$TO] $ALL" >> "$RELEASE/log"
          grep -A1 "name: sayakpaul" models.yaml
        env:
          EVENT: ${{ github.event_name }}
          GLOBS: ${{ inputs.globs }}
          TO: ${{ inputs.destinations || vars.DESTINATIONS }}
          ALL: ${{ inputs.all-or-nothing && 'all' || 'some' }}
          RELEASE: ${{ vars.RELEASE }}
"""
DESTINATIONS = """\
destinations:
  bucket: {kind: google-cloud-storage, to: 'gs://models/'}
  mirror: {kind: s3, to: 's3://models/'}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout whose release writes one line."""
    folder = tmp_path / "project"
    project(folder, REGISTRY + DESTINATIONS)
    link_environment(folder)
    (folder / ".gitignore").write_text(".venv/\nbuild/\n")
    (folder / ".github/workflows").mkdir(parents=True)
    (folder / ".github/workflows/release.yml").write_text(RELEASE)
    return committed(folder)


def rehearse(folder: Path, *arguments: str) -> Finished:
    done = subprocess.run(
        [sys.executable, "-m", "publisher", "ci", "rehearse", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def written(folder: Path, name: str = "bucket") -> list[str]:
    return (folder / f"build/rehearsal/destinations/{name}/log").read_text().splitlines()


def test_a_release_is_started_by_hand_with_what_was_typed(folder: Path) -> None:
    finished = rehearse(folder, "*_a_*", "*_b_*", "--to", "mirror", "--all-or-nothing")
    assert finished.status == 0, finished.stderr
    assert written(folder, "mirror") == ["workflow_dispatch main [*_a_* *_b_*] [mirror] all"]
    assert "mirror: " in finished.stdout
    assert "bucket: " not in finished.stdout


def test_a_tag_has_no_inputs(folder: Path) -> None:
    assert rehearse(folder, "--tag", "v7").status == 0
    assert written(folder) == ["push v7 [] [bucket mirror] some"]


def test_each_rehearsal_begins_with_nothing_unless_it_is_the_next_release(folder: Path) -> None:
    line = "workflow_dispatch main [] [bucket mirror] some"
    for arguments, count in (([], 1), ([], 1), (["--next"], 2), (["--again"], 2)):
        assert rehearse(folder, *arguments).status == 0
        assert written(folder) == [line] * count


def test_a_failure_is_told_and_again_goes_on(folder: Path) -> None:
    finished = rehearse(folder, "--weights", "elsewhere")
    assert finished.status == 1
    assert "error: .github/workflows/release.yml:13: exited with status 1" in finished.stderr
    assert "no room" in finished.stderr
    assert rehearse(folder, "--again").status == 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--tag", "v1", "--dry-run"], 2, "a pushed tag has no inputs"),
        (["--again", "--next"], 2, "give only one"),
        (["--to", "nowhere"], 1, "'nowhere' is not a destination"),
        (["--registry", "none.yaml"], 2, "there is no such file"),
    ],
)
def test_what_contradicts_or_is_not_there_is_said(
    folder: Path, arguments: list[str], status: int, said: str
) -> None:
    finished = rehearse(folder, *arguments)
    assert finished.status == status
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_name_that_is_misspelt_in_the_workflow_is_an_error_with_its_line(folder: Path) -> None:
    text = RELEASE.replace("inputs.globs", "inputs.glob")
    (folder / ".github/workflows/release.yml").write_text(text)
    line = text[: text.index("inputs.glob ")].count("\n") + 1
    finished = rehearse(folder)
    assert finished.status == 1
    said = f"release.yml:{line}: inputs.glob: glob is not defined; defined: globs,"
    assert said in finished.stderr


def test_files_that_git_does_not_track_are_warned_of(folder: Path) -> None:
    (folder / "new.py").write_text("")
    finished = rehearse(folder)
    assert "warning: git does not track 1 files here, for example new.py" in finished.stderr


def test_two_rehearsals_at_once_are_refused(folder: Path) -> None:
    (folder / "build/rehearsal").mkdir(parents=True)
    with FileLock(folder / "build/rehearsal/.lock"):
        finished = rehearse(folder)
    assert finished.status == 1
    assert "another rehearsal is running here" in finished.stderr

"""Files of .github/workflows as values."""

from pathlib import Path

import pytest

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.workflow import read_workflow

GOOD = """\
on:
  workflow_dispatch:
    inputs:
      dry-run: {type: boolean}
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - run: make ${{ inputs.dry-run }}
"""


def test_texts_know_their_line(tmp_path: Path) -> None:
    (tmp_path / "w.yml").write_text(GOOD)
    workflow = read_workflow(tmp_path, "w.yml")
    (step,) = workflow.jobs["one"].steps
    assert step.run == "make ${{ inputs.dry-run }}"
    assert step.run.where == "w.yml:9"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    runs-on:",
            "    container: x\n    runs-on:",
            "w.yml:7: a rehearsal does not support the key container",
        ),
        (
            "run: make",
            "shell: sh\n        run: make",
            "w.yml:9: a rehearsal does not support the key shell",
        ),
        ("    steps:", "    steps: x\n    env:", "w.yml: jobs.one.env: Input should be a valid"),
        ("    steps:", "\tsteps:", "line 8, column 1"),
    ],
)
def test_what_is_not_known_is_an_error_that_says_where(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert GOOD.count(old) == 1
    (tmp_path / "w.yml").write_text(GOOD.replace(old, new))
    with pytest.raises(RehearsalError) as raised:
        read_workflow(tmp_path, "w.yml")
    assert said in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RehearsalError, match=r"w\.yml: cannot be read"):
        read_workflow(tmp_path, "w.yml")

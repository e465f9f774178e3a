"""Files of .github/workflows as values."""

from pathlib import Path

import pytest

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Text
from publisher.rehearsal.workflow import read_workflow
from tests.builds import ROOT

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


def written(folder: Path, text: str) -> Path:
    (folder / "w.yml").write_text(text)
    return folder


@pytest.mark.parametrize("name", ["release", "build", "pages", "plan", "reproduce", "ci"])
def test_the_workflows_of_this_repository_are_read(name: str) -> None:
    workflow = read_workflow(ROOT, f".github/workflows/{name}.yml")
    assert all(job.steps or job.uses for job in workflow.jobs.values())


def test_texts_know_their_line(tmp_path: Path) -> None:
    workflow = read_workflow(written(tmp_path, GOOD), "w.yml")
    (step,) = workflow.jobs["one"].steps
    assert step.run == Text("make ${{ inputs.dry-run }}", "w.yml:9")
    assert workflow.events == ("workflow_dispatch",)
    assert workflow.inputs["workflow_dispatch"]["dry-run"].type == "boolean"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    runs-on:", "    container: x\n    runs-on:", "w.yml:7: the key 'container'"),
        ("run: make", "shell: sh\n        run: make", "w.yml:9: the key 'shell'"),
        ("      - run: make ${{ inputs.dry-run }}", "      - id: x", "w.yml:9: a step needs"),
        ("    steps:", "    uses: $/x.yml\n    steps:", "w.yml:7: the job one needs either"),
        (
            "    steps:\n      - run: make ${{ inputs.dry-run }}",
            "    uses: other/repository/x.yml@v1",
            "is a workflow of another repository",
        ),
        ("    runs-on:", "    needs: two\n    runs-on:", "needs two, which is no job"),
        ("    steps:", "\tsteps:", "w.yml:8: a tab stands here"),
    ],
)
def test_what_is_not_known_is_an_error_with_file_and_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(RehearsalError) as raised:
        read_workflow(written(tmp_path, GOOD.replace(old, new)), "w.yml")
    assert said in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RehearsalError, match=r"w\.yml: cannot be read"):
        read_workflow(tmp_path, "w.yml")

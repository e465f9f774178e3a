"""Faults put into the release workflow of this repository, each of which a rehearsal finds.

What the workflow calls are stand-ins of a few lines: what is tried is how it hangs together.
"""

import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.run import Rehearsal, inputs_of, run_workflow
from publisher.rehearsal.workflow import read_workflow
from publisher.util.reporter import Silent
from tests.builds import ROOT
from tests.rehearsal.projects import committed

WORKFLOWS = ".github/workflows"
PUBLISHER = """\
#!/bin/sh
a='{"name":"a","handles":"x/a/1","weights":"u"}' b='{"name":"b","handles":"x/b/1","weights":"u"}'
echo "parts=[{\\"name\\":\\"1 of 1\\",\\"checkpoints\\":[$a,$b]}]"
echo "only="
echo "to=$TO"
"""
MAKEFILE = """\
install pull sign site review:
	@true
publish-all:
	@sh publish.sh
"""
# One machine builds what ONLY names, another one publishes all that is in PARTS.
PUBLISH = """\
if [ -z "$PARTS" ]; then
  for handle in $ONLY; do
    mkdir -p "$RELEASE/models/$handle" && touch "$RELEASE/models/$handle/model.tar.gz"
  done
else
  ls $PARTS/*/models/x/a/1/model.tar.gz $PARTS/*/models/x/b/1/model.tar.gz || exit 1
  [ -z "$TO" ] || echo "$TO" > "$PUBLISHED"
fi
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with the workflows, and stand-ins for what they call."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / WORKFLOWS, folder / WORKFLOWS)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/.ready").touch()
    (folder / ".venv/bin/publisher").write_text(PUBLISHER)
    (folder / ".venv/bin/publisher").chmod(0o755)
    (folder / ".gitignore").write_text(".venv/\n")
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "publish.sh").write_text(PUBLISH)
    return committed(folder)


def released(project: Path) -> tuple[dict[str, str], str]:
    """Rehearse a release; return what came of each job, and what went wrong."""
    work = project.parent / "work"
    rehearsal = Rehearsal(
        project,
        work,
        {"PATH": "/usr/bin:/bin", "PUBLISHED": str(project.parent / "published")},
        {
            "github": {"event": {"repository": {"private": False}}},
            "vars": defaultdict(str, DESTINATIONS="bucket", RELEASE="bucket"),
            "secrets": defaultdict(str),
        },
        Silent(),
    )
    workflow = read_workflow(project, f"{WORKFLOWS}/release.yml")
    run_workflow(rehearsal, workflow, inputs_of(workflow.on["workflow_dispatch"], {}))
    said = "\n".join(one.message for one in rehearsal.results.values() if one.message)
    return {name: one.status for name, one in rehearsal.results.items()}, said


def test_without_a_fault_all_is_published(project: Path) -> None:
    statuses, said = released(project)
    assert statuses == {
        "matrix": "success",
        "build 1 of 1 / a": "success",
        "build 1 of 1 / b": "success",
        "release": "success",
        "plan": "skipped",
        "pages / site": "success",
        "pages / deploy": "success",
    }
    assert said == ""
    assert (project.parent / "published").read_text() == "bucket\n"


NAME, ONE = "name: part-${{ matrix.name }}", '[{"name":"a","handles":"x/a/1","weights":"u"}]'
NOTHING = "cannot access 'parts/"
FAULTS = {
    "kept folder": ("build", "path: parts\n", "path: dist\n", NOTHING),
    "folder of what is brought": ("release", "path: parts\n", "path: part\n", NOTHING),
    "not merged": ("release", "          merge-multiple: true\n", "", NOTHING),
    "artifacts replace each other": ("build", NAME, "name: part", "x/a/1/model.tar.gz'"),
    "artifact that no pattern finds": ("build", NAME, NAME.replace("part", "x"), NOTHING),
    "matrix without a variant": (
        *("release", "${{ toJSON(matrix.part.checkpoints) }}", f"'{ONE}'"),
        "x/b/1/model.tar.gz'",
    ),
    "if of the build": ("release", "outputs.parts != '[]'", "outputs.parts == '[]'", NOTHING),
    "if of the release": ("release", "&& !inputs.dry-run", "&& inputs.dry-run", "nothing is pub"),
    "does not wait for artifacts": ("release", "needs: [matrix, build]", "needs: matrix", NOTHING),
    "does not wait for a result": (
        "release",
        "    needs: release\n",
        "",
        "release is not defined;",
    ),
    "misspelt output of a step": (
        *("release", "steps.matrix.outputs.to }}", "steps.matrix.outputs.too }}"),
        r"release.yml:\d+: steps.matrix.outputs.too: too is not defined; defined: parts, only, to",
    ),
    "misspelt output of a job": (
        "release",
        "s.matrix.outputs.to }",
        "s.matrix.outputs.t }",
        " t is not defined;",
    ),
    "secret that nobody passes on": (
        "build",
        "${{ vars.WEIGHTS }}",
        "${{ secrets.W }}",
        " W is not defined;",
    ),
    "no checkout": ("build", "uses: actions/checkout@", "uses: actions/cache@", "No rule to make"),
}


@pytest.mark.parametrize(("file", "old", "new", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found(project: Path, file: str, old: str, new: str, said: str) -> None:
    path = project / WORKFLOWS / f"{file}.yml"
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))
    try:
        _, found = released(project)
    except RehearsalError as error:
        found = str(error)
    if not (project.parent / "published").exists():
        found += "\nnothing is published"
    assert re.search(said, found), found


def test_a_second_run_that_cannot_replace_an_artifact_is_found(project: Path) -> None:
    path = project / WORKFLOWS / "build.yml"
    path.write_text(path.read_text().replace("          overwrite: true\n", ""))
    assert released(project)[1] == ""
    assert "the artifact part-a exists; add overwrite: true" in released(project)[1]

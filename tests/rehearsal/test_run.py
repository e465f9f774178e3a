"""Jobs, their order, and what they leave for each other: with workflows of a few lines."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Scope, Settable
from publisher.rehearsal.run import Rehearsal, Result, read_record, run_workflow
from publisher.rehearsal.steps import Place
from publisher.rehearsal.workflow import read_workflow
from publisher.util.reporter import Silent
from tests.rehearsal.projects import committed, git, link_environment

KEEP = "actions/upload-artifact@0"
BRING = "actions/download-artifact@0"
CHECKOUT = "actions/checkout@0"

Run = Callable[..., dict[str, Result]]


class Watching(Silent):
    """A reporter that remembers what began."""

    def __init__(self) -> None:
        self.began: list[tuple[str, str]] = []

    def started(self, subject: str, stage: str, reason: str) -> None:
        self.began.append((subject, reason))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one file."""
    folder = tmp_path / "project"
    link_environment(folder)
    (folder / "tracked.txt").write_text("tracked\n")
    (folder / ".gitignore").write_text(".venv/\n")
    return committed(folder)


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def run(project: Path, work: Path, watching: Watching) -> Run:
    """Runs the jobs that a text describes."""

    def made(
        jobs: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        again: bool = False,
        passed_over: dict[str, None] | None = None,
        **others: str,
    ) -> dict[str, Result]:
        for name, text in {"w": f"on: push\njobs:\n{jobs}", **others}.items():
            (project / f"{name}.yml").write_text(text)
        rehearsal = Rehearsal(
            Place(
                project,
                work / "overlay",
                work / "jobs",
                work / "artifacts",
                work / "logs",
                {"PATH": "/usr/bin:/bin"},
            ),
            Scope({"github": {}, "vars": Settable(), "secrets": Settable()}),
            watching,
            work / "run.json",
            read_record(work / "run.json") if again else {},
            passed_over={} if passed_over is None else passed_over,
        )
        run_workflow(rehearsal, read_workflow(project, "w.yml"), inputs or {})
        return rehearsal.results

    return made


def statuses(results: Mapping[str, Result]) -> dict[str, str]:
    return {name: one.status for name, one in results.items()}


def job(name: str, /, *steps: str, **more: str) -> str:
    """Return the lines of a job; a step is a script, or what follows its `- `."""
    lines = [f"  {name}:"] + [f"    {key.rstrip('_')}: {value}" for key, value in more.items()]
    lines.append("    steps:")
    lines += [
        f"      - {step if step.startswith(('uses', 'run', 'id', 'if')) else f'run: {step}'}"
        for step in steps
    ]
    return "\n".join(lines) + "\n"


def upload(name: str, path: str, more: str = "") -> str:
    return f"uses: {KEEP}\n        with: {{name: {name}, path: {path}{more}}}"


def download(arguments: str) -> str:
    return f"uses: {BRING}\n        with: {{{arguments}}}"


def test_a_job_has_only_what_it_checks_out(run: Run, project: Path) -> None:
    (project / "untracked.txt").write_text("untracked\n")
    (project / "tracked.txt").write_text("changed and not committed\n")
    results = run(
        job("bare", 'test -z "$(ls -A)"')
        + job(
            "full",
            f"uses: {CHECKOUT}",
            "grep -q changed tracked.txt",
            "test ! -e untracked.txt",
            "test ! -e .git",
        )
    )
    assert statuses(results) == {"bare": "success", "full": "success"}


def test_no_variable_of_this_machine_reaches_a_step(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    results = run(job("one", 'run: test -z "${HF_TOKEN-}" && test "$HOME" != "$PWD"'))
    assert statuses(results) == {"one": "success"}


def test_an_artifact_passes_from_job_to_job(run: Run) -> None:
    results = run(
        job("one", "mkdir -p a/b && echo kept > a/b/file && touch a/.x", upload("part-1", "a"))
        + job("two", "echo kept > file", upload("part-2", "file"))
        + job(
            "three",
            download('pattern: "part-*", path: parts'),
            "grep -q kept parts/part-1/b/file parts/part-2/file",
            "test ! -e parts/part-1/.x",
            download("name: part-2"),
            "grep -q kept file",
            needs="[one, two]",
        )
    )
    assert set(statuses(results).values()) == {"success"}


def test_one_artifact_alone_gets_no_folder_of_its_own(run: Run) -> None:
    """So it is on GitHub, and a workflow that forgets it fails there for the first time."""
    results = run(
        job("one", "mkdir a && echo kept > a/file", upload("part-1", "a"))
        + job(
            "two",
            download('pattern: "part-*", path: parts'),
            "grep -q kept parts/file && test ! -e parts/part-1",
            needs="one",
        )
    )
    assert set(statuses(results).values()) == {"success"}


@pytest.mark.parametrize("count", [1, 2])
def test_artifacts_can_be_merged(run: Run, count: int) -> None:
    kept = [
        job(f"job-{n}", f"mkdir -p a/{n} && echo {n} > a/{n}/file", upload(f"part-{n}", "a"))
        for n in range(count)
    ]
    results = run(
        "".join(kept)
        + job(
            "last",
            download('pattern: "part-*", path: parts, merge-multiple: true'),
            *(f"grep -q {n} parts/{n}/file" for n in range(count)),
            needs=f"[{', '.join(f'job-{n}' for n in range(count))}]",
        )
    )
    assert set(statuses(results).values()) == {"success"}


def test_what_is_not_passed_on_is_not_there(run: Run) -> None:
    results = run(
        job("one", "echo x > kept && echo x > lost && echo x > .hidden", upload("part", "kept"))
        + job("two", "test ! -e kept && test ! -e lost && test ! -e .hidden", needs="one")
        + job("three", download("name: lost"), needs="one")
        + job(
            "four", download("name: part"), "ls -A | grep -qx kept", "test ! -e lost", needs="one"
        )
    )
    assert statuses(results) == {
        "one": "success",
        "two": "success",
        "three": "failure",
        "four": "success",
    }
    assert "no job of this run kept an artifact lost" in results["three"].message


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([upload("part", "nothing", ", if-no-files-found: error")], "there is nothing in nothing"),
        (["echo x > f", upload("part", "f"), upload("part", "f")], "an artifact part is there"),
    ],
)
def test_an_upload_fails_where_the_action_would(run: Run, steps: list[str], said: str) -> None:
    assert said in run(job("one", *steps))["one"].message


def test_outputs_pass_through_the_jobs_that_need_them(run: Run) -> None:
    results = run(
        job(
            "one",
            "id: x\n        run: |\n          echo parts='[1, 2]' >> \"$GITHUB_OUTPUT\"\n"
            "          printf 'long<<END\\na\\nb\\nEND\\n' >> \"$GITHUB_OUTPUT\"",
            outputs="{parts: '${{ steps.x.outputs.parts }}', long: '${{ steps.x.outputs.long }}'}",
        )
        + job(
            "two",
            'run: test "$LONG" = "$(printf \'a\\nb\')"\n'
            "        env: {LONG: '${{ needs.one.outputs.long }}'}",
            "run: test ${{ matrix.number }} -gt 0",
            needs="one",
            name="'two ${{ matrix.number }}'",
            strategy="{matrix: {number: '${{ fromJSON(needs.one.outputs.parts) }}'}}",
        )
    )
    assert statuses(results) == {"one": "success", "two 1": "success", "two 2": "success"}


def test_an_output_that_no_step_wrote_is_an_error(run: Run) -> None:
    with pytest.raises(RehearsalError, match=r"w\.yml:\d+: .*steps\.x\.outputs does not know y"):
        run(job("one", "id: x\n        run: 'true'", outputs="{y: '${{ steps.x.outputs.y }}'}"))


def test_a_failure_stops_its_job_and_those_that_need_it(run: Run, work: Path) -> None:
    results = run(
        job(
            "one",
            "run: echo what went wrong && false",
            "echo x > after",
            "if: ${{ !cancelled() }}\n        run: echo y > still",
            "if: failure()\n        run: echo z > failed",
        )
        + job("two", "true", needs="one")
        + job("three", "test ${{ needs.one.result }} = failure", needs="one", if_="always()")
    )
    assert statuses(results) == {"one": "failure", "two": "skipped", "three": "success"}
    assert "w.yml:5: ended with status 1" in results["one"].message
    assert "what went wrong" in results["one"].message
    (kept,) = (work / "jobs").iterdir()
    assert kept.name.startswith("one-")
    assert {path.name for path in (kept / "workspace").iterdir()} == {"still", "failed"}
    assert "what went wrong" in (work / "logs/one.log").read_text()


def test_a_step_may_fail_where_the_workflow_says_so(run: Run) -> None:
    jobs = job(
        "one",
        "run: 'false'\n        continue-on-error: ${{ !inputs.all-or-nothing }}",
        "true",
    )
    assert statuses(run(jobs, {"all-or-nothing": None})) == {"one": "success"}
    assert statuses(run(jobs, {"all-or-nothing": True})) == {"one": "failure"}


MATRIX = job(
    "one",
    "test ${{ matrix.name }} != b",
    name="'one ${{ matrix.name }}'",
    strategy="{fail-fast: %s, matrix: {include: [{name: a}, {name: b}, {name: c}]}}",
)


@pytest.mark.parametrize(("fail_fast", "last"), [("true", "cancelled"), ("false", "success")])
def test_one_failing_entry_of_a_matrix_stops_the_others_if_it_should(
    run: Run, fail_fast: str, last: str
) -> None:
    results = run(MATRIX % fail_fast)
    assert statuses(results) == {"one a": "success", "one b": "failure", "one c": last}


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ("{n: '${{ fromJSON(inputs.list) }}'}", "makes 257 jobs; GitHub allows 256"),
        ("{n: []}", "has no entries; GitHub refuses such a job"),
        ("{n: [1], exclude: [{n: 1}]}", "is not rehearsed"),
    ],
)
def test_a_matrix_that_github_would_refuse_is_refused(run: Run, matrix: str, said: str) -> None:
    with pytest.raises(RehearsalError, match=r"^w\.yml:") as raised:
        run(job("one", "true", strategy=f"{{matrix: {matrix}}}"), {"list": str([0] * 257)})
    assert said in str(raised.value)


CALLED = """\
on:
  workflow_call:
    inputs:
      list: {type: string, required: true}
jobs:
""" + job(
    "inner",
    "test ${{ matrix.name }} != b",
    name="${{ matrix.name }}",
    strategy="{fail-fast: false, matrix: {include: '${{ fromJSON(inputs.list) }}'}}",
)
CALL = """\
  outer:
    uses: $/called.yml
    with:
      %s
"""


def test_a_workflow_that_is_called_runs_as_one_job(run: Run) -> None:
    jobs = CALL % """list: '[{"name": "a"}, {"name": "b"}]'""" + job("last", "true", needs="outer")
    results = run(jobs, called=CALLED)
    assert statuses(results) == {
        "outer / a": "success",
        "outer / b": "failure",
        "last": "skipped",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [("other: x", "other is no input; there is list"), ("{}", "the input list is missing")],
)
def test_a_workflow_is_called_with_the_inputs_that_it_has(
    run: Run, arguments: str, said: str
) -> None:
    with pytest.raises(RehearsalError, match=said):
        run((CALL % arguments).replace("with:\n      {}\n", "with: {}\n"), called=CALLED)


def test_again_runs_what_did_not_succeed_and_what_needs_it(
    run: Run, watching: Watching, project: Path
) -> None:
    (project / "mended").unlink(missing_ok=True)
    jobs = (
        job("good", "echo x > f", upload("part", "f"))
        + job("bad", f"test -e {project}/mended")
        + job("last", download("name: part"), "grep -q x f", needs="[good, bad]")
    )
    assert statuses(run(jobs)) == {"good": "success", "bad": "failure", "last": "skipped"}
    (project / "mended").touch()
    watching.began.clear()
    results = run(jobs, again=True)
    assert set(statuses(results).values()) == {"success"}
    assert {subject for subject, _ in watching.began} == {"bad", "last"}


def test_again_runs_what_went_on_without_something_that_it_needs(
    run: Run, watching: Watching
) -> None:
    jobs = (
        job("bad", "false")
        + job("after", "true", needs="bad", if_="always()")
        + (CALL % """list: '[{"name": "a"}]'""").replace(
            "    uses", "    needs: bad\n    if: always()\n    uses"
        )
    )
    run(jobs, called=CALLED)
    watching.began.clear()
    results = run(jobs, again=True, called=CALLED)
    assert statuses(results) == {"bad": "failure", "after": "success", "outer / a": "success"}
    assert {subject for subject, _ in watching.began} == {"bad", "after", "outer / a"}


def test_actions_that_are_not_rehearsed_are_told(run: Run) -> None:
    told: dict[str, None] = {}
    results = run(
        job("one", "uses: actions/attest@0", "uses: actions/cache@0", environment="release"),
        passed_over=told,
    )
    assert statuses(results) == {"one": "success"}
    assert list(told) == [
        "the approval that environment release asks for",
        "actions/attest (w.yml:6)",
    ]


def test_a_checkout_without_an_environment_is_refused(run: Run, project: Path) -> None:
    (project / ".venv/.ready").unlink()
    with pytest.raises(RehearsalError, match="make install"):
        run(job("one", f"uses: {CHECKOUT}"))


def test_a_folder_without_git_is_refused(run: Run, project: Path) -> None:
    git(project, "status")
    (project / ".git").rename(project.parent / "moved")
    with pytest.raises(RehearsalError, match="is no checkout of git"):
        run(job("one", f"uses: {CHECKOUT}"))


def test_a_damaged_record_is_no_traceback(work: Path) -> None:
    work.mkdir()
    (work / "run.json").write_text("[]")
    with pytest.raises(RehearsalError, match="rehearse anew, without --again"):
        read_record(work / "run.json")

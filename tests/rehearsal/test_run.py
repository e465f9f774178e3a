"""Jobs and what they leave for each other, with workflows of a few lines.

`test_faults` tries the workflow of this repository.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Value
from publisher.rehearsal.run import Rehearsal, run_workflow
from publisher.rehearsal.workflow import read_workflow
from publisher.util.reporter import Silent
from tests.rehearsal.projects import committed, link_environment

CHECKOUT = "uses: actions/checkout@0"
UPLOAD = "uses: actions/upload-artifact@0\n        with: "
DOWNLOAD = "uses: actions/download-artifact@0\n        with: "

Run = Callable[..., Rehearsal]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one file."""
    folder = tmp_path / "project"
    link_environment(folder)
    (folder / "tracked.txt").write_text("tracked\n")
    (folder / ".gitignore").write_text(".venv/\n")
    return committed(folder)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def run(project: Path, work: Path) -> Run:
    """Runs the jobs that a text describes."""

    def made(
        jobs: str, inputs: Mapping[str, Value] | None = None, *, again: bool = False
    ) -> Rehearsal:
        (project / "w.yml").write_text(f"on: {{push: }}\njobs:\n{jobs}")
        environment = {"PATH": "/usr/bin:/bin"}
        rehearsal = Rehearsal(project, work, environment, {}, Silent(), again)
        run_workflow(rehearsal, read_workflow(project, "w.yml"), inputs or {})
        return rehearsal

    return made


def statuses(rehearsal: Rehearsal) -> dict[str, str]:
    return {name: one.status for name, one in rehearsal.results.items()}


def job(name: str, /, *steps: str, **more: str) -> str:
    """Return the lines of a job; a step is a script, or what follows its `- `."""
    lines = [f"  {name}:"] + [f"    {key.rstrip('_')}: {value}" for key, value in more.items()]
    lines.append("    steps:")
    lines += [
        f"      - {step if step.startswith(('uses', 'run', 'id', 'if')) else f'run: {step}'}"
        for step in steps
    ]
    return "\n".join(lines) + "\n"


def test_a_job_has_only_what_it_checks_out(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    (project / "untracked.txt").write_text("untracked\n")
    (project / "tracked.txt").write_text("changed and not committed\n")
    found = run(
        job("bare", 'test -z "$(ls -A)"', 'run: test -z "${HF_TOKEN-}" && test "$HOME" != "$PWD"')
        + job(
            "full",
            CHECKOUT,
            "grep -q changed tracked.txt && test ! -e untracked.txt && test ! -e .git",
        )
    )
    assert statuses(found) == {"bare": "success", "full": "success"}


@pytest.mark.parametrize(
    ("count", "merged", "file"),
    [
        (1, "false", "parts/0/file"),
        (2, "false", "parts/part-0/0/file"),
        (1, "true", "parts/0/file"),
        (2, "true", "parts/0/file"),
    ],
)
def test_an_artifact_lands_where_the_action_puts_it(
    run: Run, count: int, merged: str, file: str
) -> None:
    """One alone gets no folder of its own: a workflow that forgets it fails on GitHub first."""
    kept = [
        job(
            f"job-{n}",
            f"mkdir -p a/{n} && echo kept > a/{n}/file && touch a/.hidden lost",
            f"{UPLOAD}{{name: part-{n}, path: a}}",
        )
        for n in range(count)
    ]
    last = job(
        "last",
        f'{DOWNLOAD}{{pattern: "part-*", path: parts, merge-multiple: {merged}}}',
        f"grep -q kept {file} && test -z \"$(find . -name '.hidden' -o -name lost)\"",
        needs=f"[{', '.join(f'job-{n}' for n in range(count))}]",
    )
    assert set(statuses(run("".join(kept) + last)).values()) == {"success"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("name: part, path: a, if-no-files-found: error", "w.yml:6: no files in a"),
        ("name: a/b, path: .", "'a/b' is not a valid name of an artifact"),
    ],
)
def test_an_upload_fails_where_the_action_would(run: Run, arguments: str, said: str) -> None:
    steps = ("echo x > f", f"{UPLOAD}{{{arguments}}}")
    assert said in run(job("one", *steps)).results["one"].message


def test_a_failure_stops_its_job_and_those_that_need_it(run: Run, work: Path) -> None:
    found = run(
        job(
            "one",
            "run: echo what went wrong && false",
            "echo x > after",
            "if: ${{ !cancelled() }}\n        run: echo y > still",
        )
        + job("two", "true", needs="one")
        + job("three", "test ${{ needs.one.result }} = failure", needs="one", if_="always()")
    )
    assert statuses(found) == {"one": "failure", "two": "skipped", "three": "success"}
    assert "w.yml:5: exited with status 1" in found.results["one"].message
    assert "\n  what went wrong" in found.results["one"].message
    (kept,) = (work / "jobs").iterdir()
    assert [path.name for path in (kept / "workspace").iterdir()] == ["still"]
    assert "what went wrong" in (work / "logs/one.log").read_text()


def test_a_skip_counts_for_the_whole_chain(run: Run) -> None:
    """GitHub skips `last` although `middle`, the job that it needs, succeeds."""
    found = run(
        job("first", "true", if_="${{ inputs.x != '' }}")
        + job("middle", "true", needs="first", if_="${{ !cancelled() }}")
        + job("last", "true", needs="middle"),
        {"x": ""},
    )
    assert statuses(found) == {"first": "skipped", "middle": "success", "last": "skipped"}


def test_a_step_may_fail_where_the_workflow_says_so(run: Run) -> None:
    jobs = job("one", "run: 'false'\n        continue-on-error: ${{ !inputs.all }}", "true")
    assert statuses(run(jobs, {"all": ""})) == {"one": "success"}
    assert statuses(run(jobs, {"all": True})) == {"one": "failure"}


@pytest.mark.parametrize(("fail_fast", "last"), [("true", "cancelled"), ("false", "success")])
def test_one_failing_entry_of_a_matrix_stops_the_others_if_it_should(
    run: Run, fail_fast: str, last: str
) -> None:
    strategy = f"{{fail-fast: {fail_fast}, matrix: {{n: '${{{{ fromJSON(inputs.list) }}}}'}}}}"
    jobs = job("one", "test ${{ matrix.n }} != b", strategy=strategy)
    found = statuses(run(jobs, {"list": '["a", "b", "c"]'}))
    assert found == {"one (a)": "success", "one (b)": "failure", "one (c)": last}


@pytest.mark.parametrize("count", [0, 257])
def test_a_matrix_that_github_would_refuse_is_refused(run: Run, count: int) -> None:
    strategy = "{matrix: {n: '${{ fromJSON(inputs.list) }}'}}"
    with pytest.raises(
        RehearsalError, match=rf"^w\.yml:4: {count} entries; GitHub requires 1 to 256"
    ):
        run(job("one", "true", strategy=strategy), {"list": str([0] * count)})


def test_again_runs_what_did_not_succeed_and_what_needs_it(run: Run, project: Path) -> None:
    needs_all = {"needs": "[good, bad]", "if_": "${{ !cancelled() }}"}
    jobs = (
        job("good", "mkdir a && echo x > a/f", f"{UPLOAD}{{name: part, path: a}}")
        + job("bad", f"test -e {project}/mended")
        + job("last", f"{DOWNLOAD}{{path: a}}", "grep -q x a/f", **needs_all)
    )
    assert statuses(run(jobs)) == {"good": "success", "bad": "failure", "last": "success"}
    (project / "mended").touch()
    found = run(jobs, again=True)
    assert set(statuses(found).values()) == {"success"}
    assert {name for name, one in found.results.items() if one.again} == {"good"}
    assert all(one.again for one in run(jobs, again=True).results.values())


def test_actions_that_are_not_rehearsed_are_told(run: Run) -> None:
    found = run(job("one", "uses: x/attest@0", "uses: actions/cache@0", environment="release"))
    assert statuses(found) == {"one": "success"}
    approval = "the approval that environment release requires"
    assert list(found.not_rehearsed) == [approval, "x/attest (w.yml:6)"]


@pytest.mark.parametrize(
    ("steps", "more", "said"),
    [
        (
            [f"{CHECKOUT}\n        with: {{ref: x}}"],
            {},
            "w.yml:5: a rehearsal does not support the argument ref",
        ),
        ([f"{UPLOAD}{{path: a/*}}"], {}, "w.yml:5: a rehearsal does not support path: 'a/*'"),
        (["id: x\n        run: echo y >> $GITHUB_OUTPUT"], {}, "w.yml:6: 'y' is not an output"),
        (["true"], {"needs": "two"}, "w.yml:3: needs a job that does not exist"),
    ],
)
def test_what_is_not_rehearsed_is_an_error_with_file_and_line(
    run: Run, steps: list[str], more: dict[str, str], said: str
) -> None:
    with pytest.raises(RehearsalError) as raised:
        run(job("one", *steps, **more))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("name", "said"), [(".venv/.ready", "make install"), (".git", "not a git repository")]
)
def test_a_checkout_that_lacks_something_is_refused(
    run: Run, project: Path, name: str, said: str
) -> None:
    (project / name).rename(project.parent / "moved")
    with pytest.raises(RehearsalError, match=said):
        run(job("one", CHECKOUT))

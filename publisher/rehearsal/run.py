"""All jobs of a workflow in their order, as GitHub would run them, one after another."""

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from publisher.rehearsal.actions import ARGUMENTS, IDLE, act
from publisher.rehearsal.errors import RehearsalError, StepError
from publisher.rehearsal.expressions import Scope, Value, filled_in, holds, value_of
from publisher.rehearsal.workflow import Event, Job, Step, Text, Workflow, read_workflow
from publisher.util.files import json_bytes, write_whole
from publisher.util.reporter import Reporter

Status = Literal["success", "failure", "skipped", "cancelled"]

LARGEST = 256  # jobs of one matrix (GitHub documentation, "Usage limits")
SHELL = ("bash", "--noprofile", "--norc", "-e")
SHOWN = 15  # lines of a log that come with a failure


@dataclass(frozen=True)
class Result:
    """What came of a job; `again` says that it succeeded in an earlier run."""

    status: Status
    outputs: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    again: bool = False


@dataclass(frozen=True)
class Rehearsal:
    """What a run is made of.

    Everything that it writes is in `work`. `environment` is that of every step, and `scope` has
    the contexts `github`, `vars` and `secrets`. With `again`, jobs that `work` records as
    successful are not run. `results`, by the full names of jobs, and `passed_over`, what was
    not rehearsed, are filled on the way.
    """

    project: Path
    work: Path
    environment: Mapping[str, str]
    scope: Scope
    reporter: Reporter
    again: bool = False
    results: dict[str, Result] = field(default_factory=dict)
    passed_over: dict[str, None] = field(default_factory=dict)


def run_workflow(
    rehearsal: Rehearsal, workflow: Workflow, inputs: Mapping[str, Value], prefix: str = ""
) -> dict[str, Result]:
    """Run the jobs of a workflow, each after those that it needs; return what came of each.

    `prefix` stands before the names of the jobs. Raises `RehearsalError` for what cannot be
    rehearsed; a job that fails does not.
    """
    results: dict[str, Result] = {}
    ancestors: dict[str, set[str]] = {}
    told: dict[str, dict[str, Result]] = {id_: {} for id_ in workflow.jobs}
    while waiting := [name for name in workflow.jobs if name not in results]:
        ready = [id_ for id_ in waiting if results.keys() >= set(workflow.jobs[id_].needs)]
        if not ready:
            raise RehearsalError(f"{waiting[0].where}: needs what is no job, or what needs it")
        # GitHub promises no order but that of `needs`. From the last to the first, a job that
        # lacks one runs too early.
        id_, job = ready[-1], workflow.jobs[ready[-1]]
        needed = {name: results[name] for name in job.needs}
        # A failure or skip counts for the whole chain of jobs (GitHub documentation, `needs`).
        ancestors[id_] = set(needed).union(*(ancestors[name] for name in needed))
        chain = {results[name].status for name in ancestors[id_]}
        scope: Scope = {
            **rehearsal.scope,
            "inputs": inputs,
            "needs": {n: {"result": r.status, "outputs": r.outputs} for n, r in needed.items()},
            "status": next((bad for bad in ("failure", "skipped") if bad in chain), "success"),
        }
        if holds(job.if_, scope):
            again = rehearsal.again and _all_again(needed.values())
            inner = replace(rehearsal, again=again, results=told[id_])
            results[id_] = _run_matrix(inner, job, id_, scope, prefix)
        else:
            results[id_] = told[id_][prefix + id_] = Result("skipped")
    for found in told.values():
        rehearsal.results.update(found)
    return results


def inputs_of(event: Event, given: Mapping[str, Value]) -> dict[str, Value]:
    """Return the inputs that an event declares; one that is not given is empty or false."""
    return {
        name: given.get(name, "" if one.get("type") != "boolean" else False)
        for name, one in event.inputs.items()
    }


def _all_again(results: Collection[Result]) -> bool:
    return all(one.again for one in results)


def _run_matrix(rehearsal: Rehearsal, job: Job, id_: Text, scope: Scope, prefix: str) -> Result:
    """Run each of the jobs that a matrix makes, or the one if there is no matrix."""
    found: list[Result] = []
    for combination in _combinations(job, scope):
        inner = {**scope, "matrix": combination}
        values = f" ({', '.join(map(str, combination.values()))})" if combination else ""
        name = prefix + (filled_in(job.name, inner) if job.name else id_ + values)
        failed = any(one.status == "failure" for one in found)
        if failed and job.strategy and job.strategy.fail_fast:
            result = rehearsal.results[name] = Result("cancelled")
        elif job.uses is not None:
            result = _call(rehearsal, job, job.uses, inner, name)
        else:
            result = rehearsal.results[name] = _run_job(rehearsal, job, inner, name)
        found.append(result)
    order: tuple[Status, ...] = ("failure", "cancelled", "success", "skipped")
    status = next(one for one in order if one in {result.status for result in found})
    outputs = found[0].outputs if len(found) == 1 else {}
    return Result(status, outputs, again=_all_again(found))


def _combinations(job: Job, scope: Scope) -> list[Mapping[str, Value]]:
    """Return the `matrix` context of each job that a matrix makes; one, empty, without one."""
    if job.strategy is None:
        return [{}]
    ((key, text),) = job.strategy.matrix.items()
    entries = value_of(text, scope)
    if not isinstance(entries, list) or not 0 < len(entries) <= LARGEST:
        count = len(entries) if isinstance(entries, list) else "no list of"
        raise RehearsalError(f"{text.where}: {count} entries; GitHub wants 1 to {LARGEST}")
    return [one if isinstance(one, Mapping) and key == "include" else {key: one} for one in entries]


def _call(rehearsal: Rehearsal, job: Job, uses: Text, scope: Scope, name: str) -> Result:
    """Run the workflow that a job calls. It gets no secrets, since no job passes any on."""
    if not uses.startswith(("$/", "./")) or " / " in name:
        raise RehearsalError(f"{uses.where}: only a call within this repository is rehearsed")
    called = read_workflow(rehearsal.project, uses[2:])
    given = {key: value_of(text, scope) for key, text in job.with_.items()}
    inputs = inputs_of(called.on.get("workflow_call", Event()), given)
    without = replace(rehearsal, scope={**rehearsal.scope, "secrets": {"GITHUB_TOKEN": ""}})
    results = run_workflow(without, called, inputs, f"{name} / ").values()
    statuses = {one.status for one in results}
    good: Status = "success" if "success" in statuses else "skipped"
    bad = statuses & {"failure", "cancelled"}
    return Result("failure" if bad else good, again=_all_again(results))


def _run_job(rehearsal: Rehearsal, job: Job, scope: Scope, name: str) -> Result:
    """Run the steps of a job in a folder of its own, which is removed if all went well."""
    slug = re.sub(r"[^\w.-]+", "-", name)
    record = rehearsal.work / "done" / f"{slug}.json"
    if rehearsal.again and record.exists():
        return Result("success", json.loads(record.read_bytes()), again=True)
    record.unlink(missing_ok=True)
    for part in ("jobs", "logs", "done"):
        (rehearsal.work / part).mkdir(parents=True, exist_ok=True)
    # Another one each time: what a killed run started may still be writing to its own.
    folder = Path(tempfile.mkdtemp(prefix=f"{slug}-", dir=rehearsal.work / "jobs"))
    log = rehearsal.work / "logs" / f"{slug}.log"
    environment = _environment(rehearsal, folder, log)
    environment |= {key: filled_in(text, scope) for key, text in job.env.items()}
    place = _Place(name, folder, log, environment)
    if job.environment:
        asks = job.environment if isinstance(job.environment, str) else job.environment["name"]
        rehearsal.passed_over[f"the approval that environment {asks} asks for"] = None
    steps: dict[str, Value] = {}
    messages: list[str] = []
    for step in job.steps:
        scope = {**scope, "steps": steps, "status": "failure" if messages else "success"}
        wanted = holds(step.if_, scope)
        if step.uses and step.action not in {**IDLE, **ARGUMENTS}:
            rehearsal.passed_over[f"{step.action} ({step.uses.where})"] = None
        elif wanted:
            message = _run_step(rehearsal, place, step, scope)
            tolerated = step.continue_on_error and value_of(step.continue_on_error, scope)
            if message and tolerated not in ("true", True):
                messages.append(message)
            if step.id is not None:
                steps[step.id] = {"outputs": _outputs(folder / "output", step.where)}
    if messages:
        return Result("failure", message="\n".join(messages))
    outputs = {key: filled_in(text, {**scope, "steps": steps}) for key, text in job.outputs.items()}
    write_whole(record, json_bytes(outputs))
    shutil.rmtree(folder)
    return Result("success", outputs)


@dataclass(frozen=True)
class _Place:
    """Where a job runs: its name, its folder, its log, and the environment of its steps."""

    job: str
    folder: Path
    log: Path
    environment: Mapping[str, str]


def _environment(rehearsal: Rehearsal, folder: Path, log: Path) -> dict[str, str]:
    """Make the folders of a job; return the environment of its steps."""
    for part in ("workspace", "home", "temp"):
        (folder / part).mkdir()
    summary = log.with_suffix(".summary.md")
    for path in (log, summary):
        path.unlink(missing_ok=True)
    return {
        **rehearsal.environment,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temp"),
        "RUNNER_TEMP": str(folder / "temp"),
        "GITHUB_WORKSPACE": str(folder / "workspace"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(summary),
        # Python finds the package of the checkout, not that of the linked environment.
        "PYTHONPATH": str(folder / "workspace"),
    }


def _run_step(rehearsal: Rehearsal, place: _Place, step: Step, scope: Scope) -> str:
    """Run a step, and return why it failed; empty if it did not."""
    (place.folder / "output").write_text("")
    stage = step.action.rpartition("/")[2] or "run"
    words = step.action or str(step.run).strip().splitlines()[0]
    rehearsal.reporter.started(place.job, stage, words)
    begin = time.monotonic()
    try:
        if step.action:
            given = {key: filled_in(text, scope) for key, text in step.with_.items()}
            target = place.folder / "workspace"
            words = act(step.action, given, step.where, rehearsal.project, rehearsal.work, target)
        else:
            _run_script(step, place, scope)
    except StepError as error:
        rehearsal.reporter.failed(place.job, stage, str(error))
        return str(error)
    rehearsal.reporter.finished(place.job, stage, time.monotonic() - begin, words)
    return ""


def _run_script(step: Step, place: _Place, scope: Scope) -> None:
    """Run the script of a step. Raises `StepError` if it fails."""
    script = filled_in(step.run or Text("", ""), scope)
    own = {key: filled_in(text, scope) for key, text in step.env.items()}
    (place.folder / "script").write_text(script)
    with place.log.open("a") as log:
        log.write(f"== {script.strip()}\n")
        log.flush()
        begin = log.tell()
        done = subprocess.run(  # noqa: S603  what the workflow says, on the machine of who wrote it
            [*SHELL, str(place.folder / "script")],
            cwd=place.folder / "workspace",
            env={**place.environment, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        said = place.log.read_bytes()[begin:].decode(errors="replace")
        message = f"{step.where}: ended with status {done.returncode}; all it said is in"
        raise StepError("\n  ".join([f"{message} {place.log}", *said.splitlines()[-SHOWN:]]))


def _outputs(file: Path, where: str) -> dict[str, str]:
    """Return what a step wrote to `$GITHUB_OUTPUT`."""
    found = {}
    for line in file.read_text().splitlines():
        name, sign, value = line.partition("=")
        if not sign or "<<" in name:
            raise RehearsalError(f"{where}: {line!r} is no output; write NAME=VALUE")
        found[name] = value
    return found

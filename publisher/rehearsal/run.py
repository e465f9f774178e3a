"""Runs the jobs of a workflow as GitHub would, but one after another."""

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

LARGEST = 256  # jobs of a matrix (GitHub documentation, "Usage limits")
SHELL = ("bash", "--noprofile", "--norc", "-e")
SHOWN = 15  # lines of the log that a failure's message shows


@dataclass(frozen=True)
class Result:
    """The result of a job. If `again`, it succeeded in an earlier run and did not run now."""

    status: Status
    outputs: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    again: bool = False


@dataclass(frozen=True)
class Rehearsal:
    """One run of a workflow: its settings and its results so far.

    The run writes only to `work`. `environment` are the variables of every step, and `scope` has
    the contexts `github`, `vars` and `secrets`. With `again`, the run skips jobs that `work`
    records as successful. The run fills `results`, by the full names of the jobs, and
    `not_rehearsed`, the parts of the workflow that it left out.
    """

    project: Path
    work: Path
    environment: Mapping[str, str]
    scope: Scope
    reporter: Reporter
    again: bool = False
    results: dict[str, Result] = field(default_factory=dict)
    not_rehearsed: dict[str, None] = field(default_factory=dict)


def run_workflow(
    rehearsal: Rehearsal, workflow: Workflow, inputs: Mapping[str, Value], prefix: str = ""
) -> dict[str, Result]:
    """Run the jobs of a workflow, each after the jobs that it needs; return their results.

    `prefix` precedes the full names of the jobs. Raises `RehearsalError` if the workflow has a
    part that is not supported, but not if a job fails.
    """
    results: dict[str, Result] = {}
    ancestors: dict[str, set[str]] = {}
    matrices: dict[str, dict[str, Result]] = {id_: {} for id_ in workflow.jobs}
    while waiting := [name for name in workflow.jobs if name not in results]:
        ready = [id_ for id_ in waiting if results.keys() >= set(workflow.jobs[id_].needs)]
        if not ready:
            raise RehearsalError(
                f"{waiting[0].where}: needs a job that does not exist, or one that needs it"
            )
        # GitHub guarantees no order except that of `needs`. Running the last ready job first makes
        # a job that lacks a `needs` run too early, and so fail.
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
            inner = replace(rehearsal, again=again, results=matrices[id_])
            results[id_] = _run_matrix(inner, job, id_, scope, prefix)
        else:
            results[id_] = matrices[id_][prefix + id_] = Result("skipped")
    for found in matrices.values():
        rehearsal.results.update(found)
    return results


def inputs_of(event: Event, given: Mapping[str, Value]) -> dict[str, Value]:
    """Return the values of an event's inputs. An input without a value is empty or false."""
    return {
        name: given.get(name, "" if one.get("type") != "boolean" else False)
        for name, one in event.inputs.items()
    }


def _all_again(results: Collection[Result]) -> bool:
    return all(one.again for one in results)


def _run_matrix(rehearsal: Rehearsal, job: Job, id_: Text, scope: Scope, prefix: str) -> Result:
    """Run all jobs of a matrix, or the single job if there is no matrix."""
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
    """Return the `matrix` context of each job: one per entry, or a single empty one."""
    if job.strategy is None:
        return [{}]
    ((key, text),) = job.strategy.matrix.items()
    entries = value_of(text, scope)
    if not isinstance(entries, list) or not 0 < len(entries) <= LARGEST:
        count = len(entries) if isinstance(entries, list) else "no list of"
        raise RehearsalError(f"{text.where}: {count} entries; GitHub requires 1 to {LARGEST}")
    return [one if isinstance(one, Mapping) and key == "include" else {key: one} for one in entries]


def _call(rehearsal: Rehearsal, job: Job, uses: Text, scope: Scope, name: str) -> Result:
    """Run the workflow that a job calls. It gets no secrets, because no job passes any on."""
    if not uses.startswith(("$/", "./")) or " / " in name:
        raise RehearsalError(
            f"{uses.where}: a rehearsal only supports calls within this repository"
        )
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
    """Run the steps of a job in its own folder, and remove the folder if they succeed."""
    slug = re.sub(r"[^\w.-]+", "-", name)
    record = rehearsal.work / "done" / f"{slug}.json"
    if rehearsal.again and record.exists():
        return Result("success", json.loads(record.read_bytes()), again=True)
    record.unlink(missing_ok=True)
    for part in ("jobs", "logs", "done"):
        (rehearsal.work / part).mkdir(parents=True, exist_ok=True)
    # A new folder each time, because a process of a killed run may still write to the old one.
    folder = Path(tempfile.mkdtemp(prefix=f"{slug}-", dir=rehearsal.work / "jobs"))
    log = rehearsal.work / "logs" / f"{slug}.log"
    environment = _environment(rehearsal, folder, log)
    environment |= {key: filled_in(text, scope) for key, text in job.env.items()}
    context = _JobContext(name, folder, log, environment)
    if job.environment:
        asks = job.environment if isinstance(job.environment, str) else job.environment["name"]
        rehearsal.not_rehearsed[f"the approval that environment {asks} requires"] = None
    steps: dict[str, Value] = {}
    messages: list[str] = []
    for step in job.steps:
        scope = {**scope, "steps": steps, "status": "failure" if messages else "success"}
        wanted = holds(step.if_, scope)
        if step.uses and step.action not in {**IDLE, **ARGUMENTS}:
            rehearsal.not_rehearsed[f"{step.action} ({step.uses.where})"] = None
        elif wanted:
            message = _run_step(rehearsal, context, step, scope)
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
class _JobContext:
    """The context of a job's steps; `job` is the job's name."""

    job: str
    folder: Path
    log: Path
    environment: Mapping[str, str]


def _environment(rehearsal: Rehearsal, folder: Path, log: Path) -> dict[str, str]:
    """Create the folders of a job; return the environment of its steps."""
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
        # Python imports the job's checkout, not the package in the linked environment.
        "PYTHONPATH": str(folder / "workspace"),
    }


def _run_step(rehearsal: Rehearsal, context: _JobContext, step: Step, scope: Scope) -> str:
    """Run a step; return the message of its failure, or an empty string."""
    (context.folder / "output").write_text("")
    stage = step.action.rpartition("/")[2] or "run"
    words = step.action or str(step.run).strip().splitlines()[0]
    rehearsal.reporter.started(context.job, stage, words)
    begin = time.monotonic()
    try:
        if step.action:
            given = {key: filled_in(text, scope) for key, text in step.with_.items()}
            target = context.folder / "workspace"
            words = act(step.action, given, step.where, rehearsal.project, rehearsal.work, target)
        else:
            _run_script(step, context, scope)
    except StepError as error:
        rehearsal.reporter.failed(context.job, stage, str(error))
        return str(error)
    rehearsal.reporter.finished(context.job, stage, time.monotonic() - begin, words)
    return ""


def _run_script(step: Step, context: _JobContext, scope: Scope) -> None:
    """Run the script of a step. Raises `StepError` if it fails."""
    script = filled_in(step.run or Text("", ""), scope)
    own = {key: filled_in(text, scope) for key, text in step.env.items()}
    (context.folder / "script").write_text(script)
    with context.log.open("a") as log:
        log.write(f"== {script.strip()}\n")
        log.flush()
        begin = log.tell()
        done = subprocess.run(  # noqa: S603  the user's own workflow, on the user's machine
            [*SHELL, str(context.folder / "script")],
            cwd=context.folder / "workspace",
            env={**context.environment, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        output = context.log.read_bytes()[begin:].decode(errors="replace")
        message = f"{step.where}: exited with status {done.returncode}; its full output is in"
        raise StepError("\n  ".join([f"{message} {context.log}", *output.splitlines()[-SHOWN:]]))


def _outputs(file: Path, where: str) -> dict[str, str]:
    """Return the outputs that a step wrote to `$GITHUB_OUTPUT`, by name."""
    found = {}
    for line in file.read_text().splitlines():
        name, sign, value = line.partition("=")
        if not sign or "<<" in name:
            raise RehearsalError(f"{where}: {line!r} is not an output; write NAME=VALUE")
        found[name] = value
    return found

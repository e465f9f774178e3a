"""All jobs of a workflow in their order, as GitHub would run them, one after another."""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from publisher.rehearsal.errors import RehearsalError, StepError
from publisher.rehearsal.expressions import Scope, holds, shown, value_of
from publisher.rehearsal.matrix import combinations, name_of, values
from publisher.rehearsal.steps import Place, is_rehearsed, run_step
from publisher.rehearsal.workflow import Input, Job, Step, Workflow, read_workflow
from publisher.util.files import json_bytes, write_whole
from publisher.util.reporter import Reporter

Status = Literal["success", "failure", "skipped", "cancelled"]

DEEPEST = 4  # workflows that call each other (GitHub documentation, "Reuse workflows")


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

    `place` is the pattern of each job's: `folder` and `log` are folders that theirs lie in.
    `scope` has the contexts `github`, `vars` and `secrets`. `results` are filled as jobs
    end, by their full name, and kept in `record`; `before` are those of the last run.
    `passed_over` says what was not rehearsed.
    """

    place: Place
    scope: Scope
    reporter: Reporter
    record: Path
    before: Mapping[str, Result]
    results: dict[str, Result] = field(default_factory=dict)
    passed_over: dict[str, None] = field(default_factory=dict)

    def ended(self, name: str, result: Result) -> Result:
        """Keep what came of a job."""
        self.results[name] = result
        found = {
            name: {"status": one.status, "outputs": dict(one.outputs)}
            for name, one in self.results.items()
        }
        write_whole(self.record, json_bytes(found))
        return result


def read_record(path: Path) -> dict[str, Result]:
    """Return what came of the jobs of an earlier run; nothing if there was none."""
    try:
        found = json.loads(path.read_bytes())
        return {
            name: Result(entry["status"], dict(entry["outputs"]), again=True)
            for name, entry in found.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RehearsalError(f"{path}: is damaged; rehearse anew, without --again") from None


def run_workflow(
    rehearsal: Rehearsal, workflow: Workflow, inputs: Mapping[str, Any], prefix: str = ""
) -> dict[str, Result]:
    """Run the jobs of a workflow, each after those that it needs; return what came of each.

    Raises `RehearsalError` for what cannot be rehearsed; a job that fails does not.
    """
    scope = rehearsal.scope.with_(inputs=inputs)
    results: dict[str, Result] = {}
    waiting = dict(workflow.jobs)
    while waiting:
        ready = [job for job in waiting.values() if not set(job.needs) & waiting.keys()]
        if not ready:
            raise RehearsalError(f"{workflow.path}: jobs need each other: {', '.join(waiting)}")
        job = ready[0]
        del waiting[job.id]
        results[job.id] = _run_matrix(rehearsal, workflow, job, scope, results, prefix)
    return results


def _run_matrix(
    rehearsal: Rehearsal,
    workflow: Workflow,
    job: Job,
    scope: Scope,
    results: Mapping[str, Result],
    prefix: str,
) -> Result:
    """Run a job, or each of those that its matrix makes, if it is to run at all."""
    needed = {name: results[name] for name in job.needs}
    scope = scope.with_(
        needs={
            name: {"result": one.status, "outputs": dict(one.outputs)}
            for name, one in needed.items()
        }
    )
    good = all(one.status == "success" for one in needed.values())
    bad = any(one.status == "failure" for one in needed.values())
    if not holds(job.condition, scope.asking(_answers(good, bad))):
        name = f"{prefix}{job.id}"
        return rehearsal.ended(name, Result("skipped"))
    found: list[Result] = []
    anew = any(not one.again for one in needed.values())
    for combination in combinations(job, scope):
        inner = scope.with_(matrix=combination)
        name = prefix + name_of(job, inner)
        if job.fail_fast and any(one.status == "failure" for one in found):
            found.append(rehearsal.ended(name, Result("cancelled")))
            continue
        if job.uses is not None:
            found.append(_call(rehearsal, job, inner, name, anew=anew))
            continue
        before = rehearsal.before.get(name)
        if before is not None and before.status == "success" and not anew:
            found.append(rehearsal.ended(name, before))
            continue
        found.append(rehearsal.ended(name, _run_job(rehearsal, workflow, job, inner, name)))
    order: tuple[Status, ...] = ("failure", "cancelled", "success", "skipped")
    status = next(one for one in order if any(result.status == one for result in found))
    outputs = found[0].outputs if len(found) == 1 else {}
    return Result(status, outputs, again=all(one.again for one in found))


def _answers(good: bool, bad: bool) -> dict[str, bool]:
    return {"success": good, "failure": bad, "cancelled": False, "always": True}


def _call(rehearsal: Rehearsal, job: Job, scope: Scope, name: str, *, anew: bool) -> Result:
    """Run the workflow that a job calls; `anew` all of it, whatever succeeded before."""
    if name.count(" / ") >= DEEPEST:
        raise RehearsalError(f"{job.where}: too many workflows call each other")
    called = read_workflow(rehearsal.place.project, job.uses or "")
    declared = called.inputs.get("workflow_call")
    if declared is None:
        raise RehearsalError(f"{job.where}: {job.uses} is not on: workflow_call")
    given = values(job.arguments, scope)
    inner = replace(rehearsal, before={} if anew else rehearsal.before)
    results = run_workflow(inner, called, inputs_of(declared, given, job.where), f"{name} / ")
    bad = any(one.status in ("failure", "cancelled") for one in results.values())
    skipped = all(one.status == "skipped" for one in results.values())
    status: Status = "failure" if bad else "skipped" if skipped else "success"
    return Result(status, again=all(one.again for one in results.values()))


def inputs_of(
    declared: Mapping[str, Input], given: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return the inputs of a workflow. Raises `RehearsalError` for unknown and missing ones."""
    for name in given:
        if name not in declared:
            raise RehearsalError(f"{where}: {name} is no input; there is {', '.join(declared)}")
    found = {}
    for name, one in declared.items():
        if one.required and name not in given:
            raise RehearsalError(f"{where}: the input {name} is missing")
        empty: Any = False if one.type == "boolean" else ""
        found[name] = given.get(name, one.default if one.default is not None else empty)
    return found


def _run_job(rehearsal: Rehearsal, workflow: Workflow, job: Job, scope: Scope, name: str) -> Result:
    """Run the steps of a job in a folder of its own, which is removed if all went well."""
    pattern = rehearsal.place
    slug = re.sub(r"[^\w.-]+", "-", name)
    pattern.folder.mkdir(parents=True, exist_ok=True)
    # Another one each time: what a killed run started may still be writing to its own.
    folder = Path(tempfile.mkdtemp(prefix=f"{slug}-", dir=pattern.folder))
    log = pattern.log / f"{slug}.log"
    place = replace(pattern, folder=folder, log=log)
    for path in (place.log, place.summary):
        path.unlink(missing_ok=True)
    place = place.made()
    if job.environment:
        rehearsal.passed_over[f"the approval that environment {job.environment} asks for"] = None
    scope = scope.with_(env={**values(workflow.env, scope), **values(job.env, scope)}, steps={})
    steps: dict[str, Any] = {}
    messages: list[str] = []
    for step in job.steps:
        scope = scope.with_(steps=steps)
        failed = bool(messages)
        wanted = holds(step.condition, scope.asking(_answers(not failed, failed)))
        if not is_rehearsed(step):
            rehearsal.passed_over[f"{step.uses} ({step.where})"] = None
        if not (wanted and is_rehearsed(step)):
            continue
        outputs, message = _run_one(rehearsal, step, place, scope, name)
        if step.id is not None:
            steps[step.id] = {"outputs": outputs}
        tolerated = step.continue_on_error
        if message and not (tolerated if isinstance(tolerated, bool) else _yes(tolerated, scope)):
            messages.append(message)
    if messages:
        return Result("failure", message="\n".join(messages))
    outputs = {
        key: shown(value_of(text, scope.with_(steps=steps)), text.where)
        for key, text in job.outputs.items()
    }
    shutil.rmtree(folder)
    return Result("success", outputs)


def _yes(text: Any, scope: Scope) -> bool:
    return value_of(text, scope) is True


def _run_one(
    rehearsal: Rehearsal, step: Step, place: Place, scope: Scope, name: str
) -> tuple[dict[str, str], str]:
    """Run a step; return its outputs and why it failed, empty if it did not."""
    words = step.run.text.strip().splitlines()[0] if step.run else str(step.uses)
    stage = "run" if step.run else str(step.uses).rpartition("/")[2]
    rehearsal.reporter.started(name, stage, words)
    begin = time.monotonic()
    try:
        note, outputs = run_step(step, place, scope)
    except StepError as error:
        rehearsal.reporter.failed(name, stage, str(error))
        return {}, str(error)
    rehearsal.reporter.finished(name, stage, time.monotonic() - begin, note)
    return outputs, ""

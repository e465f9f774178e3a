"""A file of `.github/workflows` as values that know their line.

Source of the keys: GitHub documentation, "Workflow syntax for GitHub Actions". Keys that
change nothing here are known and passed over; any other is an error.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from publisher.registry.document import Document, Location, Problem, parse
from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Text

# What a file of this repository is called by: GitHub documentation, "Find and customize
# actions", and the older form.
OWN = ("$/", "./")

_WORKFLOW = ("name", "on", "env", "jobs", "permissions", "concurrency")
_JOB = (
    *("name", "needs", "if", "env", "outputs", "steps", "uses", "with", "strategy"),
    *("environment", "runs-on", "timeout-minutes", "permissions", "concurrency"),
)
_STRATEGY = ("matrix", "fail-fast", "max-parallel")
_STEP = ("id", "name", "if", "uses", "with", "run", "env", "continue-on-error", "timeout-minutes")

Values = Mapping[str, Any]  # texts as `Text`, other scalars as they are


@dataclass(frozen=True)
class Step:
    """One step: `run` is a script, or `uses` names an action without its commit."""

    where: str
    id: str | None
    condition: Text | None
    uses: str | None
    arguments: Values
    run: Text | None
    env: Values
    continue_on_error: Any


@dataclass(frozen=True)
class Job:
    """One job: `steps`, or `uses` is the path of another workflow in the repository."""

    where: str
    id: str
    name: Text | None
    needs: tuple[str, ...]
    condition: Text | None
    env: Values
    outputs: Values
    matrix: Values
    fail_fast: bool
    environment: str | None
    steps: tuple[Step, ...]
    uses: str | None
    arguments: Values


@dataclass(frozen=True)
class Input:
    """An input of a workflow that is called or started by hand."""

    type: str
    default: Any
    required: bool


@dataclass(frozen=True)
class Workflow:
    """A workflow; `inputs` are those by event: `workflow_call`, `workflow_dispatch`."""

    path: str
    events: tuple[str, ...]
    inputs: Mapping[str, Mapping[str, Input]]
    env: Values
    jobs: Mapping[str, Job]


def read_workflow(root: Path, path: str) -> Workflow:
    """Return the workflow at a path of the repository. Raises `RehearsalError`."""
    try:
        document = parse((root / path).read_bytes())
    except OSError as error:
        raise RehearsalError(f"{path}: cannot be read ({error.strerror})") from None
    problems = [document] if isinstance(document, Problem) else document.problems
    for problem in problems:
        raise RehearsalError(f"{path}:{problem.line}: {problem.message}")
    assert isinstance(document, Document)  # noqa: S101  the problem was raised
    return _Reader(path, document).workflow()


class _Reader:
    def __init__(self, path: str, document: Document) -> None:
        self._path = path
        self._document = document

    def workflow(self) -> Workflow:
        data = self._mapping(self._document.data, (), _WORKFLOW)
        events = data.get("on") or {}
        if not isinstance(events, Mapping):
            events = dict.fromkeys([events] if isinstance(events, str) else events)
        inputs = {}
        for event, settings in events.items():
            declared = settings.get("inputs") if isinstance(settings, Mapping) else None
            inputs[event] = {
                name: Input(
                    entry.get("type", "string"), entry.get("default"), bool(entry.get("required"))
                )
                for name, entry in (declared or {}).items()
            }
        jobs = self._mapping(data.get("jobs"), ("jobs",))
        workflow = Workflow(
            self._path,
            tuple(events),
            inputs,
            self._values(data, (), "env"),
            {name: self._job(name, job, ("jobs", name)) for name, job in jobs.items()},
        )
        for job in workflow.jobs.values():
            for need in job.needs:
                if need not in jobs:
                    raise RehearsalError(f"{job.where}: needs {need}, which is no job")
        return workflow

    def _job(self, name: str, found: Any, at: Location) -> Job:
        data = self._mapping(found, at, _JOB)
        strategy = self._mapping(data.get("strategy") or {}, (*at, "strategy"), _STRATEGY)
        needs = data.get("needs") or ()
        environment = data.get("environment")
        if isinstance(environment, Mapping):
            environment = environment.get("name")
        uses = data.get("uses")
        if ("steps" in data) == (uses is not None):
            raise self._error(at, f"the job {name} needs either steps or uses")
        if uses is not None and not str(uses).startswith(OWN):
            raise self._error((*at, "uses"), f"{uses} is a workflow of another repository")
        steps = data.get("steps") or ()
        return Job(
            where=self._where(at),
            id=name,
            name=self._text(data, at, "name"),
            needs=(needs,) if isinstance(needs, str) else tuple(needs),
            condition=self._text(data, at, "if"),
            env=self._values(data, at, "env"),
            outputs=self._values(data, at, "outputs"),
            matrix=self._values(strategy, (*at, "strategy"), "matrix"),
            fail_fast=strategy.get("fail-fast", True) is not False,
            environment=environment,
            steps=tuple(
                self._step(step, (*at, "steps", index)) for index, step in enumerate(steps)
            ),
            uses=None if uses is None else str(uses)[2:],
            arguments=self._values(data, at, "with"),
        )

    def _step(self, found: Any, at: Location) -> Step:
        data = self._mapping(found, at, _STEP)
        uses = data.get("uses")
        if (uses is None) == (data.get("run") is None):
            raise self._error(at, "a step needs either run or uses")
        trusted = data.get("continue-on-error", False)
        if isinstance(trusted, str):
            trusted = Text(trusted, self._where((*at, "continue-on-error")))
        return Step(
            where=self._where(at),
            id=data.get("id"),
            condition=self._text(data, at, "if"),
            uses=None if uses is None else str(uses).partition("@")[0],
            arguments=self._values(data, at, "with"),
            run=self._text(data, at, "run"),
            env=self._values(data, at, "env"),
            continue_on_error=trusted,
        )

    def _mapping(
        self, found: Any, at: Location, known: Iterable[str] | None = None
    ) -> Mapping[str, Any]:
        if not isinstance(found, Mapping):
            raise self._error(at, "a mapping is needed here")
        if known is not None:
            for key in found:
                if key not in known:
                    raise self._error(
                        (*at, key), f"the key {key!r} is not known here, so it is not rehearsed"
                    )
        return found

    def _values(self, data: Mapping[str, Any], at: Location, key: str) -> Values:
        """Return a mapping of texts and other scalars, or of lists of them."""
        if data.get(key) is None:
            return {}
        found = self._mapping(data[key], (*at, key))
        return {name: self._value(entry, (*at, key, name)) for name, entry in found.items()}

    def _value(self, found: Any, at: Location) -> Any:
        if isinstance(found, tuple):
            return [self._value(entry, (*at, index)) for index, entry in enumerate(found)]
        if isinstance(found, Mapping):
            return {name: self._value(entry, (*at, name)) for name, entry in found.items()}
        return Text(found, self._where(at)) if isinstance(found, str) else found

    def _text(self, data: Mapping[str, Any], at: Location, key: str) -> Text | None:
        found = data.get(key)
        if isinstance(found, bool | int):
            found = str(found).lower()
        return None if found is None else Text(str(found), self._where((*at, key)))

    def _where(self, at: Location) -> str:
        return f"{self._path}:{self._document.place(at)[0]}"

    def _error(self, at: Location, reason: str) -> RehearsalError:
        return RehearsalError(f"{self._where(at)}: {reason}; correct the workflow")

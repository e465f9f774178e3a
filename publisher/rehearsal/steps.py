"""One step, in the folder of its job."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from publisher.rehearsal import artifacts
from publisher.rehearsal.checkout import check_out
from publisher.rehearsal.errors import RehearsalError, StepError
from publisher.rehearsal.expressions import Scope, filled_in, shown
from publisher.rehearsal.matrix import values
from publisher.rehearsal.workflow import Step

CHECKOUT = "actions/checkout"
UPLOAD, DOWNLOAD = "actions/upload-artifact", "actions/download-artifact"
# What need not be done here, and why.
IDLE = {
    "actions/setup-python": "the environment of this checkout is linked",
    "actions/cache": "nothing is kept between jobs here",
}
SHELL = ("bash", "--noprofile", "--norc", "-e")
SHOWN = 15  # lines of a log that come with a failure

_OUTPUT = re.compile(r"(?P<name>[A-Za-z_][\w-]*)(?:<<(?P<end>.+)|=(?P<value>.*))")


@dataclass(frozen=True)
class Place:
    """Where a job runs: what it is copied from, its own folder, what is kept, and its log."""

    project: Path
    overlay: Path
    folder: Path
    store: Path
    log: Path
    environment: Mapping[str, str]

    @property
    def workspace(self) -> Path:
        """What the steps see as the current folder."""
        return self.folder / "workspace"

    @property
    def summary(self) -> Path:
        """The Markdown that steps write for people, beside the log."""
        return self.log.with_suffix(".summary.md")

    def made(self) -> "Place":
        """Make the folders of a job; return the place with the variables that name them."""
        for name in ("workspace", "home", "temp"):
            (self.folder / name).mkdir(parents=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        named = {
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "temp"),
            "RUNNER_TEMP": str(self.folder / "temp"),
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            # The package of the project is installed so that it is found where it lies.
            "PYTHONPATH": str(self.workspace),
        }
        return replace(self, environment={**self.environment, **named})


def run_step(step: Step, place: Place, scope: Scope) -> tuple[str, dict[str, str]]:
    """Run one step; return what was done, and its outputs.

    It has to be one that is rehearsed. Raises `StepError` if it fails, and `RehearsalError`
    for something in it that cannot be rehearsed.
    """
    if step.run is not None:
        return _script(step, place, scope)
    if step.uses == CHECKOUT:
        for name in step.arguments:
            if name != "persist-credentials":
                raise RehearsalError(f"{step.where}: the argument {name} is not rehearsed")
        count = check_out(place.project, place.overlay, place.workspace)
        return f"{count} files that git tracks", {}
    if step.uses in (UPLOAD, DOWNLOAD):
        action = artifacts.upload if step.uses == UPLOAD else artifacts.download
        arguments = values(step.arguments, scope)
        return action(place.store, place.workspace, arguments, step.where), {}
    return IDLE[str(step.uses)], {}


def is_rehearsed(step: Step) -> bool:
    """Whether a step is run here, or needs not be."""
    return step.uses is None or step.uses in (CHECKOUT, UPLOAD, DOWNLOAD, *IDLE)


def _script(step: Step, place: Place, scope: Scope) -> tuple[str, dict[str, str]]:
    assert step.run is not None  # noqa: S101
    environment = {
        name: shown(value, step.where) for name, value in values(step.env, scope).items()
    }
    outer = {
        name: shown(value, step.where) for name, value in scope.contexts.get("env", {}).items()
    }
    output, script = place.folder / "output", place.folder / "script"
    output.write_text("")
    script.write_text(filled_in(step.run, scope))
    with place.log.open("ab") as log:
        log.write(f"== {step.run.text.strip()}\n".encode())
        log.flush()
        begin = log.tell()
        done = subprocess.run(  # noqa: S603  what the workflow says, on the machine of who wrote it
            [*SHELL, str(script)],
            cwd=place.workspace,
            env={
                **place.environment,
                "GITHUB_OUTPUT": str(output),
                **outer,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        with place.log.open("rb") as log:
            log.seek(begin)
            lines = log.read().decode(errors="replace").splitlines()[-SHOWN:]
        said = "\n".join(f"  {line}" for line in lines)
        raise StepError(
            f"{step.where}: ended with status {done.returncode}; all it said is in"
            f" {place.log}\n{said}"
        )
    return step.run.text.strip().splitlines()[0], _outputs(output, step.where)


def _outputs(file: Path, where: str) -> dict[str, str]:
    """Return what a script wrote to `$GITHUB_OUTPUT`."""
    found: dict[str, Any] = {}
    lines = iter(file.read_text().splitlines())
    for line in lines:
        match = _OUTPUT.fullmatch(line)
        if not match:
            raise RehearsalError(f"{where}: {line!r} is no output; write NAME=VALUE")
        value, end = match["value"], match["end"]
        if end is not None:
            value = "\n".join(iter(lambda end=end: next(lines, end), end))
        found[match["name"]] = value
    return found

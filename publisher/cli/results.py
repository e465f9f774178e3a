"""What is printed at the end of a run, and the exit status that follows from it."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from publisher.cli import console
from publisher.cli.options import DONE, FAILED, Common
from publisher.errors import PublisherError


@dataclass(frozen=True)
class Outcome:
    """What came of publishing to a destination: its plan, if there was one, and one line.

    `error` is why it was not carried out to the end; `declined` says that a person said no.
    """

    name: str
    plan: Any
    summary: str
    error: PublisherError | None = None
    declined: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "destination": self.name,
            "plan": self.plan.model_dump(mode="json") if self.plan else None,
            "done": self.error is None and not self.declined,
            "message": str(self.error) if self.error else self.summary,
        }


def conclude(
    common: Common,
    commentary: console.Commentary,
    results: Sequence[Any],
    changes: Sequence[Any],
    release: Path | None = None,
    refusal: PublisherError | None = None,
    outcomes: Sequence[Outcome] = (),
) -> int:
    """Print what came of a run and return the exit status.

    `changes` are those of the release directory, and `refusal` is why it took nothing, or
    not everything. `outcomes` are those of the destinations besides it.
    """
    problems = Problems()
    rows = _rows(commentary, results, changes, refusal, problems)
    for outcome in outcomes:
        if outcome.error:
            problems.add(str(outcome.error), outcome.name, outcome.error)
        for change in outcome.plan.refused if outcome.plan else ():
            problems.add(change.message, change.handle)
    memory = console.peak_memory()
    if common.as_json:
        console.print_json(
            {
                "seconds": round(commentary.seconds, 3),
                "peak_memory_of_one_process": memory,
                **({"release": str(release)} if release else {}),
                "variants": rows,
                "destinations": [outcome.as_json() for outcome in outcomes],
                "events": commentary.events,
            }
        )
    else:
        print_rows(rows)
        where = f" in {release}" if release else ""
        good = sum("message" not in row for row in rows)
        console.print_line(
            f"{good} of {len(rows)} variants good{where}: {console.duration(commentary.seconds)},"
            f" peak memory of one process {memory / 1e9:.2f} GB"
        )
        for outcome in outcomes:
            console.print_line(f"{outcome.name}: {outcome.summary or 'failed'}")
    problems.print(debug=common.debug)
    declined = any(outcome.declined for outcome in outcomes)
    return FAILED if problems or declined else DONE


def _rows(
    commentary: console.Commentary,
    results: Sequence[Any],
    changes: Sequence[Any],
    refusal: PublisherError | None,
    problems: "Problems",
) -> list[dict[str, Any]]:
    """Return what came of each variant, and gather what went wrong."""
    from publisher.build.build import Built

    statuses = {change.handle: change for change in changes}
    touched = {event["subject"] for event in commentary.events if event["event"] == "finished"}
    rows = []
    for result in results:
        handle = result.variant.handle
        if not isinstance(result, Built):
            message = str(result.error)
            rows.append({"handle": handle, "status": "blocked", "message": message})
            problems.add(message, handle, result.error)
            continue
        built = "built" if handle in touched else "up to date"
        change = statuses.pop(handle, None)
        row = {
            "handle": handle,
            "status": built,
            "build": built,
            "archive": result.manifest.archive.as_json(),
            "synthetic": result.manifest.synthetic,
        }
        if refusal:
            row |= {"status": "not published", "message": str(refusal)}
            problems.add(str(refusal), handle, refusal)
        elif change:
            row["status"] = change.status
        if change and change.refused:
            row["message"] = change.message
            problems.add(change.message, handle)
        rows.append(row)
    rows += [
        {"handle": change.handle, "status": change.status}
        for change in statuses.values()
        if change.status in ("withdraw", "withdrawn")
    ]
    return rows


class Problems:
    """What went wrong: each message once, with the handles that it blocks."""

    def __init__(self) -> None:
        self._handles: dict[str, list[str]] = {}
        self._errors: dict[str, PublisherError] = {}

    def __bool__(self) -> bool:
        return bool(self._handles)

    def add(self, message: str, handle: str, error: PublisherError | None = None) -> None:
        """Note that `message` blocks a variant; with `--debug` the error says where it was."""
        self._handles.setdefault(message, []).append(handle)
        if error:
            self._errors.setdefault(message, error)

    def print(self, *, debug: bool) -> None:
        """Write all messages to stderr."""
        for message, handles in self._handles.items():
            if debug and message in self._errors:
                traceback.print_exception(self._errors[message])
            named = len(handles) == 1 and handles[0] in message
            console.print_error(message if named else f"{message}\n  (blocks {', '.join(handles)})")


def print_plan(plan: Any, waiting: Sequence[str], *, to_stderr: bool = False) -> None:
    """Print what would happen at one destination; the handles `waiting` are not built yet."""
    from publisher.release.plan import MEANINGS

    rows = [[change.handle, MEANINGS[change.status]] for change in plan.changes]
    rows += [[handle, "decided once it is built"] for handle in waiting]
    console.print_line("", to_stderr=to_stderr)
    console.print_table([f"IN {plan.destination}", "PLAN"], rows, to_stderr=to_stderr)
    if plan.writes:
        count = len(plan.writes)
        files = f"{count} small files are" if count > 1 else f"{plan.writes[0].path} is"
        console.print_line(f"{files} written there as well", to_stderr=to_stderr)


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Print what came of each variant."""
    cells = []
    for row in rows:
        archive = row.get("archive")
        cells.append(
            [
                row["handle"],
                shown_status(row["status"]) + (", synthetic" if row.get("synthetic") else ""),
                f"{archive['size'] / 1e6:,.1f} MB" if archive else "",
                archive["sha256"][:12] if archive else "",
            ]
        )
    console.print_table(["HANDLE", "STATUS", "ARCHIVE>", "SHA-256"], cells)


def shown_status(status: str) -> str:
    """Return a status in words."""
    words = {"page": "page changed", "changed": "refused", "withdraw": "marked as withdrawn"}
    return words.get(status, status)

"""The output at the end of a run, and the exit status."""

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from publisher.cli import console
from publisher.cli.options import DONE, FAILED, Common
from publisher.errors import PublisherError

if TYPE_CHECKING:
    from publisher.documents.plan import Plan
    from publisher.release.pipeline import Planned, Published
    from publisher.release.publish import Consent, Outcome

# The facts about one variant, for a table or `--json`.
Row = dict[str, Any]


class Problems:
    """The problems of a run: each message once, with the handles that it blocks."""

    def __init__(self) -> None:
        self._handles: dict[str, list[str]] = {}
        self._errors: dict[str, PublisherError] = {}

    def __bool__(self) -> bool:
        return bool(self._handles)

    def add(self, message: str, handle: str, error: PublisherError | None = None) -> None:
        """Record a message that blocks a variant; `--debug` shows the traceback of `error`."""
        self._handles.setdefault(message, []).append(handle)
        if error:
            self._errors.setdefault(message, error)

    def add_outcomes(self, outcomes: "Sequence[Outcome]") -> None:
        """Record the problems at destinations."""
        for outcome in outcomes:
            if outcome.error:
                self.add(str(outcome.error), outcome.name, outcome.error)
            for change in outcome.plan.refused if outcome.plan else ():
                self.add(change.message, change.handle)

    def print(self, *, debug: bool) -> None:
        """Write all messages to stderr."""
        for message, handles in self._handles.items():
            if debug and message in self._errors:
                traceback.print_exception(self._errors[message])
            named = len(handles) == 1 and handles[0] in message
            blocked = [] if named else [f"  (blocks {', '.join(handles)})"]
            console.print_error(*message.split("\n"), *blocked)


def conclude(
    common: Common,
    commentary: console.Commentary,
    published: "Published",
    release: Path | None = None,
) -> int:
    """Print the result of a run and return the exit status."""
    problems = Problems()
    rows = _rows(commentary, published, problems)
    problems.add_outcomes(published.outcomes)
    memory = console.peak_memory()
    if common.as_json:
        console.print_json(
            {
                "seconds": round(commentary.seconds, 3),
                "peak_memory_of_one_process": memory,
                **({"release": str(release)} if release else {}),
                "variants": rows,
                "destinations": [outcome_row(outcome) for outcome in published.outcomes],
                "events": commentary.events,
            }
        )
    else:
        _print_rows(rows)
        where = f" in {release}" if release else ""
        good = sum("message" not in row for row in rows)
        console.print_line(
            f"{good} of {len(rows)} variants good{where}: {console.duration(commentary.seconds)},"
            f" peak memory of one process {memory / 1e9:.2f} GB"
        )
        print_outcomes(published.outcomes)
    problems.print(debug=common.debug)
    return FAILED if problems or any_declined(published.outcomes) else DONE


def _rows(commentary: console.Commentary, published: "Published", problems: Problems) -> list[Row]:
    """Return a row for each variant, and record problems."""
    from publisher.build.build import Failed
    from publisher.release.publish import STAGE

    statuses = {change.handle: change for change in published.changes}
    refusal = published.refusal
    touched = {
        event["subject"]
        for event in commentary.events
        if event["event"] == "finished" and event["stage"] != STAGE
    }
    rows: list[Row] = []
    for result in published.results:
        handle = result.variant.handle
        if isinstance(result, Failed):
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


def _print_rows(rows: Sequence[Row]) -> None:
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


def planned_rows(planned: "Planned", problems: Problems) -> list[dict[str, str]]:
    """Return a row for each variant: what would be built and released. Record problems."""
    from publisher.build.build import Failed, Stale

    changes = {change.handle: change for change in planned.own.changes}
    rows = []
    for result in planned.results:
        handle = result.variant.handle
        row = {"handle": handle, "build": "", "reason": "", "release": "", "message": ""}
        if isinstance(result, Failed):
            row |= {"build": "blocked", "message": str(result.error)}
            problems.add(row["message"], handle, result.error)
        elif isinstance(result, Stale):
            row |= {"build": f"from {result.stage}", "reason": result.reason}
            row["release"] = "decided once built" if handle in planned.held else "new"
        else:
            change = changes.pop(handle)
            row |= {"build": "up to date", "release": change.status, "message": change.message}
            if change.refused:
                problems.add(change.message, handle)
        rows.append(row)
    rows += [
        {
            "handle": change.handle,
            "build": "none",
            "reason": "withdrawn",
            "release": change.status,
            "message": change.message,
        }
        for change in changes.values()
        if change.status in ("withdraw", "withdrawn")
    ]
    for change in (change for plan in planned.plans.plans for change in plan.refused):
        problems.add(change.message, change.handle)
    return rows


def print_planned(planned: "Planned", rows: Sequence[Mapping[str, str]], release: Path) -> None:
    """Print what would be built, and the plans for the release and the destinations."""
    columns = ("handle", "build", "reason")
    console.print_table(
        ["HANDLE", "BUILD", "BECAUSE", f"IN {release}"],
        [[*(row[name] for name in columns), shown_status(row["release"])] for row in rows],
    )
    for plan in planned.plans.plans:
        _print_plan(plan, planned.waiting)


def _print_plan(plan: "Plan", waiting: Sequence[str], *, to_stderr: bool = False) -> None:
    """Print the plan for one destination; the handles in `waiting` are not built yet."""
    from publisher.release.plan import MEANINGS

    rows = [[change.handle, MEANINGS[change.status]] for change in plan.changes]
    rows += [[handle, "decided once it is built"] for handle in waiting]
    console.print_line("", to_stderr=to_stderr)
    console.print_table([f"IN {plan.destination}", "PLAN"], rows, to_stderr=to_stderr)
    if plan.writes:
        count = len(plan.writes)
        files = f"{count} small files are" if count > 1 else f"{plan.writes[0].path} is"
        console.print_line(f"{files} written there as well", to_stderr=to_stderr)


def consent_of(commentary: console.Commentary, *, yes: bool) -> "Consent":
    """Return a function that shows a plan and asks for consent, or always consents if `yes`."""

    def asked(plan: "Plan") -> bool:
        if yes:
            return True
        with commentary.paused():
            _print_plan(plan, (), to_stderr=True)
            return click.confirm(f"Write this to {plan.destination}?", err=True)

    return asked


def print_outcomes(outcomes: "Sequence[Outcome]") -> None:
    """Print a line for each destination."""
    for outcome in outcomes:
        console.print_line(f"{outcome.name}: {_summary(outcome) or 'failed'}")


def outcome_row(outcome: "Outcome") -> Row:
    """Return the outcome at a destination, for `--json`."""
    return {
        "destination": outcome.name,
        "plan": outcome.plan.model_dump(mode="json") if outcome.plan else None,
        "done": outcome.did in ("nothing", "written"),
        "message": str(outcome.error) if outcome.error else _summary(outcome),
    }


def any_declined(outcomes: "Sequence[Outcome]") -> bool:
    """Return whether the user declined to write to a destination."""
    return any(outcome.did == "declined" for outcome in outcomes)


def _summary(outcome: "Outcome") -> str:
    if outcome.did == "written" and outcome.plan:
        count, others = outcome.versions, len(outcome.plan.writes)
        return (
            f"{count} new version{'s' if count != 1 else ''}, {others} other files written in"
            f" {console.duration(outcome.seconds)}"
        )
    return {"nothing": "nothing to do", "declined": "left as it is"}.get(outcome.did, "")


def shown_status(status: str) -> str:
    """Return a status in words."""
    words = {"page": "page changed", "changed": "refused", "withdraw": "marked as withdrawn"}
    return words.get(status, status)

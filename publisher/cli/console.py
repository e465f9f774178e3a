"""Output: progress on stderr, results on stdout.

Progress is bars on a terminal, and plain lines in a log or pipe. Results are tables, or with
`--json` one JSON document. Texts are wrapped in `Text`, because rich would read `[red]` as a
colour and part of `models.yaml:100:5` as an emoji.
"""

import logging
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from publisher.util.files import json_bytes

QUARTERS = 4  # progress lines for one transfer in a plain log
WIDE = 10_000  # columns of a table outside a terminal, so that each row is one line

Key = tuple[str, str]


class Commentary:
    """A `Reporter` for people: a line for each finished stage, and bars on a terminal.

    `events` records every event with its time, for `--json`. `quiet` suppresses all but
    warnings.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.events: list[dict[str, Any]] = []
        self._begin = time.monotonic()
        self._console = _stderr()
        self._quiet = quiet
        self._quarter: dict[Key, int] = {}
        self._reasons: dict[Key, str] = {}
        self._tasks: dict[Key, TaskID] = {}
        self._bars: Progress | None = None
        if self._console.is_terminal and not quiet:
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("[bold]{task.fields[stage]:<8}[/bold] {task.fields[subject]}"),
                _OfTransfers(BarColumn(bar_width=20)),
                _OfTransfers(DownloadColumn()),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )

    def __enter__(self) -> Self:
        """Start the display."""
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the display."""
        if self._bars:
            self._bars.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the display during a prompt."""
        if self._bars:
            self._bars.stop()
        try:
            yield
        finally:
            if self._bars:
                self._bars.start()

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return time.monotonic() - self._begin

    def started(self, subject: str, stage: str, reason: str) -> None:
        """Report that a stage starts, and why."""
        self._note("started", subject=subject, stage=stage, reason=reason)
        if self._bars:
            self._reasons[subject, stage] = reason
            self._tasks[subject, stage] = self._bars.add_task(
                "", total=None, subject=subject, stage=stage
            )
        else:
            self._line(f"{stage:<8} {subject}: starts ({reason})")

    def progress(self, subject: str, stage: str, done: int, total: int | None) -> None:
        """Move the bar; in a log, report each quarter."""
        if self._bars:
            if (subject, stage) in self._tasks:
                self._bars.update(self._tasks[subject, stage], completed=done, total=total)
            return
        if not total:
            return
        quarter = QUARTERS * done // total
        if quarter > self._quarter.get((subject, stage), 0):
            self._quarter[subject, stage] = quarter
            self._line(f"{stage:<8} {subject}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

    def finished(self, subject: str, stage: str, seconds: float, note: str) -> None:
        """Report that a stage is done, its duration and its result."""
        self._note("finished", subject=subject, stage=stage, seconds=round(seconds, 3), note=note)
        reason = self._forget(subject, stage)
        because = f" ({reason})" if reason else ""
        self._line(f"{stage:<8} {subject}: done in {seconds:.1f} s, {note}{because}")

    def failed(self, subject: str, stage: str, message: str) -> None:
        """Report that a stage failed; the results contain the message."""
        self._note("failed", subject=subject, stage=stage, message=message)
        self._forget(subject, stage)
        self._line(f"{stage:<8} {subject}: failed", style="red")

    def warn(self, message: str) -> None:
        """Print a warning, even if `quiet`."""
        self._note("warning", message=message)
        self._console.print(Text.assemble(("warning:", "yellow"), f" {message}"))

    def _forget(self, subject: str, stage: str) -> str:
        """Remove a stage from the display; return why it ran, if that was not printed yet."""
        self._quarter.pop((subject, stage), None)
        task = self._tasks.pop((subject, stage), None)
        if task is not None and self._bars:
            self._bars.remove_task(task)
        return self._reasons.pop((subject, stage), "")

    def _line(self, text: str, style: str = "") -> None:
        if not self._quiet:
            at = (f"{self.seconds:7.1f} s  ", "dim")
            self._console.print(Text.assemble(at, (text, style)))

    def _note(self, event: str, **facts: Any) -> None:
        self.events.append({"event": event, "at": round(self.seconds, 3), **facts})


class _OfTransfers(ProgressColumn):
    """Shows a column only for stages that report progress."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        return self._column(task) if task.total else ""


def _stdout() -> Console:
    return Console(highlight=False)


def _stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(json_bytes(value).decode())
    sys.stdout.flush()  # a closed pipe must raise here rather than when Python exits


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, to_stderr: bool = False
) -> None:
    """Write a table to stdout; `>` at the end of a column's name aligns it to the right."""
    console = Console(stderr=to_stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=to_stderr, highlight=False, width=WIDE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify = "right" if column.endswith(">") else "left"
        table.add_column(column.rstrip(">"), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def print_line(text: str, *, to_stderr: bool = False) -> None:
    """Write one line of a result to stdout."""
    (_stderr() if to_stderr else _stdout()).print(Text(text), soft_wrap=True)


def print_error(message: str) -> None:
    """Write an error to stderr."""
    _stderr().print(Text.assemble(("error:", "bold red"), f" {message}"))


def print_warning(message: str) -> None:
    """Write a warning to stderr."""
    _stderr().print(Text.assemble(("warning:", "yellow"), f" {message}"))


def log_to_stderr(*, quiet: bool) -> None:
    """Send the logs of libraries and this program to stderr, one line for each event."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING if quiet else logging.INFO,
        format="%(asctime)s %(message)s",
    )


def duration(seconds: float) -> str:
    """Format a duration for people: `41.3 s`, `6 min 12 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def peak_memory() -> int:
    """Return the peak memory in bytes of any one process: this one, or a finished child."""
    kilobytes = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


def machine_memory() -> int:
    """Return the memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def budget() -> float:
    """Return the default memory budget of all running stages, in gigabytes."""
    return 0.75 * machine_memory() / 1e9

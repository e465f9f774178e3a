"""How the command line speaks: what is happening on stderr, results on stdout.

On a terminal a person sees bars that move; elsewhere (a log, a pipe) plain lines. The
results go to stdout as tables, or with `--json` as one JSON document. Texts are shown as
they are (`Text`): rich would find colours in `[red]` and an emoji in `models.yaml:100:5`.
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

QUARTERS = 4  # a plain log tells of a transfer this many times
WIDE = 10_000  # columns of a table that is not shown on a terminal: every row is a line

Key = tuple[str, str]


class Commentary:
    """A `Reporter` for people: one line a finished stage, and bars on a terminal.

    Keeps every event with its time in `events`, for `--json`. `quiet` leaves only
    warnings and failures.
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
        """Take the display away while a person is asked something."""
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
        """Show that a stage starts, and why."""
        self._note("started", subject=subject, stage=stage, reason=reason)
        if self._bars:
            self._reasons[subject, stage] = reason
            self._tasks[subject, stage] = self._bars.add_task(
                "", total=None, subject=subject, stage=stage
            )
        else:
            self._line(f"{stage:<8} {subject}: starts ({reason})")

    def progress(self, subject: str, stage: str, done: int, total: int | None) -> None:
        """Move the bar; in a log, say each quarter."""
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
        """Say that a stage is done, how long it took and what came of it."""
        self._note("finished", subject=subject, stage=stage, seconds=round(seconds, 3), note=note)
        reason = self._forget(subject, stage)
        because = f" ({reason})" if reason else ""
        self._line(f"{stage:<8} {subject}: done in {seconds:.1f} s, {note}{because}")

    def failed(self, subject: str, stage: str, message: str) -> None:
        """Say that a stage failed; the message comes with the results."""
        self._note("failed", subject=subject, stage=stage, message=message)
        self._forget(subject, stage)
        self._line(f"{stage:<8} {subject}: failed", style="red")

    def warn(self, message: str) -> None:
        """Say something a person should know, whatever else is shown."""
        self._note("warning", message=message)
        self._console.print(Text.assemble(("warning:", "yellow"), f" {message}"))

    def _forget(self, subject: str, stage: str) -> str:
        """Take a stage off the display; return why it ran, if that is not shown yet."""
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
    """Shows a column only for stages that tell how far they are."""

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
    sys.stdout.flush()  # whoever has enough of it is met here and not when Python ends


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, to_stderr: bool = False
) -> None:
    """Write a table to stdout; a column whose name ends in `>` is aligned to the right."""
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
    """Write something a person should know to stderr."""
    _stderr().print(Text.assemble(("warning:", "yellow"), f" {message}"))


def log_to_stderr(*, quiet: bool) -> None:
    """Let what libraries and this program log appear on stderr, one line an event."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING if quiet else logging.INFO,
        format="%(asctime)s %(message)s",
    )


def duration(seconds: float) -> str:
    """Return a time for people: `41.3 s`, `6 min 12 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def peak_memory() -> int:
    """Return the most memory, in bytes, that any one process of this run held so far.

    Counts this process and its finished children, each alone.
    """
    kilobytes = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


def machine_memory() -> int:
    """Return the memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def budget() -> float:
    """Return the memory that stages may take together unless told otherwise, in gigabytes."""
    return 0.75 * machine_memory() / 1e9

"""Output: progress on stderr, results on stdout.

Progress is bars on a terminal, and plain lines in a log or pipe. Results are tables, or with
`--json` one JSON document. Texts are wrapped in `Text`, because rich would read `[red]` as a
colour and part of `models.yaml:100:5` as an emoji. Every text passes `printable`, because names
and reasons come from files and servers, and no escape sequence or line break of theirs may reach
a terminal.
"""

import json
import logging
import os
import resource
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.markup import escape
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


def printable(text: str) -> str:
    r"""Return a text on one line, with everything unprintable escaped as in Python: `\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        c if _is_printable(c) else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _is_printable(character: str) -> bool:
    """Return whether a terminal shows a character in its place; wide and narrow spaces count."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


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
                "", total=None, subject=escape(printable(subject)), stage=stage
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
        self._console.print(Text.assemble(("warning:", "yellow"), f" {printable(message)}"))

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
            self._console.print(Text.assemble(at, (printable(text), style)))

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
    text = json_bytes(value).decode()
    sys.stdout.write(
        "".join(c if c == "\n" or _is_printable(c) else json.dumps(c)[1:-1] for c in text)
    )
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
        table.add_column(Text(printable(column.rstrip(">"))), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


def print_line(*lines: str, to_stderr: bool = False) -> None:
    """Write lines of a result to stdout."""
    text = "\n".join(map(printable, lines))
    (_stderr() if to_stderr else _stdout()).print(Text(text), soft_wrap=True)


def print_error(message: str, *more: str) -> None:
    """Write an error to stderr; `more` are further lines."""
    lines = "\n".join(map(printable, (message, *more)))
    _stderr().print(Text.assemble(("error:", "bold red"), f" {lines}"))


def print_warning(message: str) -> None:
    """Write a warning to stderr."""
    _stderr().print(Text.assemble(("warning:", "yellow"), f" {printable(message)}"))


class _Printable(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        return printable(super().formatMessage(record))


def log_to_stderr(*, quiet: bool) -> None:
    """Send the logs of libraries and this program to stderr, one line for each event."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[handler])


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

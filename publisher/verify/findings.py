"""Findings: statements that are proved, failed or open."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["proved", "failed", "open"]
SHOWN = 5  # problems in a line


@dataclass(frozen=True)
class Finding:
    """One statement. An `open` one was not checked; `detail` says why."""

    status: Status
    what: str
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return asdict(self)


def proved(what: str, detail: str) -> Finding:
    """Return a statement that holds."""
    return Finding("proved", what, detail)


def failed(what: str, detail: str) -> Finding:
    """Return a statement that does not hold."""
    return Finding("failed", what, detail)


def unproved(what: str, detail: str) -> Finding:
    """Return a statement that was not checked."""
    return Finding("open", what, detail)


def proved_unless(what: str, problems: Iterable[str], detail: str) -> Finding:
    """Return a failure that lists the first problems, or without problems a proof."""
    found = list(problems)
    if not found:
        return proved(what, detail)
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return failed(what, "; ".join(found[:SHOWN]) + more)


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 archive`, `8 archives`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"

"""What was proved, what failed, and what was not looked at."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["proved", "failed", "open"]
SHOWN = 5  # problems in a line


@dataclass(frozen=True)
class Finding:
    """One statement. `open` is what this run says nothing about; `detail` says why."""

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
    """Return a statement that nobody looked at."""
    return Finding("open", what, detail)


def proved_unless(what: str, problems: Iterable[str], otherwise: str) -> Finding:
    """Return a failure that lists some of the problems, or what holds if there are none."""
    found = list(problems)
    if not found:
        return proved(what, otherwise)
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return failed(what, "; ".join(found[:SHOWN]) + more)


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number and what is counted: `1 archive`, `8 archives`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"

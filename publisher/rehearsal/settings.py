"""What a rehearsal is asked for."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RehearsalSettings:
    """One rehearsal. `work` is the folder that it works in and publishes to.

    With a `tag`, the workflow runs as if that tag had been pushed. Otherwise it runs as if
    somebody had started it by hand with the inputs `globs`, `to`, `all_or_nothing` and
    `dry_run`. `again` continues the last run, and `further` starts another release on top of
    what the last one published.
    """

    globs: tuple[str, ...]
    work: Path
    weights: str
    to: tuple[str, ...]
    small: bool
    tag: str | None
    all_or_nothing: bool
    dry_run: bool
    again: bool
    further: bool

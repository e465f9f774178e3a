"""What a person asked for, as the command line gathers it. Importing it costs nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from publisher.documents.plan import SavedPlans


@dataclass(frozen=True)
class PublishSettings:
    """Where `plan` and `publish` put what is built, and under which conditions.

    `release` is the release directory and `to` names destinations of models.yaml. `built` are
    release directories that were made elsewhere, to publish those and build nothing. `saved`
    are plans that have to be made again now, or nothing is published.
    """

    release: Path
    to: tuple[str, ...] = ()
    built: tuple[Path, ...] = ()
    all_or_nothing: bool = False
    allow_synthetic: bool = False
    reinstate: bool = False
    saved: "SavedPlans | None" = None


@dataclass(frozen=True)
class WithdrawSettings:
    """The version that `withdraw` marks, why, and where the marks go."""

    registry_file: Path
    handle: str
    reason: str
    build: Path
    release: Path
    to: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReviewSettings:
    """The release to review, the destinations to compare it with, and the pages before."""

    templates: Path
    build: Path
    release: Path
    to: tuple[str, ...] = ()
    before: Path | None = None


@dataclass(frozen=True)
class PullSettings:
    """The destinations to look at, in this order, and where to bring what one holds."""

    build: Path
    release: Path
    sources: tuple[str, ...]
    built: tuple[Path, ...] = ()

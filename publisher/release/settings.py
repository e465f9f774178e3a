"""Settings from the command line. This module imports nothing expensive."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from publisher.documents.plan import SavedPlans


@dataclass(frozen=True)
class PublishSettings:
    """Where `plan` and `publish` publish to, and under which conditions.

    `release` is the release directory and `to` names destinations of models.yaml. `built` are
    folders with release directories of other machines, which are published instead of building.
    `saved` are plans that publishing must not deviate from.
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
    """The version that `withdraw` withdraws, the reason, and where that is published."""

    registry_file: Path
    handle: str
    reason: str
    build: Path
    release: Path
    to: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReviewSettings:
    """The release to review, the destinations to plan for, and a folder of the pages before."""

    templates: Path
    build: Path
    release: Path
    to: tuple[str, ...] = ()
    before: Path | None = None


@dataclass(frozen=True)
class PullSettings:
    """The destinations to pull from, in order of preference, and the release directory."""

    build: Path
    release: Path
    sources: tuple[str, ...]
    built: tuple[Path, ...] = ()

"""What a person asked for, gathered in one place by the command line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """One run. Paths are absolute.

    `locked` refuses weights that `models.lock.yaml` does not list; `thorough` checks
    parity at the native resolution of every variant, and each archive's graph although another
    with the same graph was checked. At most `jobs` stages are at work
    side by side, and together they are expected to need at most `memory` bytes.
    """

    registry_file: Path
    build: Path
    locked: bool
    thorough: bool
    jobs: int
    memory: int

    @property
    def templates(self) -> Path:
        """The registry's own page templates, beside it; the distribution has all others."""
        return self.registry_file.parent / "templates"

    @property
    def lock_file(self) -> Path:
        """The recorded digests of the weight files, beside the registry."""
        return self.registry_file.with_suffix(".lock.yaml")

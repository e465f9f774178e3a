"""Settings of a build, which the command line gathers."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The settings of one run. Paths are absolute.

    `locked` refuses weights that `models.lock.yaml` does not list. `thorough` also checks parity
    at the native resolution of every variant, and the graph of every archive even if an equal
    one was checked. At most `jobs` stages run at a time, with an expected total of at most
    `memory` bytes.
    """

    registry_file: Path
    build: Path
    locked: bool
    thorough: bool
    jobs: int
    memory: int

    @property
    def templates(self) -> Path:
        """The registry's own page templates, beside it; others come from the distribution."""
        return self.registry_file.parent / "templates"

    @property
    def lock_file(self) -> Path:
        """The lock file with the digests of weight files, beside the registry."""
        return self.registry_file.with_suffix(".lock.yaml")

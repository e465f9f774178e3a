"""What the pipeline tells whoever is watching."""

from typing import Protocol


class Reporter(Protocol):
    """Receives what happens, as it happens. `subject` is a handle or a checkpoint's name."""

    def started(self, subject: str, stage: str, reason: str) -> None:
        """Tell that a stage starts, and why it has to."""

    def progress(self, subject: str, stage: str, done: int, total: int | None) -> None:
        """Tell the bytes done by a running stage, and the total if that is known."""

    def finished(self, subject: str, stage: str, seconds: float, note: str) -> None:
        """Tell that a running stage is done; `note` gives its size or figures."""

    def failed(self, subject: str, stage: str, message: str) -> None:
        """Tell that a running stage failed: what needs it is blocked, the others go on."""

    def warn(self, message: str) -> None:
        """Tell something a person should know."""


class Silent:
    """Tells nobody."""

    def started(self, subject: str, stage: str, reason: str) -> None:
        """Ignore it."""

    def progress(self, subject: str, stage: str, done: int, total: int | None) -> None:
        """Ignore it."""

    def finished(self, subject: str, stage: str, seconds: float, note: str) -> None:
        """Ignore it."""

    def failed(self, subject: str, stage: str, message: str) -> None:
        """Ignore it."""

    def warn(self, message: str) -> None:
        """Ignore it."""

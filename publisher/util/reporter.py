"""Progress events of the pipeline."""

from typing import Protocol


class Reporter(Protocol):
    """Receives events as they happen. `subject` is a handle or a checkpoint's name."""

    def started(self, subject: str, stage: str, reason: str) -> None:
        """Report that a stage starts, and why it has to run."""

    def progress(self, subject: str, stage: str, done: int, total: int | None) -> None:
        """Report the bytes that a running stage has done, and the total if it is known."""

    def finished(self, subject: str, stage: str, seconds: float, note: str) -> None:
        """Report that a running stage is done; `note` gives its size or figures."""

    def failed(self, subject: str, stage: str, message: str) -> None:
        """Report that a running stage failed, which blocks only the stages that need it."""

    def warn(self, message: str) -> None:
        """Report something that a person should know."""


class Silent:
    """A reporter that ignores every event."""

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

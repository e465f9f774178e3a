"""The errors that this package raises."""

from publisher.errors import PublisherError


class RehearsalError(PublisherError):
    """A workflow has a part that a rehearsal does not support, or that GitHub would reject."""


class StepError(RehearsalError):
    """A step failed, as it would on GitHub."""

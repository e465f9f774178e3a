"""What can go wrong with a rehearsal."""

from publisher.errors import PublisherError


class RehearsalError(PublisherError):
    """A workflow has something that cannot be rehearsed, or that GitHub would refuse."""


class StepError(RehearsalError):
    """A step failed, as it would have failed on GitHub."""

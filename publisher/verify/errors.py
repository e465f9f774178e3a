"""The error that this package raises."""

from publisher.errors import PublisherError


class VerifyError(PublisherError):
    """The model or release to verify cannot be found or read."""

"""What goes wrong before anything can be verified."""

from publisher.errors import PublisherError


class VerifyError(PublisherError):
    """What should be verified cannot be found or read."""

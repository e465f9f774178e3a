"""What goes wrong with a release."""

from publisher.errors import PublisherError


class ReleaseError(PublisherError):
    """A release cannot be found or read, or contradicts itself."""

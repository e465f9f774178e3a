"""The error that this package raises."""

from publisher.errors import PublisherError


class SigningError(PublisherError):
    """Something cannot be signed, or is not what was signed."""

"""The error of this room."""

from publisher.errors import PublisherError


class SigningError(PublisherError):
    """Something cannot be signed, or is not what was signed."""

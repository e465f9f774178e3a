"""The error that this package raises."""

from publisher.errors import PublisherError


class SigningError(PublisherError):
    """A file cannot be signed, or its signature or statement is not valid."""

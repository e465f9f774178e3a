"""The error of this room."""

from publisher.errors import PublisherError


class PageError(PublisherError):
    """A page cannot be rendered, or breaks a rule of the documentation format."""

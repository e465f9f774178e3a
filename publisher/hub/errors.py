"""The error that this package raises."""

from publisher.errors import PublisherError


class HubError(PublisherError):
    """A release cannot be served, or a place for its site cannot be used."""

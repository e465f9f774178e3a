"""The error that this package raises."""

from publisher.errors import PublisherError


class DocumentError(PublisherError):
    """A document is damaged, or is not what this program writes."""

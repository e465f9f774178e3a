"""What goes wrong with a document that was read."""

from publisher.errors import PublisherError


class DocumentError(PublisherError):
    """A document is damaged, or is not what this program writes."""

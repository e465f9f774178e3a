"""The errors that this package raises."""

from publisher.errors import PublisherError


class WeightsError(PublisherError):
    """A weight file cannot be fetched, read or trusted. The message says what to do."""


class UnreachableError(WeightsError):
    """Every attempt failed before the server answered."""

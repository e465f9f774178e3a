"""The errors that this package raises."""

from publisher.errors import PublisherError


class WeightsError(PublisherError):
    """A weight file cannot be had, read or trusted; the message says what to do."""


class UnreachableError(WeightsError):
    """No attempt got any answer from the address."""

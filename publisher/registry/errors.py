"""The error that this package raises."""

from publisher.errors import PublisherError


class RegistryError(PublisherError):
    """`models.yaml` is invalid, or does not have what was asked for.

    The message has a line for each problem, in the order of the file:
    `models.yaml:LINE:COLUMN: what is wrong; what is allowed`.
    """

    wrong_input = True

"""The error that this package raises."""

from publisher.errors import PublisherError


class RegistryError(PublisherError):
    """`models.yaml` is wrong, or names nothing that was asked for.

    The message has one line for each problem, in the order of the file, each
    `models.yaml:LINE:COLUMN: what is wrong, what is allowed`.
    """

    wrong_input = True

"""The error that this package raises."""

from publisher.errors import PublisherError


class PageError(PublisherError):
    """A page cannot be rendered, or breaks a rule of the documentation format."""


class WrongTemplateError(PageError):
    """A template is missing or does not compile."""

    wrong_input = True

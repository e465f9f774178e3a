"""The base of every error that a user can meet, several at once, and what pydantic found."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError


class PublisherError(Exception):
    """Something a user can act on.

    The message says what is wrong, where (file, array, handle, address) and what
    to do about it. The command line prints it without a traceback. Subclasses take
    the message as their only argument, so that they survive the way back from a
    worker process.
    """

    # Whether what a person wrote is wrong, models.yaml or a template: exit status 2, not 1.
    wrong_input: ClassVar[bool] = False


class SeveralError(PublisherError):
    """Several errors that do not depend on each other; the message has a line for each."""


class WrongInputError(SeveralError):
    """Several errors, and at least one is in what a person wrote."""

    wrong_input = True


def raise_all(errors: Sequence[PublisherError]) -> None:
    """Raise the errors, if there are any: a single one as it is, several as one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        wrong_input = any(error.wrong_input for error in errors)
        kind = WrongInputError if wrong_input else SeveralError
        raise kind("\n".join(map(str, errors)))


def first_problem(error: "ValidationError", document: str = "", whole: str = "the document") -> str:
    """Return the first thing that is wrong with a document, and where: `place.in.it: why`.

    A place begins with the name of the document; without one `whole` stands for all of it.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join([document, *(str(part)[:100] for part in first["loc"])]).strip(".")
    return f"{place or whole}: {first['msg']}"

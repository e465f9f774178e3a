"""The base of every error that a user can meet, and what pydantic found, in one line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class PublisherError(Exception):
    """Something a user can act on.

    The message says what is wrong, where (file, array, handle, address) and what
    to do about it. The command line prints it without a traceback. Subclasses take
    the message as their only argument, so that they survive the way back from a
    worker process.
    """


def first_problem(error: "ValidationError", document: str = "", whole: str = "the document") -> str:
    """Return the first thing that is wrong with a document, and where: `place.in.it: why`.

    A place begins with the name of the document; without one `whole` stands for all of it.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join([document, *(str(part)[:100] for part in first["loc"])]).strip(".")
    return f"{place or whole}: {first['msg']}"

"""The base of every error that a user can meet."""


class PublisherError(Exception):
    """Something a user can act on.

    The message says what is wrong, where (file, array, handle, address) and what
    to do about it. The command line prints it without a traceback. Subclasses take
    the message as their only argument, so that they survive the way back from a
    worker process.
    """

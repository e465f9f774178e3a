"""Conditional and partial requests, as RFC 9110 has them (sections 13 and 14)."""

import re

_RANGE = re.compile(r"bytes=\s*([0-9]*)-([0-9]*)\s*", re.IGNORECASE)
_TAG = re.compile(r'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_DIGITS = 20  # more than the size of any file has


class UnsatisfiableError(Exception):
    """The part that is asked for lies outside of the file."""


def none_match(header: str | None, etag: str) -> bool:
    """Return whether `If-None-Match` lets the answer be sent (RFC 9110, 13.1.2)."""
    if header is None:
        return True
    if header.strip() == "*":
        return False
    position = 0
    while found := _TAG.match(header, position):
        if found[2] == etag:
            return False
        position = found.end()
    return True


def part(header: str | None, condition: str | None, etag: str, size: int) -> range | None:
    """Return the bytes that `Range` asks for, or `None` for the whole file.

    The whole file is also the answer to what is no range of bytes, to several ranges at
    once, which a server may ignore (RFC 9110, 14.2), and where `If-Range` (`condition`)
    names another file. Raises `UnsatisfiableError`.
    """
    asked = _RANGE.fullmatch(header) if header else None
    if asked is None or (condition is not None and condition.strip() != etag):
        return None
    first, last = _number(asked[1]), _number(asked[2])
    if first is None and last is None:
        return None
    if first is None:  # the last so many bytes
        first, last = (size if last == 0 else max(size - (last or 0), 0)), size
    elif last is not None and last < first:
        return None
    if first >= size:
        raise UnsatisfiableError
    return range(first, size if last is None else min(last + 1, size))


def _number(digits: str) -> int | None:
    """Return a number, of an absurdly long one its beginning, which is more than any size."""
    return int(digits.lstrip("0")[:_DIGITS] or 0) if digits else None

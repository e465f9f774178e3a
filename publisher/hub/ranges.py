"""Conditional and range requests (RFC 9110, sections 13 and 14)."""

import re

_RANGE = re.compile(r"bytes=\s*([0-9]*)-([0-9]*)\s*", re.IGNORECASE)
_TAG = re.compile(r'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_DIGITS = 20  # more than any file size has


class UnsatisfiableError(Exception):
    """The requested range lies outside of the file."""


def none_match(header: str | None, etag: str) -> bool:
    """Return whether `If-None-Match` allows a full response (RFC 9110, 13.1.2)."""
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
    """Return the range of bytes that `Range` requests, or `None` for the whole file.

    Returns `None` too if the header is not a valid range of bytes, if it requests several ranges
    (which a server may ignore: RFC 9110, 14.2), or if `If-Range` (`condition`) names another
    version of the file. Raises `UnsatisfiableError` if the range lies outside of the file.
    """
    asked = _RANGE.fullmatch(header) if header else None
    if asked is None or (condition is not None and condition.strip() != etag):
        return None
    first, last = _number(asked[1]), _number(asked[2])
    if first is None and last is None:
        return None
    if first is None:  # a suffix: the last bytes of the file
        first, last = (size if last == 0 else max(size - (last or 0), 0)), size
    elif last is not None and last < first:
        return None
    if first >= size:
        raise UnsatisfiableError
    return range(first, size if last is None else min(last + 1, size))


def _number(digits: str) -> int | None:
    """Parse a number. Truncates an absurdly long one, which still exceeds any file size."""
    return int(digits.lstrip("0")[:_DIGITS] or 0) if digits else None

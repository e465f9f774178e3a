"""Values and lists in messages: short, on one line, without invisible characters."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LONGEST = 60  # characters of a value
MOST = 24  # entries of a list


def shown(text: str) -> str:
    """Return a value in quotes, shortened, with invisible characters escaped."""
    if len(text) > LONGEST:
        text = text[: LONGEST - 3] + "..."
    return repr(text)


def listed(names: Iterable[str]) -> str:
    """Return names separated by commas; a long list is cut off and its rest counted."""
    names = list(names)
    rest = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return (", ".join(_plain(name) for name in names[:MOST]) or "none") + rest


def nearest(text: str, known: Sequence[str], count: int = 1) -> list[str]:
    """Return the known names that are similar to `text`, the nearest first."""
    # The comparison takes quadratic time, and no name is long.
    return get_close_matches(text[:200], known, n=count, cutoff=0.6)


def known_names(near: Sequence[str], known: Sequence[str]) -> str:
    """Return the end of a message about an unknown name: the near names, or else all."""
    return f"near ones: {listed(near)}" if near else f"there are: {listed(known)}"


def suggestion(text: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown value: a guess, and what is allowed."""
    near = nearest(text, known)
    meant = f", did you mean {shown(near[0])}?" if near else ";"
    return f"{meant} allowed: {listed(known)}"


def _plain(name: str) -> str:
    return name if name.isprintable() and len(name) <= 2 * LONGEST else shown(name)

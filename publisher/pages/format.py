"""Formats numbers and text for pages."""

from collections.abc import Sequence

_UNITS = ("kB", "MB", "GB", "TB")
_OPEN_DIMENSIONS = ("batch", "height", "width")


def human_size(size: int) -> str:
    """Return a size in bytes with a decimal unit: `94.0 MB`."""
    if size < 1000:
        return f"{size} bytes"
    value = float(size)
    for unit in _UNITS:
        value /= 1000
        # Compared as it will be shown, so that 999,999 bytes are not "1000.0 kB".
        if round(value, 1) < 1000:
            return f"{value:.1f} {unit}"
    return f"{value:,.1f} {_UNITS[-1]}"


def thousands(number: int) -> str:
    """Return a whole number with separators: `25,549,352`."""
    return f"{number:,}"


def scientific(number: float) -> str:
    """Return a number with two significant digits: `2.4e-05`."""
    return f"{number:.1e}"


def shape(dimensions: Sequence[int | None]) -> str:
    """Return a tensor's shape: `(batch, height, width, 3)`; `None` is an open dimension."""
    names = [
        _OPEN_DIMENSIONS[position] if size is None else str(size)
        for position, size in enumerate(dimensions)
    ]
    return f"({', '.join(names)})"


def cell(text: object) -> str:
    """Return text that stays in one cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def plain(text: object) -> str:
    """Return text with Markdown's special characters escaped, on one line."""
    return "".join(f"\\{c}" if c in "|`<>[]*\\" else c for c in " ".join(str(text).split()))

"""Parses YAML into plain values, and keeps the line and column of each.

Only mappings, lists and scalars are allowed: anchors, aliases, tags and duplicate keys are
problems. Scalars follow YAML 1.2 and JSON, as in an editor that uses the JSON schema: `1e-4` is a
number, `no` and `2024-01-01` are text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from publisher.util.wording import shown

LARGEST = 1 << 20  # bytes
DEEPEST = 16  # nested mappings and lists

Location = tuple[str | int, ...]

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
# Characters that YAML allows as escapes but no field can hold.
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]{1,400}|[0-9]{1,400}(?:\.[0-9]{0,400})?)(?:[eE][-+]?[0-9]{1,9})?"
)


@dataclass(frozen=True)
class Problem:
    """A problem at a line and column, counted from 1: what is wrong and what is allowed."""

    line: int
    column: int
    message: str


@dataclass(frozen=True)
class Node:
    """The line and column of a value, from 1, and its text in messages: None if refused."""

    line: int
    column: int
    shown: str | None


@dataclass(frozen=True)
class Document:
    """The values of a file: `data` as plain `dict`, `tuple` and scalars, refused ones as `...`.

    `nodes` has the positions of values by location, and `keys` those of the keys before them.
    """

    data: Any
    nodes: Mapping[Location, Node]
    keys: Mapping[Location, tuple[int, int]]
    problems: Sequence[Problem]

    def place(self, location: Location) -> tuple[int, int]:
        """Return line and column of a value, or of the closest parent if the value is missing."""
        while location not in self.nodes:
            location = location[:-1]
        return self.nodes[location].line, self.nodes[location].column


def parse(content: bytes) -> Document | Problem:
    """Parse a YAML file; return its values, or the problem that makes it unreadable."""
    if len(content) > LARGEST:
        return Problem(1, 1, f"the file is too large; allowed: {LARGEST >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", errors="replace")
        return Problem(*_end_of(before), "this is not UTF-8; save the file with that encoding")
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        return Problem(
            *_end_of(text[: error.position]),
            f"the control character U+{error.character:04X} stands here; remove it",
        )
    try:
        return _Reader(loader).document()
    except yaml.MarkedYAMLError as error:
        return _syntax_problem(error, text)
    except (ValueError, OverflowError) as error:
        # PyYAML does not check the numbers in escapes and directives.
        place = (loader.line + 1, loader.column + 1)
        return Problem(*place, f"this cannot be read as YAML: {error}; correct it")


def scalar(text: str) -> str | float | bool | None:
    """Return the value of a text without quotes, by YAML 1.2 and JSON."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Reader:
    """Turns YAML events into plain values, and collects their positions and all problems."""

    def __init__(self, events: Any) -> None:  # PyYAML's loader: its methods have no types
        self.events = events
        self.nodes: dict[Location, Node] = {}
        self.keys: dict[Location, tuple[int, int]] = {}
        self.problems: list[Problem] = []

    def document(self) -> Document | Problem:
        self.events.get_event()
        if self.events.check_event(yaml.StreamEndEvent):
            return Problem(1, 1, "the file is empty; allowed: a mapping")
        self.events.get_event()
        data = self._value(())
        self.events.get_event()
        if not self.events.check_event(yaml.StreamEndEvent):
            raise _error(self.events.peek_event(), "but found another document")
        return Document(data, self.nodes, self.keys, self.problems)

    def _value(self, location: Location) -> Any:
        event = self.events.get_event()
        if len(location) == DEEPEST:
            raise _error(event, f"more than {DEEPEST} lists and mappings in each other")
        if isinstance(event, yaml.AliasEvent):
            self._add(event, f"the alias *{event.anchor} is not allowed; write the value out")
            return self._noted(event, location, None, ...)
        if event.anchor is not None:
            self._add(event, f"the anchor &{event.anchor} is not allowed; remove it")
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._add(event, f"the tag {tag} is not allowed; write the value alone, text in quotes")
        if isinstance(event, yaml.MappingStartEvent):
            self._noted(event, location, "a mapping")
            return self._mapping(location)
        if isinstance(event, yaml.SequenceStartEvent):
            self._noted(event, location, "a list")
            return self._list(location)
        quoted = shown(event.value)
        hidden = _INVISIBLE.search(event.value)
        if hidden:
            self._add(event, f"{quoted} has a control character in it; remove it")
        if hidden or event.tag is not None:
            return self._noted(event, location, None, ...)
        value = event.value if event.style else scalar(event.value)
        if value is None:
            return self._noted(event, location, "empty")
        return self._noted(
            event, location, quoted if isinstance(value, str) else quoted[1:-1], value
        )

    def _list(self, location: Location) -> tuple[Any, ...]:
        data: list[Any] = []
        while not self.events.check_event(yaml.SequenceEndEvent):
            data.append(self._value((*location, len(data))))
        self.events.get_event()
        return tuple(data)

    def _mapping(self, location: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not self.events.check_event(yaml.MappingEndEvent):
            event = self.events.peek_event()
            refused = self._discarded(location) is ...
            below = (*location, event.value if isinstance(event, yaml.ScalarEvent) else "\0")
            if isinstance(event, yaml.CollectionStartEvent):
                self._add(event, "this is no key; allowed: a word, then a colon")
            elif below in self.keys:
                self._add(
                    event,
                    f"the key {shown(event.value)} is there twice, first on line"
                    f" {self.keys[below][0]}; allowed: each key once",
                )
            elif not refused:
                self.keys[below] = _place(event.start_mark)
                data[event.value] = self._value(below)
                continue
            self._discarded(location)
        self.events.get_event()
        return data

    def _discarded(self, location: Location) -> Any:
        """Read a key, or the value of a wrong key, at a location that no key can have."""
        return self._value((*location, f"\0{len(self.nodes)}"))

    def _noted(self, event: Any, location: Location, text: str | None, value: Any = None) -> Any:
        self.nodes[location] = Node(*_place(event.start_mark), text)
        return value

    def _add(self, event: Any, message: str) -> None:
        self.problems.append(Problem(*_place(event.start_mark), _one_line(message)))


def _error(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = _place(mark) if mark else (1, 1)
    lines: Sequence[str] = _BREAK.split(text)
    here = lines[line - 1][column - 1 : column] if line <= len(lines) else ""
    if here == "\t":
        return Problem(line, column, "a tab stands here; YAML is indented with spaces only")
    context = ""
    if error.context and error.context_mark:
        context = f" {error.context} that begins on line {error.context_mark.line + 1}"
    elif error.context:
        context = f" {error.context}"
    reason = _one_line(f"{error.problem or 'this cannot be read'}{context}")
    return Problem(
        line, column, f"this cannot be read as YAML: {reason}; correct it here or just above"
    )


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else f"{line[:197]}..."


def _place(mark: yaml.Mark) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _end_of(text: str) -> tuple[int, int]:
    lines = _BREAK.split(text)
    return len(lines), len(lines[-1]) + 1

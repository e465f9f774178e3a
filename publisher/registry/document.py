"""A YAML file as plain values that still know their line and column.

Of YAML only what such a file needs: mappings, lists and scalars. Anchors, aliases and
tags are refused, a key that is there twice is a problem, and scalars are read as YAML 1.2
and JSON have them, which is how an editor reads them by the JSON schema: `1e-4` is a
number, `no` and `2024-01-01` are text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from publisher.util.wording import shown

LARGEST = 1 << 20  # bytes
DEEPEST = 16  # mappings and lists within each other

Location = tuple[str | int, ...]

_REFUSED = "!refused"
_NULL, _BOOL, _INT, _FLOAT, _STR = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")
)
_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
# What YAML lets in by an escape and no field can hold.
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Problem:
    """Something wrong at a place, counted from 1: what it is and what is allowed."""

    line: int
    column: int
    message: str


@dataclass(frozen=True)
class Document:
    """The values of a file: `data` as plain `dict`, `tuple` and scalars.

    `nodes` and `keys` say, by location, where a value and the key before it stand.
    """

    data: Any
    nodes: Mapping[Location, yaml.Node]
    keys: Mapping[Location, yaml.Node]
    problems: tuple[Problem, ...]

    def place(self, location: Location) -> tuple[int, int]:
        """Return line and column of a value; of one that is not there, of what lacks it."""
        while location not in self.nodes:
            location = location[:-1]
        return _place(self.nodes[location].start_mark)

    def place_of_key(self, location: Location) -> tuple[int, int]:
        """Return line and column of the key that leads to a value."""
        return _place(self.keys[location].start_mark)

    def refused(self, location: Location) -> bool:
        """Whether the value is one that was already found to be no value at all."""
        return location in self.nodes and self.nodes[location].tag == _REFUSED

    def described(self, location: Location) -> str:
        """Return what stands at a location, for a message: a short value or its kind."""
        node = self.nodes[location]
        if isinstance(node, yaml.MappingNode):
            return "a mapping"
        if isinstance(node, yaml.SequenceNode):
            return "a list"
        if node.tag == _NULL:
            return "empty"
        value = str(node.value)
        quoted = shown(value)
        return quoted if node.tag == _STR else quoted[1:-1]


def parse(content: bytes) -> Document | Problem:
    """Return the values in a YAML file, or why it is none."""
    if len(content) > LARGEST:
        return Problem(1, 1, f"the file is too large; allowed: {LARGEST >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", errors="replace")
        return Problem(*_end_of(before), "this is not UTF-8; save the file with that encoding")
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        return Problem(
            *_end_of(text[: error.position]),
            f"the control character U+{error.character:04X} stands here; remove it",
        )
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        return _syntax_problem(error, text)
    except (ValueError, OverflowError) as error:
        # Escapes and directives with numbers that PyYAML does not check.
        place = (loader.line + 1, loader.column + 1)
        return Problem(*place, f"this cannot be read as YAML: {error}; correct it")
    if root is None:
        return Problem(1, 1, "the file is empty; allowed: a mapping")
    reader = _Reader(loader.problems)
    data = reader.value(root, ())
    return Document(data, reader.nodes, reader.keys, tuple(reader.problems))


class _Loader(yaml.SafeLoader):
    """Composes nodes only, and collects what is refused on the way."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[Problem] = []
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            self._refuse(event, f"the alias *{event.anchor} is not allowed; write the value out")
            self.get_event()  # type: ignore[no-untyped-call]
            return yaml.ScalarNode(_REFUSED, "", event.start_mark, event.end_mark)
        if event.anchor is not None:
            self._refuse(event, f"the anchor &{event.anchor} is not allowed; remove it")
            event.anchor = None
        tagged = event.tag is not None
        if tagged:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(
                event, f"the tag {tag} is not allowed; write the value alone, text in quotes"
            )
            event.tag = None
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.composer.ComposerError(
                None,
                None,
                f"more than {DEEPEST} lists and mappings in each other",
                event.start_mark,
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        if tagged and isinstance(node, yaml.ScalarNode):
            node.tag = _REFUSED
        return node

    def _refuse(self, event: Any, message: str) -> None:
        self.problems.append(Problem(*_place(event.start_mark), _one_line(message)))


for _tag, _pattern, _first in (
    (_NULL, r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]{1,18}", list("-+0123456789")),
    (
        _FLOAT,
        r"[-+]?(?:\.[0-9]{1,400}|[0-9]{1,400}(?:\.[0-9]{0,400})?)(?:[eE][-+]?[0-9]{1,9})?",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)


class _Reader:
    """Turns nodes into plain values; notes their places, and what cannot be a value."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.nodes: dict[Location, yaml.Node] = {}
        self.keys: dict[Location, yaml.Node] = {}

    def value(self, node: yaml.Node, location: Location) -> Any:
        self.nodes[location] = node
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            entries = enumerate(node.value)
            return tuple(self.value(entry, (*location, index)) for index, entry in entries)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _REFUSED:
                continue
            if not isinstance(key, yaml.ScalarNode) or _INVISIBLE.search(key.value):
                self._add(key, "this is no key; allowed: a word, then a colon")
                continue
            below = (*location, key.value)
            if below in self.keys:
                first, _ = _place(self.keys[below].start_mark)
                self._add(
                    key,
                    f"the key {shown(key.value)} is there twice, first on line {first};"
                    " allowed: each key once",
                )
                continue
            self.keys[below] = key
            data[key.value] = self.value(value, below)
        return data

    def _scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        if _INVISIBLE.search(text):
            self._add(node, f"{shown(text)} has a control character in it; remove it")
            node.tag = _REFUSED
        if node.tag == _REFUSED:
            return Ellipsis
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return text.lower() == "true"
        if node.tag == _INT:
            return int(text)
        return float(text) if node.tag == _FLOAT else text

    def _add(self, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(*_place(node.start_mark), message))


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

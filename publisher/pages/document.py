"""Parses a page: its kind, metadata, code blocks and prose.

Source: the documentation format of tfhub.dev, as its `tools/validator.py` parses it.
"""

import re
from dataclasses import dataclass
from typing import Literal

ROOT = "assets/docs/"

Kind = Literal["Module", "Collection", "Publisher"]

_PUBLISHER = r"(?P<publisher>[a-z\d-]+)"
_NAME = r"(?P<name>[\w.-]+(?:/[\w.-]+)*)"
_PLACES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("Publisher", re.compile(rf"{ROOT}{_PUBLISHER}/(?P=publisher)\.md", re.ASCII)),
    ("Collection", re.compile(rf"{ROOT}{_PUBLISHER}/collections/{_NAME}/1\.md", re.ASCII)),
    (
        "Module",
        re.compile(rf"{ROOT}{_PUBLISHER}/(?!collections/){_NAME}/(?P<version>\d+)\.md", re.ASCII),
    ),
)
PLACES = (
    f"{ROOT}<publisher>/<publisher>.md, {ROOT}<publisher>/<name>/<version>.md or"
    f" {ROOT}<publisher>/collections/<name>/1.md"
)
_METADATA = re.compile(r"<!--(?P<key>[\w\s-]+):(?P<value>.+)-->")
_ICON = "[![Icon URL]]"
_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})\s*(?P<language>[^\s`]*)[^`]*")


@dataclass(frozen=True)
class Line:
    """A line of text and its number, from 1."""

    number: int
    text: str


@dataclass(frozen=True)
class Entry:
    """One metadata line."""

    key: str
    value: str
    line: int


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block. `language` is the first word after the fence, in lower case.

    `line` is the line of the opening fence. `closed` says whether there is a closing fence.
    """

    language: str
    lines: tuple[Line, ...]
    line: int
    closed: bool


@dataclass(frozen=True)
class Document:
    """A parsed page.

    `handle` is the path without root and suffix, or a publisher's name; `title` is the
    required first line. `strays` are lines among the metadata that are not metadata.
    """

    path: str
    kind: Kind
    publisher: str
    handle: str
    title: str
    first_line: str
    description: tuple[Line, ...]
    metadata: tuple[Entry, ...]
    strays: tuple[Line, ...]
    code: tuple[CodeBlock, ...]
    prose: tuple[Line, ...]

    def values(self, key: str) -> list[str]:
        """Return the values of one metadata key, in the order of the page."""
        return [entry.value for entry in self.metadata if entry.key == key]


def publisher_path(publisher: str) -> str:
    """Return the path of a publisher's page."""
    return f"{ROOT}{publisher}/{publisher}.md"


def code_blocks(text: str) -> tuple[CodeBlock, ...]:
    """Return the fenced blocks of a page."""
    code, _ = _blocks(_lines(text))
    return code


def parse(path: str, text: str) -> Document | None:
    """Parse a page. Return `None` if no page may have that path."""
    places = ((kind, place.fullmatch(path)) for kind, place in _PLACES)
    kind, match = next(((kind, match) for kind, match in places if match), (None, None))
    if kind is None or match is None:
        return None
    facts = match.groupdict()
    publisher = facts["publisher"]
    subject = {
        "Publisher": publisher,
        "Collection": f"{publisher}/{facts.get('name')}/1",
        "Module": f"{publisher}/{facts.get('name')}/{facts.get('version')}",
    }[kind]
    lines = _lines(text)
    description, rest = _description(lines[1:])
    metadata, strays = _metadata(rest, icon_allowed=kind == "Publisher")
    code, prose = _blocks(lines[1:])
    return Document(
        path=path,
        kind=kind,
        publisher=publisher,
        handle=publisher if kind == "Publisher" else path.removeprefix(ROOT).removesuffix(".md"),
        title=f"# {kind} {subject}",
        first_line=lines[0].text,
        description=description,
        metadata=metadata,
        strays=strays,
        code=code,
        prose=prose,
    )


def _lines(text: str) -> list[Line]:
    return [Line(number, line) for number, line in enumerate(text.split("\n"), start=1)]


def _description(lines: list[Line]) -> tuple[tuple[Line, ...], list[Line]]:
    """Split off the paragraph after the first line. One empty line may precede it."""
    start = 1 if lines and not lines[0].text.strip() else 0
    end = start
    while end < len(lines) and lines[end].text.strip() and lines[end].text[:1] not in "#<":
        end += 1
    return tuple(lines[start:end]), lines[end:]


def _metadata(lines: list[Line], icon_allowed: bool) -> tuple[tuple[Entry, ...], tuple[Line, ...]]:
    """Read the lines up to the next heading."""
    entries, strays = [], []
    for line in lines:
        if line.text.startswith("#"):
            break
        match = _METADATA.fullmatch(line.text)
        if match and match["value"].strip():
            entries.append(Entry(match["key"].strip(), match["value"].strip(), line.number))
        elif line.text.strip() and not (icon_allowed and line.text.startswith(_ICON)):
            strays.append(line)
    return tuple(entries), tuple(strays)


def _blocks(lines: list[Line]) -> tuple[tuple[CodeBlock, ...], tuple[Line, ...]]:
    """Separate fenced code from everything else."""
    blocks: list[CodeBlock] = []
    prose: list[Line] = []
    inside: list[Line] = []
    opening: re.Match[str] | None = None
    start = 0

    def finished(closed: bool) -> CodeBlock:
        language = opening["language"].lower() if opening else ""
        return CodeBlock(language, tuple(inside), start, closed)

    for line in lines:
        if opening is None:
            opening = _FENCE.fullmatch(line.text)
            if opening is None:
                prose.append(line)
            else:
                inside, start = [], line.number
        elif _closes(line.text.strip(), opening["fence"]):
            blocks.append(finished(closed=True))
            opening = None
        else:
            inside.append(line)
    if opening is not None:
        blocks.append(finished(closed=False))
    return tuple(blocks), tuple(prose)


def _closes(text: str, fence: str) -> bool:
    return len(text) >= len(fence) and set(text) == {fence[0]}

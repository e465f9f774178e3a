"""Edits of `models.yaml` that leave its comments, its layout and its line ends alone.

    edit = bump(Path("models.yaml"), ["*_224_*"])
    save(edit)

An edit replaces or adds a few characters where the document knows a value to stand. It
is made only if what results, read again, is the registry that was meant.
"""

import codecs
import re
import stat
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from publisher.registry.document import Document, Location, Problem, parse
from publisher.registry.errors import RegistryError
from publisher.registry.load import parse_registry, read_content, shown_path
from publisher.registry.models import Registry, Variant
from publisher.registry.select import select
from publisher.util.files import write_whole
from publisher.util.wording import listed, nearest, shown

WIDTH = 99  # columns of a line, where words allow it

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
# Up to the comma that ends a pair in braces, if there is one: comments may come before it.
_COMMA = re.compile(r"(?:\s|#[^\n\r\x85\u2028\u2029]*+)*+,")
# Text that is itself without quotes, for old and new readers of YAML, JSON's too.
_PLAIN = re.compile(r"[A-Za-z](?:[^:#]|:(?=[^ ,\[\]{}])|(?<=[^ ])#)*")
_WORDS = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
# Control characters and halves of characters, which no field can hold.
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Edit:
    """A change of the file at `path`, checked and not yet written.

    `before` and `after` are the whole content; `handles` lead from each handle whose entry
    changes to the one it has afterwards, in the order of the registry.
    """

    path: Path
    before: bytes
    after: bytes
    handles: Mapping[str, str]


@dataclass(frozen=True)
class _Splice:
    """Text that takes the place of what stands from `start` up to `end`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class _Place:
    """Where a value is written: its column, that of further lines, and what it is part of."""

    column: int
    indent: int
    flow: bool
    json: bool
    ending: str
    comment: str = ""


class _File:
    """The registry at a path, its values' places, and its text without a mark at its start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = read_content(path)
        self.registry = parse_registry(self.content, path)
        document = parse(self.content)
        if isinstance(document, Problem):  # it was none a moment ago
            raise RegistryError(f"{shown_path(path)}: {document.message}")
        self.document: Document = document
        self._mark = codecs.BOM_UTF8 if self.content.startswith(codecs.BOM_UTF8) else b""
        self.text = self.content.removeprefix(self._mark).decode()
        first = _BREAK.search(self.text)
        self.ending = first.group() if first else "\n"

    def place(self, location: Location) -> str:
        """Return `models.yaml:LINE:COLUMN` of a value."""
        return ":".join(map(str, (shown_path(self.path), *self.document.place(location))))

    def edited(self, splices: Sequence[_Splice], changed: Mapping[int, Variant], what: str) -> Edit:
        """Return the file with the splices in it, and these variants in the registry.

        Raises `RegistryError` that begins with the place and `what` if it is not so.
        """
        text = self.text
        for splice in sorted(splices, key=lambda splice: splice.start, reverse=True):
            text = text[: splice.start] + splice.text + text[splice.end :]
        after = self._mark + text.encode()
        old = self.registry.variants
        variants = tuple(changed.get(index, variant) for index, variant in enumerate(old))
        place = self.place(("variants", min(changed, default=0)))
        try:
            found: Registry | None = parse_registry(after, self.path)
            reason = "it would change something else"
        except RegistryError as error:
            found = None
            reason = str(error).split("\n")[0].partition(": ")[2]
        if found != self.registry.model_copy(update={"variants": variants}):
            raise RegistryError(f"{place}: {what} ({reason}); edit the file by hand")
        handles = {old[index].handle: variant.handle for index, variant in changed.items()}
        return Edit(self.path, self.content, after, handles)


def bump(path: Path, globs: Sequence[str]) -> Edit:
    """Raise the version of every model that a glob matches; no globs mean all.

    Of a model with several versions it is the entry of the newest that changes, whichever
    the globs match. An entry is changed where it stands: what was published under its old
    version stays in the release. Raises `RegistryError` for a wrong registry, globs that
    match nothing, a version that is withdrawn, and where more than digits would change.
    """
    file = _File(path)
    models = {variant.unversioned for variant in select(file.registry, globs)}
    newest: dict[str, tuple[int, int]] = {}
    for index, variant in enumerate(file.registry.variants):
        if variant.unversioned in models:
            found = newest.get(variant.unversioned, (0, 0))
            newest[variant.unversioned] = max(found, (variant.version, index))
    splices, changed, complaints = [], {}, []
    for index in sorted(index for _, index in newest.values()):
        variant = file.registry.variants[index]
        if variant.withdrawn is not None:
            complaints.append(
                f"{file.place(('variants', index))}: {variant.handle} is withdrawn, and its next"
                " version would be too; write an entry of its own for the new version"
            )
            continue
        handle = f"{variant.unversioned}/{variant.version + 1}"
        splices.append(_version(file, index, handle))
        changed[index] = variant.model_copy(update={"handle": handle})
    if complaints:
        raise RegistryError("\n".join(complaints))
    return file.edited(splices, changed, "the version cannot be raised by itself")


def withdraw(path: Path, handle: str, reason: str) -> Edit:
    """Say of one version that nobody should use it any longer, and why.

    A reason that is there already is replaced. White space in the new one becomes single
    spaces. Raises `RegistryError` for a wrong registry, a handle that is not in it, a
    reason that it cannot hold, and where more than the reason would change.
    """
    file = _File(path)
    handles = [variant.handle for variant in file.registry.variants]
    if handle not in handles:
        near = nearest(handle, handles, count=5)
        kind = "near ones" if near else "there are"
        raise RegistryError(
            f"no variant has the handle {shown(handle)}; {kind}: {listed(near or handles)}"
        )
    index = handles.index(handle)
    variant = _withdrawn(file.registry.variants[index], " ".join(reason.split()))
    if variant == file.registry.variants[index]:
        return Edit(path, file.content, file.content, {})
    return file.edited(
        _reason(file, index, variant.withdrawn or ""),
        {index: variant},
        f"{handle} cannot be withdrawn without another change",
    )


def save(edit: Edit) -> None:
    """Replace the file by what the edit makes of it, whole; the same content is left alone.

    Raises `RegistryError` if the file is no longer what the edit was made for, or cannot
    be written.
    """
    name = shown_path(edit.path)
    if edit.before == edit.after:
        return
    if read_content(edit.path) != edit.before:
        raise RegistryError(f"{name}: somebody changed it meanwhile; run the same command again")
    try:
        # Resolved, so that a link stays one.
        place = edit.path.resolve()
        mode = stat.S_IMODE(place.stat().st_mode)
        write_whole(place, edit.after)
        place.chmod(mode)
    except OSError as error:
        raise RegistryError(
            f"{name}: cannot be written ({error.strerror or error}); see to space and permissions"
        ) from error


def _version(file: _File, index: int, handle: str) -> _Splice:
    """Return what replaces the digits of a handle's version."""
    node = file.document.nodes["variants", index, "handle"]
    end = _end(file.text, node)
    if file.text[end - 1 : end] in ("'", '"'):
        end -= 1
    # Written with escapes it may end otherwise, which is found out when it is read again.
    digits = len(str(node.value).rpartition("/")[2])
    return _Splice(end - digits, end, handle.rpartition("/")[2])


def _withdrawn(variant: Variant, reason: str) -> Variant:
    hidden = _INVISIBLE.search(reason)
    if hidden:
        raise RegistryError(
            f"the reason {shown(reason)} has the control character U+{ord(hidden.group()):04X}"
            " in it; remove it"
        )
    try:
        return Variant.model_validate({**variant.model_dump(), "withdrawn": reason})
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        raise RegistryError(f"the reason cannot stand: {details['ctx']['error']}") from None


def _reason(file: _File, index: int, reason: str) -> list[_Splice]:
    """Return what replaces or adds the reason of a variant."""
    mapping: Any = file.document.nodes["variants", index]
    if ("variants", index, "withdrawn") in file.document.nodes:
        return [_replaced(file, index, reason)]
    if mapping.flow_style:
        return _added_in_braces(file, mapping, reason)
    return [_added_below(file, mapping, reason)]


def _replaced(file: _File, index: int, reason: str) -> _Splice:
    text = file.text
    mapping: Any = file.document.nodes["variants", index]
    key: Any = file.document.keys["variants", index, "withdrawn"]
    node: Any = file.document.nodes["variants", index, "withdrawn"]
    start, end = node.start_mark.index, _end(text, node)
    comment = ""
    if node.style in ("|", ">"):
        # Its comment stands before its text.
        header, _, remark = _BREAK.split(text[start:end])[0].partition("#")
        comment = f"{header[len(header.rstrip()) :]}#{remark}" if remark else ""
    elif not mapping.flow_style:
        # A comment behind a value of several lines would be a part of some.
        line = _BREAK.search(text, end)
        stop = line.start() if line else len(text)
        comment, end = text[end:stop], stop
    # What is empty stands right after the colon.
    space = " " if start == node.end_mark.index else ""
    value = _spelled(
        reason,
        _Place(
            node.start_mark.column + len(space),
            mapping.start_mark.column + 2,
            bool(mapping.flow_style),
            key.style == '"',
            file.ending,
            comment,
        ),
    )
    return _Splice(start, end, space + value)


def _added_below(file: _File, mapping: Any, reason: str) -> _Splice:
    """Return a new line below the last one of a mapping, above what follows it."""
    column = mapping.start_mark.column
    line = _BREAK.search(file.text, _end(file.text, mapping))
    ending = line.group() if line else file.ending
    key = f"{' ' * column}withdrawn: "
    value = _spelled(reason, _Place(len(key), column + 2, False, False, ending))
    if line is None:
        return _Splice(len(file.text), len(file.text), f"{ending}{key}{value}")
    return _Splice(line.end(), line.end(), f"{key}{value}{ending}")


def _added_in_braces(file: _File, mapping: Any, reason: str) -> list[_Splice]:
    """Return a new pair behind the last one, on a line of its own if the brace is."""
    text, (key, last) = file.text, mapping.value[-1]
    end, brace = _end(text, last), mapping.end_mark.index - 1
    comma = _COMMA.match(text, end, brace)
    start = comma.end() if comma else end
    name = '"withdrawn": ' if key.style == '"' else "withdrawn: "
    inside = mapping.start_mark.column + 1

    def pair(column: int) -> str:
        place = _Place(column + len(name), inside + 1, True, key.style == '"', file.ending)
        return f"{name}{_spelled(reason, place)}{',' if comma else ''}"

    line = _BREAK.search(text, start, brace)
    if line:
        before = _line_up_to(text, key.start_mark.index)
        column = inside if before.strip() else len(before)
        added = f"{' ' * column}{pair(column)}{file.ending}"
        ending = [] if comma else [_Splice(end, end, ",")]
        return [*ending, _Splice(line.end(), line.end(), added)]
    column = len(_line_up_to(text, start)) + (1 if comma else 2)
    separator = " " if comma else ", "
    if _BREAK.search(pair(column)) or column + len(pair(column)) > WIDTH:
        column = inside
        separator = f"{separator.rstrip()}{file.ending}{' ' * inside}"
    return [_Splice(start, start, f"{separator}{pair(column)}")]


def _line_up_to(text: str, index: int) -> str:
    return _BREAK.split(text[:index])[-1]


def _end(text: str, node: yaml.Node) -> int:
    """Return where a value's last character ends.

    PyYAML's mark of a block's end is where the next token begins, behind comments.
    """
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        end = start + len(text[start:end].rstrip(" \t\n\r\x85\u2028\u2029"))
    return int(end)


def _spelled(text: str, place: _Place) -> str:
    """Return a text with single spaces in YAML: plain, in double quotes, or folded if long."""
    plain = (
        _PLAIN.fullmatch(text)
        and text.isprintable()
        and text.lower() not in _WORDS
        and not place.json
        and not (place.flow and re.search(r"[,?\[\]{}]", text))
    )
    line = text if plain else f'"{"".join(map(_escaped, text))}"'
    if place.json or place.column + len(line) + len(place.comment) <= WIDTH:
        return line + place.comment
    indent = " " * place.indent
    if text.isprintable() and not place.flow:
        return place.ending.join([f">-{place.comment}", *_wrapped(text, indent, indent)])
    quoted = f'"{"".join(map(_escaped, text))}"'
    first, *rest = _wrapped(quoted, " " * place.column, indent)
    return place.ending.join([first.lstrip(" "), *rest]) + place.comment


def _wrapped(text: str, first: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _escaped(character: str) -> str:
    if character in '\\"':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"

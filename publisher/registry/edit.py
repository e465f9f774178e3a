"""Edits of `models.yaml` that change only the affected lines.

    edit = bump(Path("models.yaml"), ["*_224_*"])
    save(edit)

ruamel.yaml reads the file with its comments and layout, and writes it again. An edit is refused
if ruamel.yaml would change the layout of the unedited file, or if the edited file does not
parse to the intended registry.
"""

import codecs
import io
import stat
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, MarkedYAMLError
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scalarstring import (
    DoubleQuotedScalarString,
    FoldedScalarString,
    LiteralScalarString,
    PlainScalarString,
)
from ruamel.yaml.tokens import CommentToken

from publisher.registry.document import scalar
from publisher.registry.errors import RegistryError
from publisher.registry.load import parse_registry, read_content, shown_path
from publisher.registry.models import Registry
from publisher.registry.select import select
from publisher.util.files import write_whole
from publisher.util.wording import known_names, nearest, shown

WIDTH = 99  # columns, at which the lines of a reason wrap

# The indentation of mappings, and of the dashes of lists: a file has one of these throughout.
_INDENTS = ((2, 2), (2, 0), (4, 4), (4, 2), (4, 0))
_BLOCKS = (FoldedScalarString, LiteralScalarString)


class _Resolver(VersionedResolver):
    """Reads every value as text, so that numbers, `~` and `True` are written unchanged."""

    versioned_resolver: Mapping[str, list[tuple[str, str]]] = {}


@dataclass(frozen=True)
class Edit:
    """A change of the file at `path`, checked but not yet written.

    `before` and `after` are the whole content. `handles` maps the handle of each changed entry to
    its new one, in the order of the registry.
    """

    path: Path
    before: bytes
    after: bytes
    handles: Mapping[str, str]


@dataclass(frozen=True)
class _File:
    """A registry and its file as a tree, which `yaml` writes without changing a byte."""

    path: Path
    content: bytes
    registry: Registry
    tree: CommentedMap
    yaml: YAML

    def entry(self, index: int) -> CommentedMap:
        entry: CommentedMap = self.tree["variants"][index]
        return entry

    def place(self, index: int) -> str:
        """Return `models.yaml:LINE:COLUMN` of a variant."""
        start = self.entry(index).lc
        return f"{shown_path(self.path)}:{start.line + 1}:{start.col + 1}"

    def edited(self, key: str, values: Mapping[int, str]) -> Edit:
        """Return the edit to the current tree, which must set `key` in these variants only.

        Raises `RegistryError` for invalid values.
        """
        after = _written(self.yaml, self.tree, self.content)
        place = self.place(min(values, default=0))
        try:
            found = parse_registry(after, self.path)
        except RegistryError as error:
            problem = str(error).split("\n")[0].partition(": ")[2]
            raise RegistryError(f"{place}: the new {key} is invalid: {problem}") from None
        variants = list(self.registry.variants)
        for index, value in values.items():
            variants[index] = variants[index].model_copy(update={key: value})
        if found != self.registry.model_copy(update={"variants": tuple(variants)}):
            raise RegistryError(
                f"{place}: a new {key} would change something else as well; edit the file by hand"
            )
        handles = {self.registry.variants[n].handle: variants[n].handle for n in values}
        return Edit(self.path, self.content, after, handles)


def bump(path: Path, globs: Sequence[str]) -> Edit:
    """Raise the version of every model that a glob matches; no globs mean all.

    The entry of the model's newest version is edited in place, whichever version the globs match.
    The old version stays in the release. Raises `RegistryError` for an invalid registry, globs
    that match nothing, a withdrawn version, and a layout that would change.
    """
    file = _read(path)
    models = {variant.unversioned for variant in select(file.registry, globs)}
    by_version = sorted(enumerate(file.registry.variants), key=lambda entry: entry[1].version)
    newest = {variant.unversioned: index for index, variant in by_version}
    raised, complaints = {}, []
    for index in sorted(newest[model] for model in models):
        variant = file.registry.variants[index]
        if variant.withdrawn is not None:
            complaints.append(
                f"{file.place(index)}: {variant.handle} is withdrawn, and its next version would"
                " be too; write an entry of its own for the new version"
            )
            continue
        handle = f"{variant.unversioned}/{variant.version + 1}"
        file.entry(index)["handle"] = handle
        raised[index] = handle
    if complaints:
        raise RegistryError("\n".join(complaints))
    return file.edited("handle", raised)


def withdraw(path: Path, handle: str, reason: str) -> Edit:
    """Mark one version as withdrawn, with a reason.

    It replaces an earlier reason. White space in the new one becomes single spaces. Raises
    `RegistryError` for an invalid registry, an unknown handle, an invalid reason, and a layout
    that would change.
    """
    file = _read(path)
    handles = [variant.handle for variant in file.registry.variants]
    if handle not in handles:
        near = nearest(handle, handles, count=5)
        raise RegistryError(
            f"no variant has the handle {shown(handle)}; {known_names(near, handles)}"
        )
    index = handles.index(handle)
    reason = " ".join(reason.split())
    if reason == file.registry.variants[index].withdrawn:
        return Edit(path, file.content, file.content, {})
    _set_reason(file.entry(index), reason, file.yaml.map_indent or 2)
    return file.edited("withdrawn", {index: reason})


def save(edit: Edit) -> None:
    """Write the edited file atomically, unless nothing changes.

    Raises `RegistryError` if the file has changed since the edit was made, or cannot be written.
    """
    name = shown_path(edit.path)
    if edit.before == edit.after:
        return
    if read_content(edit.path) != edit.before:
        raise RegistryError(f"{name}: somebody changed it meanwhile; run the same command again")
    try:
        # Resolved, so that a link stays a link.
        place = edit.path.resolve()
        mode = stat.S_IMODE(place.stat().st_mode)
        write_whole(place, edit.after)
        place.chmod(mode)
    except OSError as error:
        raise RegistryError(
            f"{name}: cannot be written ({error.strerror or error}); check space and permissions"
        ) from error


def _read(path: Path) -> _File:
    """Read the file at a path. Raises `RegistryError` for a layout that would change."""
    content = read_content(path)
    registry = parse_registry(content, path)
    text = content.removeprefix(codecs.BOM_UTF8).decode().replace("\r\n", "\n")
    problems = []
    for mapping, dash in _INDENTS:
        yaml = YAML()
        yaml.Resolver = _Resolver
        yaml.indent(mapping=mapping, sequence=dash + 2, offset=dash)
        yaml.preserve_quotes = True
        yaml.width = len(text)  # no line is wrapped
        yaml.explicit_start = text.startswith("---\n")
        try:
            tree = yaml.load(text)
        except MarkedYAMLError as error:  # ruamel.yaml is stricter with tabs
            mark = error.problem_mark or error.context_mark
            problems.append((mark.line + 1, mark.column + 1, str(error.problem)))
            break
        written = _written(yaml, tree, content)
        if written == content:
            return _File(path, content, registry, tree, yaml)
        problems.append(_difference(content, written))
    line, column, problem = max(problems)
    raise RegistryError(
        f"{shown_path(path)}:{line}:{column}: an edit cannot keep this layout: {problem};"
        " write it so and run the same command again, or edit the file by hand"
    )


def _written(yaml: YAML, tree: CommentedMap, like: bytes) -> bytes:
    """Return the tree as YAML, with the byte order mark and line ends of the file `like`."""
    stream = io.StringIO()
    yaml.dump(tree, stream)
    text = stream.getvalue()
    if not like.endswith(b"\n"):
        text = text.removesuffix("\n")
    if b"\r\n" in like:
        text = text.replace("\n", "\r\n")
    return (codecs.BOM_UTF8 if like.startswith(codecs.BOM_UTF8) else b"") + text.encode()


def _difference(before: bytes, after: bytes) -> tuple[int, int, str]:
    """Return line and column of the first difference, and its description."""
    old, new = before.decode("utf-8-sig"), after.decode("utf-8-sig")
    pairs = enumerate(zip(old, new, strict=False))
    same = next((index for index, (a, b) in pairs if a != b), min(len(old), len(new)))
    line = old.rfind("\n", 0, same) + 1
    start = max(line, same - 20)  # so that the difference is not cut off
    was, would = (shown(text[start:].partition("\n")[0]) for text in (old, new))
    return old.count("\n", 0, same) + 1, same - line + 1, f"{was} would become {would}"


def _set_reason(entry: CommentedMap, reason: str, indent: int) -> None:
    """Replace the reason, or add it after the entry's last value and before any comment lines."""
    below = _take_below(*((entry, "withdrawn") if "withdrawn" in entry else _last(entry)))
    *above, token, header = entry.ca.items.get("withdrawn", [None] * 4)
    comment = (token.value if token else "".join(header or ())).strip()
    comment = comment and f"  {comment}"
    start = entry.lc.col + indent
    in_braces = entry.fa.flow_style()
    simple = reason.isprintable() and not in_braces
    if simple and start + len("withdrawn: ") + len(reason) > WIDTH:
        lines = textwrap.wrap(reason, WIDTH - start, break_long_words=False, break_on_hyphens=False)
        entry["withdrawn"] = folded = FoldedScalarString(reason)
        folded.fold_pos = [end - 1 for end in accumulate(len(line) + 1 for line in lines[:-1])]
        after, header = below, [comment]
    else:
        simple = simple and isinstance(scalar(reason), str)
        quotes = PlainScalarString if simple else DoubleQuotedScalarString
        entry["withdrawn"] = quotes(reason)  # a plain `str` would keep the style of the old value
        after, header = "" if in_braces else f"{comment[1:]}\n{below}", None
    token = CommentToken(after, CommentMark(0)) if after else None
    entry.ca.items["withdrawn"] = [*above, token, header]


def _last(entry: CommentedMap) -> tuple[CommentedMap | CommentedSeq, str | int]:
    """Return the container and the key of the last value in an entry's block."""
    owner: CommentedMap | CommentedSeq = entry
    while True:
        key = len(owner) - 1 if isinstance(owner, CommentedSeq) else list(owner)[-1]
        value = owner[key]
        if not isinstance(value, CommentedMap | CommentedSeq) or value.fa.flow_style():
            return owner, key
        owner = value


def _take_below(owner: CommentedMap | CommentedSeq, key: str | int) -> str:
    """Remove and return the lines between a value and the next.

    ruamel.yaml keeps them in one token with the comment after the value, which stays.
    """
    slots = owner.ca.items.get(key, [None] * 4)
    slot = 0 if isinstance(owner, CommentedSeq) else 2
    token = slots[slot]
    if token is None:
        return ""
    if isinstance(owner[key], _BLOCKS):
        slots[slot] = None
        return ("" if token.value.startswith("\n") else " " * token.column) + str(token.value)
    comment, _, below = token.value.partition("\n")
    token.value = f"{comment}\n"
    return str(below)

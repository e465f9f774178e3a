"""Release notes as Markdown: the differences between two releases.

    before = held_by(Directory(Path("last")))
    notes = release_notes(before, held_by(Directory(Path("release"))))
    text = changelog(text, "2026-11-25", notes)

The texts of a release are untrusted, so the notes escape all Markdown in them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from publisher.destinations.base import Destination, DestinationError
from publisher.destinations.local.directory import Directory
from publisher.documents.errors import DocumentError
from publisher.documents.fields import LONGEST_TEXT
from publisher.documents.index import INDEX, withdrawn_in
from publisher.documents.manifest import PAGE, SYNTHETIC_NOTICE, Manifest
from publisher.errors import PublisherError
from publisher.pages.format import human_size, scientific, thousands
from publisher.pages.render import parity_error
from publisher.release.contents import SUMS, folder_of
from publisher.release.plan import difference
from publisher.util.files import write_whole

NOTHING = "Nothing changed: every archive, page and figure is as it was.\n"
TITLE = "# Changelog"
UNRELEASED = ("unreleased", "[unreleased]")
SHORT = 12  # digits of a digest

_BREAK = re.compile(r"\r\n?|\n")
# Inline markup of Markdown and of GitHub's dialect. Nothing else is escaped, because GitHub links
# an address only if it has no backslashes.
_MARKUP = re.compile(r"[\\`*~\[\]<>|$]|(?<![^\W_])_|&(?=#?\w+;)")


class NotesError(PublisherError):
    """Release notes cannot be added to a changelog."""


@dataclass(frozen=True)
class Held:
    """The content of a release that notes compare, by handle; by default an empty release.

    `pages` are the SHA-256 of the versions' pages, `withdrawn` the reasons.
    """

    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    withdrawn: Mapping[str, str] = field(default_factory=dict)


def held_by(destination: Destination) -> Held:
    """Read the content of a release that notes compare.

    Raises `DestinationError` if it cannot be read or is damaged.
    """
    manifests = destination.manifests()
    handles = {f"{folder_of(handle)}/{PAGE}": handle for handle in manifests}
    sums = (destination.read(SUMS) or b"").decode(errors="replace")
    lines = [line.partition("  ") for line in sums.split("\n")]
    pages = {handles[path]: digest for digest, _, path in lines if path in handles}
    index = destination.read(INDEX)
    try:
        withdrawn = {} if index is None else withdrawn_in(index)
    except DocumentError as error:
        raise DestinationError(
            f"{destination.name}: damaged: {error}; publish again, which writes it anew"
        ) from error
    return Held(manifests, pages, withdrawn)


def notes_since(last: Destination | None, release: Path) -> str:
    """Return the notes of a release directory since the release `last`, or since an empty one.

    Raises `DestinationError` if the release directory is missing, or a release is damaged.
    """
    before = Held() if last is None else held_by(last)
    if not release.is_dir():
        raise DestinationError(f"{release}: there is no release here; publish one first")
    return release_notes(before, held_by(Directory(release.absolute())))


def release_notes(before: Held, now: Held) -> str:
    """Return what differs between two releases; its headings are of the third level."""
    sections = [
        ("Added", _added(before, now)),
        ("Raised", _raised(before, now)),
        ("Page only", _page_only(before, now)),
        ("Withdrawn", _withdrawn(before, now)),
        ("No longer withdrawn", _bullets(_ordered({*before.withdrawn} - {*now.withdrawn}))),
        ("Changed under the same handle", _changed(before, now)),
        ("No longer there", _bullets(_ordered({*before.manifests} - {*now.manifests}))),
        ("Toolchain", _toolchain(before, now)),
        ("Figures that moved", _figures(before, now)),
    ]
    told = [f"### {title}\n\n{text}" for title, text in sections if text]
    return "\n\n".join([*_synthetic(now), *told]) + "\n" if told else NOTHING


def write_changelog(path: Path, heading: str, notes: str) -> None:
    """Add notes to a changelog file, which need not exist; see `changelog`."""
    there = path.read_bytes().decode() if path.exists() else ""
    write_whole(path, changelog(there, heading, notes).encode())


def changelog(text: str, heading: str, notes: str) -> str:
    """Return the changelog `text` with the notes in a section under `heading`.

    The format is that of https://keepachangelog.com/en/1.1.0/. A new section becomes the first
    one below the title and the section Unreleased; a section with the same heading is replaced
    where it is. Nothing else changes but the empty lines around the section, and a missing title
    is added. Raises `NotesError` for a heading that is not one line of text.
    """
    ending = found.group() if (found := _BREAK.search(text)) else "\n"
    headings, _ = _outline(f"## {heading}")
    if not heading.isprintable() or len(headings) != 1 or not headings[0].content:
        raise NotesError(
            f"{heading!r} cannot be a heading of release notes; give a version or a date, for"
            " example 2026-11-25"
        )
    section = _BREAK.sub(ending, f"## {heading.strip()}\n\n{notes.strip()}")
    there, end = _outline(text)
    if not any(found.level == 1 for found in there):
        return changelog(f"{TITLE}{ending}{ending}{text}", heading, notes)
    sections = [found for found in there if found.level == 2]
    same = [found.line for found in sections if found.content == headings[0].content]
    others = [found.line for found in sections if found.content.lower() not in UNRELEASED]
    start = min(same or others or [end])
    stop = min([found.line for found in there if found.line > start] or [end]) if same else start
    lines = re.findall(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+", text)
    parts = ["".join(lines[:start]).rstrip(), section, "".join(lines[stop:]).rstrip("\r\n")]
    return (ending * 2).join(part for part in parts if part) + ending


@dataclass(frozen=True)
class _Heading:
    level: int
    content: str
    line: int


def _outline(text: str) -> tuple[list[_Heading], int]:
    """Return the headings of the first two levels, and the line where the text ends.

    The link definitions at the end of a changelog do not count as text.
    """
    environment: dict[str, Any] = {}
    tokens = MarkdownIt("commonmark").parse(text, environment)
    headings = [
        _Heading(int(token.tag[1:]), tokens[position + 1].content, token.map[0])
        for position, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag in ("h1", "h2") and token.level == 0
        if token.map
    ]
    lines = _BREAK.split(text)
    addresses = {
        line
        for reference in environment.get("references", {}).values()
        for line in range(*reference["map"])
    }
    end = line = len(lines)
    while line and (line - 1 in addresses or not lines[line - 1].strip()):
        line -= 1
        end = line if line in addresses else end
    return headings, end


def _added(before: Held, now: Held) -> str:
    rows = []
    for handle, earlier in _new(before, now):
        manifest = now.manifests[handle]
        head = manifest.head.replace("_", " ")
        if earlier is None:
            rows.append(
                (
                    _code(handle),
                    _plain(manifest.architecture),
                    f"{head}, folded" if manifest.folded else head,
                    str(manifest.resolution),
                    *_archive(manifest),
                )
            )
    return _table(("handle", "architecture", "head", "resolution", "size", "SHA-256"), rows)


def _raised(before: Held, now: Held) -> str:
    rows = []
    for handle, earlier in _new(before, now):
        manifest = now.manifests[handle]
        if earlier is not None:
            there = {**now.manifests, **before.manifests}[earlier]
            rows.append(
                (
                    _code(_name(handle)),
                    f"{_version(earlier)}",
                    f"{_version(handle)}",
                    _what_differs(there, manifest),
                    *_archive(manifest),
                )
            )
    return _table(("model", "from", "to", "what differs", "size", "SHA-256"), rows)


def _what_differs(earlier: Manifest, manifest: Manifest) -> str:
    if earlier.archive.sha256 == manifest.archive.sha256:
        return "nothing"
    # The section Toolchain names the tools.
    return difference(earlier, manifest).partition(" (")[0]


def _page_only(before: Held, now: Held) -> str:
    """Return the versions whose page changed, except where a withdrawal changed it."""
    return _bullets(
        handle
        for handle in _held_by_both(before, now)
        if handle in before.pages
        and handle in now.pages
        and before.pages[handle] != now.pages[handle]
        and _digest(before, handle) == _digest(now, handle)
        and before.withdrawn.get(handle) == now.withdrawn.get(handle)
    )


def _withdrawn(before: Held, now: Held) -> str:
    return "\n".join(
        f"- {_code(handle)}: {_plain(now.withdrawn[handle])}"
        for handle in _ordered(now.withdrawn)
        if before.withdrawn.get(handle) != now.withdrawn[handle]
    )


def _changed(before: Held, now: Held) -> str:
    """Return the versions with other bytes, which only happens between unrelated releases."""
    return "\n".join(
        f"- {_code(handle)}: SHA-256 was {_code(old[:SHORT])}, is {_code(new[:SHORT])}"
        for handle in _held_by_both(before, now)
        if (old := _digest(before, handle)) != (new := _digest(now, handle))
    )


def _toolchain(before: Held, now: Held) -> str:
    """Return the tools of new versions that the newest versions before did not use."""
    made = [now.manifests[handle] for handle in {*now.manifests} - {*before.manifests}]
    newest = [before.manifests[handle] for handle in _newest(before).values()]
    if not made or not newest:
        return ""
    rows = []
    for tool in sorted({name for manifest in made for name in manifest.toolchain}):
        old, new = (_values(manifests, tool) for manifests in (newest, made))
        if {*new} - {*old}:
            rows.append((_plain(tool), _all(old), _all(new)))
    return _table(("tool", "before", "now"), rows)


def _values(manifests: Iterable[Manifest], tool: str) -> list[str]:
    found = {manifest.toolchain.get(tool) for manifest in manifests}
    return sorted(value for value in found if value is not None)


def _all(values: Sequence[str]) -> str:
    return ", ".join(map(_plain, values)) or "none"


def _figures(before: Held, now: Held) -> str:
    """Return the figures that changed between the newest versions of each model."""
    rows = []
    earlier, newest = _newest(before), _newest(now)
    for name in sorted({*earlier} & {*newest}):
        for figure, value in _FIGURES.items():
            old = value(before.manifests[earlier[name]])
            new = value(now.manifests[newest[name]])
            if old != new:
                rows.append((_code(name), figure, old, new))
    return _table(("model", "figure", "before", "now"), rows)


def _parity_error(manifest: Manifest) -> str:
    """Return the largest error of the parity check, rounded because further digits are noise."""
    error = parity_error(manifest)
    return "none" if error is None else scientific(error)


_FIGURES: Mapping[str, Callable[[Manifest], str]] = {
    "largest parity error": _parity_error,
    "parameters": lambda manifest: thousands(manifest.parameters),
    "archive, bytes": lambda manifest: thousands(manifest.archive.size),
    "unpacked, bytes": lambda manifest: thousands(manifest.archive.unpacked_size),
}


def _synthetic(now: Held) -> Iterator[str]:
    synthetic = [handle for handle, manifest in now.manifests.items() if manifest.synthetic]
    if synthetic:
        every = len(synthetic) == len(now.manifests)
        those = "every version" if every else ", ".join(map(_code, _ordered(synthetic)))
        yield f"**{SYNTHETIC_NOTICE}** This is true of {those}."


def _new(before: Held, now: Held) -> Iterator[tuple[str, str | None]]:
    """Yield each new version, and the next lower version if the model is not new."""
    names = {_name(handle) for handle in before.manifests}
    for handle in _ordered({*now.manifests} - {*before.manifests}):
        lower = [
            other
            for other in {*before.manifests, *now.manifests}
            if _name(other) == _name(handle) and _version(other) < _version(handle)
        ]
        known = _name(handle) in names
        yield handle, max(lower, key=_version, default=None) if known else None


def _newest(held: Held) -> dict[str, str]:
    """Return the newest version of each model, by name."""
    return {_name(handle): handle for handle in _ordered(held.manifests)}


def _digest(held: Held, handle: str) -> str:
    return str(held.manifests[handle].archive.sha256)


def _archive(manifest: Manifest) -> tuple[str, str]:
    archive = manifest.archive
    return human_size(archive.size), _code(archive.sha256[:SHORT])


def _name(handle: str) -> str:
    return handle.rpartition("/")[0]


def _version(handle: str) -> int:
    return int(handle.rpartition("/")[2])


def _ordered(handles: Iterable[str]) -> list[str]:
    return sorted(handles, key=lambda handle: (_name(handle), _version(handle)))


def _held_by_both(before: Held, now: Held) -> list[str]:
    return _ordered({*before.manifests} & {*now.manifests})


def _bullets(handles: Iterable[str]) -> str:
    return "\n".join(f"- {_code(handle)}" for handle in handles)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def _plain(text: str) -> str:
    """Escape a text for Markdown, on one line and without invisible characters."""
    seen = "".join(c if c.isprintable() else " " for c in text[:LONGEST_TEXT])
    return _MARKUP.sub(r"\\\g<0>", " ".join(seen.split()))


def _code(text: str) -> str:
    """Return a name as inline code, or as escaped text if it could break out of the code."""
    return f"`{text}`" if re.fullmatch(r"[\w./-]+", text, re.ASCII) else _plain(text)

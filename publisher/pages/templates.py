"""Finds, renders and checks the templates of pages.

`templates` is always the registry's own folder of templates, which need not exist. A file there
replaces the distribution's file of the same name, such as `tfhub/module.md.j2`.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    nodes,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from publisher.pages import format as formats
from publisher.pages.errors import PageError, WrongTemplateError
from publisher.util.files import sha256, sha256_value
from publisher.util.resources import TEMPLATES, distributed

SUFFIX = ".j2"
FILTERS: Mapping[str, Callable[[Any], str]] = {
    "human_size": formats.human_size,
    "thousands": formats.thousands,
    "scientific": formats.scientific,
    "shape": formats.shape,
    "cell": formats.cell,
}

# The errors that a template's operations and filters can raise.
_FAULTS = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
_REFERENCE = re.compile(r"{%[-+]?\s*(extends|from|import|include)\b")


def folders(templates: Path) -> tuple[Path, Path]:
    """Return the folders to search for a template; the first that has it wins."""
    return templates, distributed(TEMPLATES)


def file_of(templates: Path, name: str) -> Path:
    """Return the file of a template. Raises `WrongTemplateError` if there is none."""
    found = next((one / name for one in folders(templates) if (one / name).is_file()), None)
    if found is None:
        raise WrongTemplateError(f"{templates / name}: there is no such template; restore the file")
    return found


class _Loader(FileSystemLoader):
    """Also reloads a template when an earlier folder gains or loses a file of that name."""

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        text, file, unchanged = super().get_source(environment, template)

        def up_to_date() -> bool:
            places = (Path(folder, template) for folder in self.searchpath)
            return Path(file) == next(filter(Path.is_file, places), None) and unchanged()

        return text, file, up_to_date


def html_environment(templates: Path, folder: str) -> Environment:
    """Return the environment for HTML pages. Names are relative to `folder`.

    It compiles each template once, and escapes all values.
    """
    places = [one / folder for one in folders(templates)]
    return _environment(places, autoescape=True, auto_reload=False)


@functools.lru_cache(maxsize=16)
def _markdown_environment(*places: Path) -> Environment:
    """Return the environment for all pages that are not HTML.

    It is cached, because compiling a template takes a hundred times as long as rendering it.
    A template whose file has changed is compiled again.
    """
    return _environment(places, autoescape=False, keep_trailing_newline=True)


def _environment(places: Iterable[Path], **settings: bool) -> Environment:
    """Return an environment whose templates can access only their facts.

    An undefined name is an error rather than empty text.
    """
    made = ImmutableSandboxedEnvironment(
        loader=_Loader(list(places)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **settings,
    )
    made.filters.update({name: _strict(function) for name, function in FILTERS.items()})
    return made


def render_template(templates: Path, name: str, facts: Mapping[str, Any]) -> str:
    """Render a template, with one newline at the end.

    Raises `PageError`, with the line, if the template is missing or faulty.
    """
    with named_errors(templates, name):
        text = _markdown_environment(*folders(templates)).get_template(name).render(facts)
    # Omitted parts of a page leave empty lines behind.
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"


def faults(templates: Path, styles: Iterable[str]) -> list[PageError]:
    """Compile the templates of these styles, and all that they reference; return the errors."""
    known = _markdown_environment(*folders(templates))
    prefixes = tuple(f"{style}/" for style in styles)
    waiting = [
        name
        for name in known.list_templates()
        if name.startswith(prefixes) and name.endswith(SUFFIX)
    ]
    found: list[PageError] = []
    for name in waiting:  # the loop appends to it
        try:
            with named_errors(templates, name):
                known.get_template(name)
                needed = _references(known, _text_of(known, name)).needed
        except PageError as error:
            found.append(error)
        else:
            waiting += sorted(needed.difference(waiting))
    return found


def digest(templates: Path, name: str) -> str:
    """Return one SHA-256 over a template and all templates that it may reference."""
    known = _markdown_environment(*folders(templates))
    digests: dict[str, str] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in digests:
            continue
        try:
            text = _text_of(known, one)
            references = _references(known, text)
        except (TemplateError, ValueError):  # rendering reports the error
            digests[one] = "unknown"
            continue
        digests[one] = sha256(text.encode())
        waiting += references.needed | references.optional
        waiting += known.list_templates() if references.computed else ()
    return sha256_value(dict(sorted(digests.items())))


@dataclass(frozen=True)
class _References:
    """The templates that a template references; those in `optional` need not exist.

    `computed` says whether it references others whose names are known only when rendering.
    """

    needed: frozenset[str]
    optional: frozenset[str]
    computed: bool


@functools.lru_cache(maxsize=64)
def _references(known: Environment, text: str) -> _References:
    if not _REFERENCE.search(text):  # parsing is the slowest step of a digest
        return _References(frozenset(), frozenset(), computed=False)
    needed, optional, computed = set(), set(), False
    kinds = (nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)
    for node in known.parse(text).find_all(kinds):
        (named,) = node.iter_child_nodes(only=("template",))
        if not isinstance(named, nodes.Const):
            computed = True
        elif isinstance(node, nodes.Include) and node.ignore_missing:
            optional.add(str(named.value))
        else:
            needed.add(str(named.value))
    return _References(frozenset(needed), frozenset(optional), computed)


def _text_of(known: Environment, name: str) -> str:
    assert known.loader is not None  # noqa: S101  it was made with one
    return known.loader.get_source(known, name)[0]


@contextmanager
def named_errors(templates: Path, name: str) -> Iterator[None]:
    """Raise template errors as `PageError` with file and line."""
    try:
        yield
    except TemplateNotFound as error:
        raise WrongTemplateError(
            f"{templates / (error.name or name)}: there is no such template; restore the file"
        ) from error
    except TemplateSyntaxError as error:
        raise WrongTemplateError(
            f"{error.filename or file_of(templates, name)}:{error.lineno}: {error.message};"
            " correct the template"
        ) from error
    except (TemplateError, *_FAULTS) as error:
        where = _place(error.__traceback__, templates) or file_of(templates, name)
        raise PageError(f"{where}: {error}; correct the template") from error


def _strict(function: Callable[[Any], str]) -> Callable[[Any], str]:
    """Wrap a filter so that an undefined value raises an error with its name."""

    def filtered(value: Any) -> str:
        if isinstance(value, StrictUndefined):
            str(value)
        return function(value)

    return filtered


def _place(traceback: TracebackType | None, templates: Path) -> str | None:
    """Return `file:line` of the innermost template frame."""
    place = None
    while traceback is not None:
        file = Path(traceback.tb_frame.f_code.co_filename)
        if any(file.is_relative_to(folder) for folder in folders(templates)):
            place = f"{file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place

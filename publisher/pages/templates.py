"""The templates of pages: where they are, how they are rendered, and what is wrong with them.

`templates` is always the registry's own folder of templates, which need not exist. A file there
takes the place of the distribution's file of the same name, such as `tfhub/module.md.j2`.
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

# What a template's own operations and filters can raise.
_FAULTS = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
_REFERENCE = re.compile(r"{%[-+]?\s*(extends|from|import|include)\b")


def folders(templates: Path) -> tuple[Path, Path]:
    """Return the folders in which a template is looked for, the first to have it wins."""
    return templates, distributed(TEMPLATES)


def file_of(templates: Path, name: str) -> Path:
    """Return the file that is used under a name. Raises `WrongTemplateError` if there is none."""
    found = next((one / name for one in folders(templates) if (one / name).is_file()), None)
    if found is None:
        raise WrongTemplateError(f"{templates / name}: there is no such template; restore the file")
    return found


class _Loader(FileSystemLoader):
    """Loads a template again also when it was put into, or taken from, an earlier folder."""

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        text, file, unchanged = super().get_source(environment, template)

        def up_to_date() -> bool:
            places = (Path(folder, template) for folder in self.searchpath)
            return Path(file) == next(filter(Path.is_file, places), None) and unchanged()

        return text, file, up_to_date


def html_environment(templates: Path, folder: str) -> Environment:
    """Return the environment of HTML pages; names are relative to a folder of templates.

    Each template is read and compiled once, and everything that it fills in is escaped.
    """
    places = [one / folder for one in folders(templates)]
    return _environment(places, autoescape=True, auto_reload=False)


@functools.lru_cache(maxsize=16)
def _markdown_environment(*places: Path) -> Environment:
    """Return the environment of all pages that are not HTML.

    It is kept, because compiling a template takes a hundred times as long as rendering it. A
    template whose file has changed is compiled again.
    """
    return _environment(places, autoescape=False, keep_trailing_newline=True)


def _environment(places: Iterable[Path], **settings: bool) -> Environment:
    """Return an environment in which a template can reach nothing but its facts.

    A name that a template gets wrong is an error, not an empty place on the page.
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
    """Return the text that a template makes of facts, with one newline at its end.

    Raises `PageError` that names the line if the template is missing or faulty.
    """
    with named_errors(templates, name):
        text = _markdown_environment(*folders(templates)).get_template(name).render(facts)
    # Parts of a page that are left out leave their empty lines.
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"


def faults(templates: Path, styles: Iterable[str]) -> list[PageError]:
    """Return what can be known to be wrong with templates before there are facts.

    All templates of these styles, which are folders, are compiled, and all that they name.
    """
    known = _markdown_environment(*folders(templates))
    prefixes = tuple(f"{style}/" for style in styles)
    waiting = [
        name
        for name in known.list_templates()
        if name.startswith(prefixes) and name.endswith(SUFFIX)
    ]
    found: list[PageError] = []
    for name in waiting:  # which grows
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
    """Return one SHA-256 over a template and all that it may name, as they are now."""
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
        except (TemplateError, ValueError):  # rendering says what is wrong with it
            digests[one] = "unknown"
            continue
        digests[one] = sha256(text.encode())
        waiting += references.needed | references.optional
        waiting += known.list_templates() if references.computed else ()
    return sha256_value(dict(sorted(digests.items())))


@dataclass(frozen=True)
class _References:
    """The templates that a template names: `optional` ones need not exist.

    With `computed` it names others too, and which ones is known when it is rendered.
    """

    needed: frozenset[str]
    optional: frozenset[str]
    computed: bool


@functools.lru_cache(maxsize=64)
def _references(known: Environment, text: str) -> _References:
    if not _REFERENCE.search(text):  # parsing takes longer than all else that a digest needs
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
    """Raise what goes wrong with a template as a `PageError` with file and line."""
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
    """Let an undefined value say its name, before the filter trips over it."""

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

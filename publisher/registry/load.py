"""Reads `models.yaml` into a `Registry`, or reports every problem in it at once."""

from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from publisher.registry.document import LARGEST, Document, Location, Problem, parse
from publisher.registry.errors import RegistryError
from publisher.registry.models import Registry
from publisher.registry.rules import RULES, RawValues
from publisher.util.wording import listed, shown, suggestion

MOST = 200  # problems in a message

# What is allowed, by pydantic's type of the error.
_EXPECTED = {
    "string_type": "text, in quotes if it looks like something else",
    "int_type": "a whole number, without quotes",
    "float_type": "a number, without quotes",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "greater_than_equal": "{ge:g} or more",
    "less_than_equal": "{le:,} or less",
    "literal_error": "{expected}",
}


def load_registry(path: Path) -> Registry:
    """Read and check `models.yaml`.

    Raises `RegistryError` with one line for each problem, in the order of the file.
    """
    return parse_registry(read_content(path), path)


def parse_registry(content: bytes, path: Path) -> Registry:
    """Parse and check `content` as that of `models.yaml` at `path`, which need not hold it yet.

    Raises `RegistryError` as `load_registry` does.
    """
    name = shown_path(path)
    document = parse(content)
    if isinstance(document, Problem):
        raise _error(name, [document])
    folder = path.absolute().parent
    problems = list(document.problems)
    faulty: set[Location] = set()
    registry = None
    try:
        registry = Registry.model_validate(document.data)
    except ValidationError as error:
        whole = RawValues(document.data, set(), folder)
        for details in error.errors(include_url=False, include_input=False):
            location = _location(details)
            # Pydantic also calls a list too short if its entries are wrong.
            least = details.get("ctx", {}).get("min_length", 0)
            if details["type"] == "too_short" and len(whole.value(*location)) >= least:
                continue
            faulty.add(location)
            node = document.nodes.get(location)
            if node is None or node.shown is not None:
                problems.append(_problem(document, location, details))
    values = RawValues(document.data, faulty, folder)
    for rule in RULES:
        for location, message in rule(values):
            problems.append(Problem(*document.place(location), message))
    if problems or registry is None:
        raise _error(name, problems)
    registry._directory = folder
    return registry


def read_content(path: Path) -> bytes:
    """Return the content of the file, cut off one byte above the size limit.

    Raises `RegistryError` for a file that cannot be read.
    """
    name = shown_path(path)
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except FileNotFoundError:
        raise RegistryError(
            f"{name}: there is no such file; run where it lies, or give its path with --registry"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RegistryError(
            f"{name}: cannot be read ({reason}); give its path with --registry"
        ) from None


def shown_path(path: Path) -> str:
    """Return the path for messages: relative to the current folder if it is below that."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    text = str(path)
    return text if text.isprintable() else repr(text)


def _error(name: str, problems: Iterable[Problem]) -> RegistryError:
    ordered = sorted(dict.fromkeys(problems), key=lambda found: (found.line, found.column))
    lines = [f"{name}:{found.line}:{found.column}: {found.message}" for found in ordered[:MOST]]
    if len(ordered) > MOST:
        lines.append(f"{name}: and {len(ordered) - MOST:,} more; correct these first")
    return RegistryError("\n".join(lines))


def _location(details: ErrorDetails) -> Location:
    location = details["loc"]
    # Pydantic marks an error in a mapping's key; only our own checks apply to keys.
    is_key = location[-1:] == ("[key]",) and details["type"] == "value_error"
    return location[:-1] if is_key else location


def _problem(document: Document, location: Location, details: ErrorDetails) -> Problem:
    """Return an error of pydantic in our words."""
    kind, context = details["type"], details.get("ctx", {})
    place = document.place(location)
    if kind == "extra_forbidden":
        key = str(location[-1])
        meant = suggestion(key, list(_fields(location[:-1])))
        return Problem(*document.keys[location], f"the key {shown(key)} is unknown{meant}")
    if kind == "missing" and isinstance(location[-1], int):
        return Problem(*place, f"{_label(location[:-1])} is too short; allowed: two numbers")
    if kind == "missing":
        fields = _fields(location[:-1])
        required = listed(key for key, field in fields.items() if field.is_required())
        return Problem(
            *place, f"the key {shown(str(location[-1]))} is missing; required here: {required}"
        )
    if kind == "value_error":
        if details["loc"] != location:
            place = document.keys[location]
        return Problem(*place, str(context["error"]))
    name = _label(location)
    if kind in ("too_short", "too_long"):
        bound = context["min_length"] if kind == "too_short" else context["max_length"]
        count = f"{'at least' if kind == 'too_short' else 'at most'} {bound}"
        entries = "entry" if bound == 1 else "entries"
        return Problem(
            *place,
            f"{name} has {context['actual_length']} entries; allowed: {count} {entries}",
        )
    allowed = f"a mapping with the keys {listed(_fields(location))}" if kind == "model_type" else ""
    allowed = allowed or _EXPECTED.get(kind, "").format(**context) or details["msg"]
    return Problem(*place, f"{name} is {document.nodes[location].shown}; allowed: {allowed}")


def _label(location: Location) -> str:
    """Return the name of a location in messages."""
    if not location:
        return "the file"
    last = location[-1]
    if isinstance(last, int):
        return f"entry {last + 1} of {_label(location[:-1])}"
    return last if last.isidentifier() and len(last) <= 60 else shown(last)


def _fields(location: Location) -> dict[str, Any]:
    """Return the fields of the model at a location."""
    kind: Any = Registry
    for step in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(step)].annotation
        else:
            # The values of a mapping are its last argument, those of a list its first.
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        while get_origin(kind) in (Annotated, Union, UnionType):
            kind = get_args(kind)[0]
    return dict(kind.model_fields)

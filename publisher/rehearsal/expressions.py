"""Evaluates the text inside `${{ }}`, as far as the release workflow uses GitHub's expressions.

Source: GitHub documentation, "Evaluate expressions in workflows and actions". An undefined name
is an error here. On GitHub it is empty, so a misspelt output goes unnoticed.
"""

import ast
import json
import re
from collections.abc import Mapping
from typing import TypeAlias

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.workflow import Text

Value: TypeAlias = "str | bool | int | float | list[Value] | Mapping[str, Value] | None"
# The contexts that an expression may name. `success()` and its like read `status`.
Scope: TypeAlias = Mapping[str, Value]

STATUS = ("success", "failure", "cancelled", "always")

_INSERTED = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"'(?P<text>(?:[^']|'')*)'|(?P<function>[A-Za-z]+)(?=\()|(?P<name>[A-Za-z_][\w.-]*)"
    r"|&&|\|\||!(?!=)"
)
# `~` binds as closely in Python as `!` does here.
_SIGNS = {"&&": " and ", "||": " or ", "!": "~"}


def value_of(text: Text, scope: Scope) -> Value:
    """Return the value of a text that is a single expression; otherwise the text, filled in.

    Raises `RehearsalError`, with file and line, for an expression that is not supported.
    """
    found = _INSERTED.fullmatch(text.strip())
    if found and "}}" not in found[1]:
        return _evaluated(_parsed(found[1], text.where), text.where, scope)
    return filled_in(text, scope)


def filled_in(text: Text, scope: Scope) -> str:
    """Return a text with its expressions replaced by their values. Raises `RehearsalError`."""

    def shown(found: re.Match[str]) -> str:
        value = value_of(Text(found[0], text.where), scope)
        if isinstance(value, list | Mapping):
            raise RehearsalError(f"{text.where}: {found[0]} is not a text; use toJSON()")
        return str(value).lower() if isinstance(value, bool) else str(value or "")

    return _INSERTED.sub(shown, text)


def holds(condition: Text | None, scope: Scope) -> bool:
    """Return whether an `if:` lets its job or step run. Raises `RehearsalError`.

    A condition without a status function requires that everything before it succeeded.
    """
    condition = condition or Text("success()", "")
    found = _INSERTED.fullmatch(condition.strip())
    tree = _parsed(found[1] if found else condition, condition.where)
    asks = any(isinstance(node, ast.Name) and node.id in STATUS for node in ast.walk(tree))
    if not asks and scope["status"] != "success":
        return False
    return _truthy(_evaluated(tree, condition.where, scope))


def _parsed(expression: str, where: str) -> ast.expr:
    """Translate an expression to Python, whose grammar is the same, and parse it.

    A name becomes a list that holds its path: `['needs.matrix.result']`.
    """

    def translated(token: re.Match[str]) -> str:
        if token["text"] is not None:
            return repr(token["text"].replace("''", "'"))
        return f"[{token['name']!r}]" if token["name"] else _SIGNS.get(token[0], token[0])

    try:
        return ast.parse(f"({_TOKEN.sub(translated, expression)})", mode="eval").body
    except SyntaxError:
        raise RehearsalError(f"{where}: {expression.strip()!r} is not supported here") from None


def _evaluated(node: ast.expr, where: str, scope: Scope) -> Value:
    match node:
        case ast.BoolOp(sign, [*first, last]):
            for operand in first:
                value = _evaluated(operand, where, scope)
                if _truthy(value) == isinstance(sign, ast.Or):
                    return value
            return _evaluated(last, where, scope)
        case ast.UnaryOp(ast.Invert(), operand):
            return not _truthy(_evaluated(operand, where, scope))
        case ast.Compare(one, [ast.Eq() | ast.NotEq() as sign], [other]):
            pair = (_evaluated(one, where, scope), _evaluated(other, where, scope))
            if not all(isinstance(value, str) for value in pair):
                raise RehearsalError(f"{where}: a rehearsal only compares texts, not {pair}")
            left, right = (str(value).lower() for value in pair)
            return (left == right) == isinstance(sign, ast.Eq)
        case ast.Call(ast.Name(name), []) if name in STATUS:
            return name in ("always", scope["status"])
        case ast.Call(ast.Name("toJSON"), [argument]):
            return json.dumps(_evaluated(argument, where, scope), indent=2, ensure_ascii=False)
        case ast.Call(ast.Name("fromJSON"), [argument]):
            value = _evaluated(argument, where, scope)
            try:
                found: Value = json.loads(str(value))
            except ValueError:
                raise RehearsalError(f"{where}: {value!r} is not JSON") from None
            return found
        case ast.Constant(str(text)):
            return text
        case ast.List([ast.Constant(str(path))]):
            return _named(path, where, scope)
    raise RehearsalError(f"{where}: {ast.unparse(node)} is not supported here")


def _named(path: str, where: str, scope: Scope) -> Value:
    value: Value = scope
    for name in path.split("."):
        try:
            value = value[name]  # type: ignore[index, call-overload]
        except (KeyError, TypeError):
            defined = ", ".join(value) if isinstance(value, Mapping) else ""
            raise RehearsalError(
                f"{where}: {path}: {name} is not defined; defined: {defined or 'nothing'}"
            ) from None
    return value


def _truthy(value: Value) -> bool:
    return isinstance(value, list | Mapping) or bool(value)

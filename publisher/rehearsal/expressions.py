"""What stands in `${{ }}`: the part of GitHub's expressions that our workflows use.

Source: GitHub documentation, "Evaluate expressions in workflows and actions". A name that
is not known is an error here, where GitHub would take it as empty: a misspelt output would
go unnoticed otherwise. Only variables and secrets are empty where they are not set.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from publisher.rehearsal.errors import RehearsalError

STATUS = ("success", "failure", "cancelled", "always")
FUNCTIONS = ("fromJSON", "toJSON", *STATUS)

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][\w-]*)"
    r"|(?P<sign>&&|\|\||==|!=|[!().,]))"
)
_INSERTED = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Text:
    """A text of a workflow that may hold expressions, and where it stands: `file:line`."""

    text: str
    where: str


class Settable(dict[str, str]):
    """Variables or secrets: one that nobody set is empty."""


@dataclass(frozen=True)
class Scope:
    """What an expression may name: contexts by name, and the answers of `success()` etc."""

    contexts: Mapping[str, Any]
    status: Mapping[str, bool] = field(default_factory=dict)

    def with_(self, **contexts: Any) -> "Scope":
        """Return a scope with further contexts, or others."""
        return Scope({**self.contexts, **contexts}, self.status)

    def asking(self, status: Mapping[str, bool]) -> "Scope":
        """Return a scope in which the functions of a status can be asked."""
        return Scope(self.contexts, status)


def value_of(text: Text, scope: Scope) -> Any:
    """Return the value of a text that is one expression, or else the text filled in.

    Raises `RehearsalError` with file and line for what is unknown or no expression.
    """
    whole = re.fullmatch(r"\s*\$\{\{((?:(?!\}\}).)*)\}\}\s*", text.text, re.DOTALL)
    if whole:
        return _evaluated(whole[1], text.where, scope)
    return filled_in(text, scope)


def filled_in(text: Text, scope: Scope) -> str:
    """Return a text with the values of its expressions. Raises `RehearsalError`."""

    def value(found: re.Match[str]) -> str:
        return shown(_evaluated(found[1], text.where, scope), text.where)

    return _INSERTED.sub(value, text.text)


def holds(condition: Text | None, scope: Scope) -> bool:
    """Whether an `if:` lets its job or step run. Raises `RehearsalError`.

    One that asks for no status runs only if all before it succeeded.
    """
    if condition is None:
        return scope.status["success"]
    found = re.fullmatch(r"\s*\$\{\{(.*)\}\}\s*", condition.text, re.DOTALL)
    expression = found[1] if found else condition.text
    asks = any(
        kind == "name" and word in STATUS for kind, word in _tokens(expression, condition.where)
    )
    if not asks and not scope.status["success"]:
        return False
    return _true(_evaluated(expression, condition.where, scope))


def shown(value: Any, where: str) -> str:
    """Return a value as it stands in a text. Raises `RehearsalError` for a list or mapping."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, str):
        return value
    raise RehearsalError(f"{where}: a list or mapping stands where a text is needed; use toJSON()")


def _tokens(text: str, where: str) -> Iterator[tuple[str, str]]:
    end = 0
    while text[end:].strip():
        found = _TOKEN.match(text, end)
        if not found:
            raise RehearsalError(
                f"{where}: {text.strip()!r} cannot be evaluated here, from"
                f" {text[end:].strip()!r} on; known are names, texts in quotes, numbers,"
                " ! && || == != ( ) and ."
            )
        end = found.end()
        kind = str(found.lastgroup)
        yield kind, found[kind]


def _evaluated(text: str, where: str, scope: Scope) -> Any:
    parser = _Parser(list(_tokens(text, where)), text.strip(), where, scope)
    value = parser.either()
    if parser.left:
        raise parser.error(f"{parser.left[0][1]!r} is not expected")
    return value


class _Parser:
    """Evaluates while it reads; what `&&` and `||` leave out is read and not evaluated."""

    def __init__(self, tokens: list[tuple[str, str]], text: str, where: str, scope: Scope) -> None:
        self.left = tokens
        self._text = text
        self._where = where
        self._scope = scope
        self._idle = 0  # above 0 while what is read does not count

    def error(self, reason: str) -> RehearsalError:
        return RehearsalError(f"{self._where}: {self._text!r}: {reason}; correct the workflow")

    def either(self) -> Any:
        value = self._both()
        while self._take("||"):
            value = self._second(self._both, needed=not _true(value), first=value)
        return value

    def _both(self) -> Any:
        value = self._compared()
        while self._take("&&"):
            value = self._second(self._compared, needed=_true(value), first=value)
        return value

    def _second(self, read: Any, *, needed: bool, first: Any) -> Any:
        self._idle += not needed
        second = read()
        self._idle -= not needed
        return second if needed else first

    def _compared(self) -> Any:
        value = self._unary()
        while self.left and self.left[0][1] in ("==", "!=") and self.left[0][0] == "sign":
            same = self.left.pop(0)[1] == "=="
            value = _equal(value, self._unary()) == same
        return value

    def _unary(self) -> Any:
        if self._take("!"):
            return not _true(self._unary())
        return self._primary()

    def _primary(self) -> Any:
        if self._take("("):
            value = self.either()
            self._expect(")")
            return value
        if not self.left:
            raise self.error("it ends too early")
        kind, word = self.left.pop(0)
        if kind == "text":
            return word[1:-1].replace("''", "'")
        if kind == "number":
            return float(word) if "." in word else int(word)
        if kind == "sign":
            raise self.error(f"{word!r} is not expected")
        if self._take("("):
            return self._call(word)
        if word in _WORDS:
            return _WORDS[word]
        return self._named(word)

    def _call(self, name: str) -> Any:
        if name not in FUNCTIONS:
            raise self.error(f"the function {name} is not known here")
        arguments = []
        while not self._take(")"):
            arguments.append(self.either())
            if not self._take(","):
                self._expect(")")
                break
        if len(arguments) != (name not in STATUS):
            raise self.error(f"{name} has another number of arguments")
        if self._idle:
            return None
        if name in STATUS:
            if name not in self._scope.status:
                raise self.error(f"{name}() cannot be asked here")
            return self._scope.status[name]
        if name == "toJSON":
            return json.dumps(arguments[0], indent=2, ensure_ascii=False)
        try:
            return json.loads(arguments[0])
        except (TypeError, ValueError):
            raise self.error(f"{arguments[0]!r} is no JSON") from None

    def _named(self, name: str) -> Any:
        path, value = name, self._step(self._scope.contexts, name, "")
        while self._take("."):
            if not self.left or self.left[0][0] != "name":
                raise self.error("a name has to follow the last point")
            step = self.left.pop(0)[1]
            value = self._step(value, step, path)
            path = f"{path}.{step}"
        return value

    def _step(self, value: Any, name: str, path: str) -> Any:
        if self._idle:
            return None
        if isinstance(value, Settable):
            return value.get(name, "")
        if not isinstance(value, Mapping):
            raise self.error(f"{path} has no parts")
        if name not in value:
            there = ", ".join(map(str, value)) or "nothing"
            raise self.error(f"{path or 'this place'} does not know {name}; there is {there}")
        return value[name]

    def _take(self, sign: str) -> bool:
        if self.left and self.left[0] == ("sign", sign):
            del self.left[0]
            return True
        return False

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self.error(f"{sign!r} is missing")


def _true(value: Any) -> bool:
    return not (value is None or value is False or value == "" or value == 0)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.lower() == other.lower()
    if type(one) is type(other):
        return bool(one == other)
    return _number(one) == _number(other)


def _number(value: Any) -> float:
    if value is None or value == "":
        return 0.0
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan

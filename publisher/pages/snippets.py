"""Finds the Python blocks on a page, and checks them without running them.

Readers copy and run single blocks, so each must work alone. `validation/snippets.py` runs them.
"""

import ast
import builtins
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from publisher.pages.document import CodeBlock

PYTHON = ("python", "python3", "py")
_SCHEMES = ("http://", "https://", "gs://", "s3://")


@dataclass(frozen=True)
class Snippet:
    """One Python block. `line` is the line of its fence; the code starts on the next one."""

    line: int
    code: str


@dataclass(frozen=True)
class SnippetProblem:
    """An error in a snippet, and its line on the page."""

    line: int
    message: str


def snippets(blocks: Iterable[CodeBlock]) -> list[Snippet]:
    """Return the closed Python blocks."""
    return [
        Snippet(block.line, textwrap.dedent("".join(f"{line.text}\n" for line in block.lines)))
        for block in blocks
        if block.language in PYTHON and block.closed
    ]


def syntax_problem(snippet: Snippet) -> SnippetProblem | None:
    """Return the syntax error of a snippet, if it has one."""
    try:
        compile(snippet.code, "<snippet>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        offset = getattr(error, "lineno", None) or 0
        return SnippetProblem(
            snippet.line + offset, f"this Python does not compile: {error.args[0]}; correct it"
        )
    return None


def undefined_names(snippet: Snippet) -> Iterator[SnippetProblem]:
    """Yield the names that a snippet uses but neither sets nor has as builtins.

    A name that is set anywhere in the block counts as set, even after its use.
    """
    nodes = list(ast.walk(ast.parse(snippet.code)))
    known = set(dir(builtins))
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                known.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                known.add(name)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                known.add(name)
            case ast.alias(name=name, asname=other):
                known.add(other or name.partition(".")[0])
    for node in nodes:
        if isinstance(node, ast.Name) and node.id not in known:
            yield SnippetProblem(
                snippet.line + node.lineno,
                f"this Python never sets {node.id!r}; a block has to run alone",
            )


def addresses(snippet: Snippet) -> Iterator[tuple[int, str]]:
    """Yield every address in a string of a snippet, with its line on the page."""
    for node in ast.walk(ast.parse(snippet.code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.strip()
            if text.lower().startswith(_SCHEMES):
                yield snippet.line + node.lineno, text


def replaced(text: str, others: Mapping[str, str]) -> str:
    """Return a text with each key of `others` replaced, the longest first."""
    for old in sorted(others, key=len, reverse=True):
        text = text.replace(old, others[old])
    return text

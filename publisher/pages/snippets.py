"""The Python on a page, block by block: a reader copies one block and runs it as it is.

So each block is a program of its own, and has to work alone. What can be said of one
without running it is said here; `validation/snippets.py` runs one.
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
    """One Python block. `line` is that of its fence; the code begins on the next."""

    line: int
    code: str


@dataclass(frozen=True)
class SnippetProblem:
    """What is wrong with a snippet, and on which line of the page."""

    line: int
    message: str


def snippets(blocks: Iterable[CodeBlock]) -> list[Snippet]:
    """Return the blocks that are Python and whole."""
    return [
        Snippet(block.line, textwrap.dedent("".join(f"{line.text}\n" for line in block.lines)))
        for block in blocks
        if block.language in PYTHON and block.closed
    ]


def syntax_problem(snippet: Snippet) -> SnippetProblem | None:
    """Return why Python would not begin to run a snippet, if so."""
    try:
        compile(snippet.code, "<snippet>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        offset = getattr(error, "lineno", None) or 0
        return SnippetProblem(
            snippet.line + offset, f"this Python does not compile: {error.args[0]}; correct it"
        )
    return None


def undefined_names(snippet: Snippet) -> Iterator[SnippetProblem]:
    """Yield the names that a snippet uses and that nothing in it, nor Python, gives a value.

    A name that is set anywhere in the block counts as set; which comes first is not looked at.
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
    """Yield every text in a snippet that is an address, with its line on the page."""
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

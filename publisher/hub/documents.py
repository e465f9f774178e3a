"""Renders a model's README.md as HTML with nothing but text, tables, code and links."""

import re

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore

_METADATA = re.compile(r"\s*<!--.*-->\s*")
# A keyboard can only scroll elements that can take the focus.
_SCROLLING = {
    "<table>": '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>',
    "</table>": "</table></div>",
    "<pre>": '<pre tabindex="0">',
}


def document_html(text: str) -> str:
    """Return a model's page as HTML, without its heading, which the template writes.

    Shows HTML in the text as text and images as links, and removes links whose scheme could run
    code.
    """
    lines = text.splitlines()
    if lines and lines[0].startswith("# "):
        del lines[0]
    kept = "\n".join(line for line in lines if not _METADATA.fullmatch(line))
    html: str = _MARKDOWN.render(kept)
    # Only the renderer can have written these tags, because it escapes those in the text.
    for plain, scrolling in _SCROLLING.items():
        html = html.replace(plain, scrolling)
    return html


def _unmark_empty_headers(state: StateCore) -> None:
    """Turn empty header cells of a table into data cells, which a screen reader does not announce.

    Gives the other header cells their scope.
    """
    for position, token in enumerate(state.tokens):
        if token.type != "th_open":
            continue
        if state.tokens[position + 1].content:
            token.attrSet("scope", "col")
        else:
            token.tag = state.tokens[position + 2].tag = "td"


_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
_MARKDOWN.core.ruler.push("unmark_empty_headers", _unmark_empty_headers)

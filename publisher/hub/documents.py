"""A model's README.md -> HTML that can hold nothing but text, tables, code and links."""

import re

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore

_METADATA = re.compile(r"\s*<!--.*-->\s*")
# Whoever uses a keyboard can scroll only what can have the focus.
_SCROLLING = {
    "<table>": '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>',
    "</table>": "</table></div>",
    "<pre>": '<pre tabindex="0">',
}


def document_html(text: str) -> str:
    """Return a module page as HTML without its first line, which is the page's own heading.

    HTML in the text is shown as text, images as links, and links with a scheme that could
    run something not at all.
    """
    lines = text.splitlines()
    if lines and lines[0].startswith("# "):
        del lines[0]
    kept = "\n".join(line for line in lines if not _METADATA.fullmatch(line))
    html: str = _MARKDOWN.render(kept)
    # These can only be the renderer's own: what the text brings is escaped.
    for plain, scrolling in _SCROLLING.items():
        html = html.replace(plain, scrolling)
    return html


def _quiet_corners(state: StateCore) -> None:
    """Let the empty corner of a table be no heading: a screen reader would announce it."""
    for position, token in enumerate(state.tokens):
        if token.type != "th_open":
            continue
        if state.tokens[position + 1].content:
            token.attrSet("scope", "col")
        else:
            token.tag = state.tokens[position + 2].tag = "td"


_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
_MARKDOWN.core.ruler.push("quiet_corners", _quiet_corners)

"""Renders facts as documentation pages, and checks the pages.

`render`    renders registry and manifests as Markdown;
`templates` finds, renders and checks templates;
`rules`     checks pages: the rules of tfhub.dev's validator, and common mistakes;
`document`  parses a page: kind, metadata, code blocks, prose;
`snippets`  finds the Python on a page, and checks it without running it;
`values`    the metadata keys and values that tfhub.dev allows;
`format`    formats numbers.
"""

from publisher.pages.errors import PageError
from publisher.pages.render import (
    asset_path,
    document_path,
    render_collection,
    render_module,
    render_publisher,
)
from publisher.pages.rules import check_pages, require_good_pages

__all__ = [
    "PageError",
    "asset_path",
    "check_pages",
    "document_path",
    "render_collection",
    "render_module",
    "render_publisher",
    "require_good_pages",
]

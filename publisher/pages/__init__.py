"""Facts -> documentation pages, and the rules that every page must keep.

`render`    registry + manifest -> Markdown, through the templates;
`templates` where they are, how they are rendered, what is wrong with them;
`rules`     what tfhub.dev's validator asks of pages, and what hand-written pages got wrong;
`document`  one page taken apart: kind, metadata, code blocks, prose;
`snippets`  the Python on a page, and what can be said of it without running it;
`values`    the metadata keys and values that tfhub.dev allows;
`format`    how numbers are written.
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

"""Facts -> HTML, through the templates in `templates/web/`.

Whatever a release brings is text to them: everything is escaped, a name that a template
gets wrong is an error, and templates can reach nothing but the facts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from publisher.pages.templates import file_of, html_environment, named_errors
from publisher.util.resources import TEMPLATES, distributed

FOLDER = "web"
ASSETS = {
    "hub.css": "text/css; charset=utf-8",
    "hub.js": "text/javascript; charset=utf-8",
    "hub.svg": "image/svg+xml",
}


class Renderer:
    """The templates, read once.

    `templates` is a folder whose files take the place of the distribution's.
    """

    def __init__(self, templates: Path | None = None) -> None:
        self._templates = templates or distributed(TEMPLATES)
        self._environment = html_environment(self._templates, FOLDER)

    def page(self, name: str, facts: Mapping[str, Any]) -> bytes:
        """Return the page that the template `<name>.html.j2` makes of facts.

        Raises `PageError` if the template is missing or faulty.
        """
        file = f"{name}.html.j2"
        with named_errors(self._templates, f"{FOLDER}/{file}"):
            text = self._environment.get_template(file).render(facts)
        # A lone surrogate is no text; it must not keep the rest from being shown.
        return text.encode(errors="replace")

    def assets(self) -> dict[str, bytes]:
        """Return the files that every page needs, by name. Raises `PageError`."""
        found = {}
        for name in ASSETS:
            with named_errors(self._templates, f"{FOLDER}/{name}"):
                found[name] = file_of(self._templates, f"{FOLDER}/{name}").read_bytes()
        return found

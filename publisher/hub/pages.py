"""Renders facts as HTML with the templates in `templates/web/`.

A release is untrusted: all values are escaped, and templates can access only the facts. An
undefined name in a template is an error.
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

    Files in the folder `templates` replace those of the distribution.
    """

    def __init__(self, templates: Path | None = None) -> None:
        self._templates = templates or distributed(TEMPLATES)
        self._environment = html_environment(self._templates, FOLDER)

    def page(self, name: str, facts: Mapping[str, Any]) -> bytes:
        """Render the template `<name>.html.j2`.

        Raises `PageError` if the template is missing or faulty.
        """
        file = f"{name}.html.j2"
        with named_errors(self._templates, f"{FOLDER}/{file}"):
            text = self._environment.get_template(file).render(facts)
        # A lone surrogate cannot be encoded; replace it so that the page still appears.
        return text.encode(errors="replace")

    def assets(self) -> dict[str, bytes]:
        """Return the style sheet, script and icon, by name. Raises `PageError`."""
        found = {}
        for name in ASSETS:
            with named_errors(self._templates, f"{FOLDER}/{name}"):
                found[name] = file_of(self._templates, f"{FOLDER}/{name}").read_bytes()
        return found

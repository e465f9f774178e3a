"""Facts -> HTML, through the templates in `templates/web/`.

Whatever a release brings is text to them: everything is escaped, a name that a template
gets wrong is an error, and templates can reach nothing but the facts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from publisher.hub.errors import HubError
from publisher.pages.render import FILTERS

TEMPLATES = Path(__file__).parents[2] / "templates"
ASSETS = {
    "hub.css": "text/css; charset=utf-8",
    "hub.js": "text/javascript; charset=utf-8",
    "hub.svg": "image/svg+xml",
}


class Renderer:
    """The templates, read once."""

    def __init__(self, templates: Path = TEMPLATES) -> None:
        self._folder = templates / "web"
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(self._folder),
            undefined=StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(FILTERS)

    def page(self, name: str, facts: Mapping[str, Any]) -> bytes:
        """Return the page that the template `<name>.html.j2` makes of facts.

        Raises `HubError` if the template is missing or faulty.
        """
        template = f"{name}.html.j2"
        try:
            text = self._environment.get_template(template).render(facts)
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise HubError(
                f"{self._folder / template}: {error}; restore or correct the template"
            ) from error
        # A lone surrogate is no text; it must not keep the rest from being shown.
        return text.encode(errors="replace")

    def assets(self) -> dict[str, bytes]:
        """Return the files that every page needs, by name. Raises `HubError`."""
        try:
            return {name: (self._folder / name).read_bytes() for name in ASSETS}
        except OSError as error:
            raise HubError(
                f"{error.filename}: {error.strerror or error}; restore the file"
            ) from error

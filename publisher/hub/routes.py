"""Answers requests, including those of the TensorFlow Hub hosting protocol.

Source of the protocol: https://www.tensorflow.org/hub/hosting. One address serves a model to
`hub.load`, which adds `?tf-hub-format=compressed`, and its page to a browser.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from publisher.hub import views
from publisher.hub.answers import A_DAY, PLAIN, REVALIDATE, archive, content, plain, redirect
from publisher.hub.links import Links
from publisher.hub.live import LiveCatalogue
from publisher.hub.pages import ASSETS, Renderer
from publisher.hub.search import Filters
from publisher.hub.settings import HOST, Settings
from publisher.release.catalogue import Catalogue, Model, Redirect
from publisher.util.wording import shown

FORMAT = "tf-hub-format"
HTML = "text/html; charset=utf-8"
KEPT = 512  # rendered pages in memory
_TYPES = {
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
    "SHA256SUMS": PLAIN,
    "sig": "application/json",
}


class Hub:
    """Answers requests for one release."""

    def __init__(self, live: LiveCatalogue, renderer: Renderer, settings: Settings) -> None:
        self._live = live
        self._renderer = renderer
        self._settings = settings
        self._assets = renderer.assets()
        self._rendered_of: Catalogue | None = None
        self._rendered: OrderedDict[object, bytes] = OrderedDict()

    async def answer(self, request: Request) -> Response:
        """Answer any request. Only files that the index names are served."""
        links = self._links(request)
        if links is None:
            return plain("The Host header names no host", 400)
        catalogue = await self._live.catalogue()
        path = request.path_params["path"]
        if path == "":
            filters = Filters.of(request.query_params)
            page = self._page("catalogue", views.catalogue_facts, catalogue, links, filters)
            return content(request, page, HTML)
        if path in self._assets:
            return content(request, self._assets[path], ASSETS[path])
        if path in catalogue.files:
            return content(request, catalogue.files[path], _TYPES[path.rpartition(".")[2]])
        model = catalogue.models.get("/".join(path.split("/")[1:-1]))
        if model and path == model.archive:
            return await archive(request, model, self._live.source)
        match catalogue.find(path):
            case Redirect() as moved:
                return self._moved(request, links, moved)
            case Model() as model:
                return await self._model(request, catalogue, links, model)
        return self._unknown(request, catalogue, links, path)

    async def _model(
        self, request: Request, catalogue: Catalogue, links: Links, model: Model
    ) -> Response:
        formats = request.query_params.getlist(FORMAT)
        if not formats:
            page = self._page("model", views.model_facts, catalogue, model, links)
            return content(request, page, HTML)
        if formats == ["compressed"]:
            return await archive(request, model, self._live.source)
        if formats != ["uncompressed"]:
            return plain(
                f"There is no {FORMAT} {shown(','.join(formats))}; there are compressed and"
                " uncompressed",
                400,
            )
        if self._settings.uncompressed is None:
            return plain(f"This hub has no unpacked models; ask for {FORMAT}=compressed", 404)
        # The path is in the body only: a browser cannot follow a gs:// address.
        base = self._settings.uncompressed.rstrip("/")
        answer = plain("", 303)
        answer.body = f"{base}/{model.entry.handle}".encode()
        answer.headers["Content-Length"] = str(len(answer.body))
        return answer

    def _moved(self, request: Request, links: Links, moved: Redirect) -> Response:
        query = request.scope["query_string"].decode("latin-1")
        tail = "?" + quote(query, safe="!$%&'()*+,/:;=?@[]~") if query else ""
        status, cache = (301, A_DAY) if moved.permanent else (302, REVALIDATE)
        return redirect(f"{links.root}{moved.path}{tail}", status, cache)

    def _unknown(self, request: Request, catalogue: Catalogue, links: Links, path: str) -> Response:
        near = catalogue.near(path)
        if "text/html" in request.headers.get("accept", ""):
            title, message = "Not found", f"There is nothing at {shown('/' + path)}."
            page = self._renderer.page(
                "error", views.error_facts(catalogue, links, title, message, near)
            )
            answer = Response(page, 404, media_type=HTML)
            answer.headers.update({"Cache-Control": REVALIDATE, "Vary": "Accept"})
            return answer
        hint = f"; near ones: {', '.join(near)}" if near else ""
        return plain(f"There is nothing at {shown('/' + path)}{hint}", 404, {"Vary": "Accept"})

    def _page(
        self,
        template: str,
        facts: Callable[..., Mapping[str, Any]],
        catalogue: Catalogue,
        *rest: Any,
    ) -> bytes:
        """Return a page, from the cache if it was rendered for this catalogue and request."""
        if catalogue is not self._rendered_of:
            self._rendered.clear()
            self._rendered_of = catalogue
        key = (template, *(one.entry.handle if isinstance(one, Model) else one for one in rest))
        page = self._rendered.get(key)
        if page is None:
            page = self._renderer.page(template, facts(catalogue, *rest))
        self._rendered[key] = page
        self._rendered.move_to_end(key)
        # Clients can invent any number of hosts and searches.
        if len(self._rendered) > KEPT:
            self._rendered.popitem(last=False)
        return page

    def _links(self, request: Request) -> Links | None:
        if self._settings.public:
            base = self._settings.public.rstrip("/")
            return Links(f"{urlsplit(base).path}/", "", base, base)
        root = request.scope.get("root_path", "").rstrip("/")
        server = request.scope.get("server") or ("localhost", None)
        host = request.headers.get("host") or ":".join(map(str, filter(None, server)))
        if not HOST.fullmatch(host):
            return None
        base = f"{request.url.scheme}://{host}{root}"
        return Links(f"{root}/", "", base, base)

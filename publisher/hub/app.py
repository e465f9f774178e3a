"""The hub as an ASGI application, for `publisher serve` and production servers."""

import logging
import os
import sys
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from publisher.errors import PublisherError
from publisher.hub.answers import SECURITY, plain
from publisher.hub.errors import HubError
from publisher.hub.live import LiveCatalogue
from publisher.hub.pages import Renderer
from publisher.hub.routes import Hub
from publisher.hub.settings import Settings
from publisher.release.sources.base import Source
from publisher.release.sources.open import open_source

logger = logging.getLogger("publisher.hub")


class _Secured:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY)
            await send(message)

        await self._app(scope, receive, secured)


async def _refused(request: Request, error: Exception) -> Response:
    """Answer a request that the framework refuses, such as an unsupported method."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = error.headers if isinstance(error, HTTPException) else None
    return plain(HTTPStatus(status).phrase, status, headers)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer in one line, and log the details, which clients must not see."""
    if isinstance(error, PublisherError):
        logger.error("%s", error)
    return plain("This cannot be served at the moment; the log says why", 500, SECURITY)


def application(
    source: Source, settings: Settings | None = None, renderer: Renderer | None = None
) -> Starlette:
    """Return the hub of a release. Raises `PublisherError` if it cannot be served."""
    hub = Hub(LiveCatalogue(source), renderer or Renderer(), settings or Settings())
    return Starlette(
        routes=[Route("/{path:path}", hub.answer, methods=["GET"])],
        middleware=[Middleware(_Secured)],
        exception_handlers={HTTPException: _refused, PublisherError: _failed, Exception: _failed},
    )


def from_environment() -> Starlette:
    """Return the hub that the environment describes, for a production server.

    `PUBLISHER_RELEASE` is the directory or address of the release. `PUBLISHER_PUBLIC_URL` and
    `PUBLISHER_UNCOMPRESSED` (`Settings`) and `PUBLISHER_TEMPLATES` (`Renderer`) are optional.
    An error is printed on one line and ends the process.
    """
    environment = os.environ
    try:
        where = environment.get("PUBLISHER_RELEASE")
        if not where:
            raise HubError("PUBLISHER_RELEASE is not set; set it to a release's path or address")
        settings = Settings(
            environment.get("PUBLISHER_PUBLIC_URL") or None,
            environment.get("PUBLISHER_UNCOMPRESSED") or None,
        )
        templates = environment.get("PUBLISHER_TEMPLATES")
        renderer = Renderer(Path(templates) if templates else None)
        return application(open_source(where, environment), settings, renderer)
    except PublisherError as error:
        sys.exit(f"error: {error}")

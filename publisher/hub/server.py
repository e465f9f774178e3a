"""One process that serves a hub, until Ctrl-C."""

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from publisher.hub.errors import HubError
from publisher.hub.protocol import LARGEST_HEADERS, ImpatientProtocol

CONNECTIONS = 512  # at once; more get 503
BACKLOG = 128
LAST_SECONDS = 3  # for answers that are on their way when it ends


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; port 0 means any free one.

    Raises `HubError` if the address is in use, or none of this machine.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
    except OSError as error:
        raise HubError(f"{host}: is no address ({error.strerror}); give another --host") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise HubError(
            f"{host}, port {port}: {error.strerror}; choose others with --host and --port"
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the http address that a socket listens at."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only this machine reaches a socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def configuration(app: ASGIApp) -> uvicorn.Config:
    """Return how uvicorn runs a hub: with limits, and with the logging that is set up."""
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        h11_max_incomplete_event_size=LARGEST_HEADERS,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=LAST_SECONDS,
    )


def run(app: ASGIApp, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; answers on their way get a moment to finish."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with contextlib.suppress(KeyboardInterrupt), listener:
        started()
        uvicorn.Server(configuration(app)).run(sockets=[listener])

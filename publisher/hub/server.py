"""Serves a hub in one process, until Ctrl-C."""

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from publisher.hub.errors import HubError
from publisher.hub.protocol import LARGEST_HEADERS, TimeoutProtocol

CONNECTIONS = 512  # at once; further requests get status 503
BACKLOG = 128
SHUTDOWN_SECONDS = 3  # for responses in progress at the end


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; port 0 selects a free port.

    Raises `HubError` if the address is in use or does not belong to this machine.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
    except OSError as error:
        raise HubError(
            f"{host}: is not an address ({error.strerror}); give another --host"
        ) from error
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
    """Return the http address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only this machine can reach a listening socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def configuration(app: ASGIApp) -> uvicorn.Config:
    """Return uvicorn's configuration for a hub: with limits, and with the existing logging."""
    return uvicorn.Config(
        app,
        http=TimeoutProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        h11_max_incomplete_event_size=LARGEST_HEADERS,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def run(app: ASGIApp, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, then give responses in progress a moment to finish."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with contextlib.suppress(KeyboardInterrupt), listener:
        started()
        uvicorn.Server(configuration(app)).run(sockets=[listener])

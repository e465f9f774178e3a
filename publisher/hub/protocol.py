"""Adds timeouts to uvicorn's HTTP/1.1 protocol.

uvicorn only closes idle connections. A client that sends its headers byte by byte, or requests an
archive and does not read it, would occupy a connection forever.
"""

import asyncio
import socket

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LARGEST_HEADERS = 16 * 1024  # bytes of a request before its body


class TimeoutProtocol(H11Protocol):
    """An HTTP/1.1 protocol with timeouts for receiving a request and for a stalled response."""

    request_seconds = 15.0
    reading_seconds = 60.0
    _request_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the first request."""
        super().connection_made(transport)
        _disable_nagle(transport)
        self._start_request_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the request timeout once a request is complete; start it for the next one."""
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._cancel_request_timer()
        elif self._request_timer is None:
            self._start_request_timer()

    def pause_writing(self) -> None:
        """Start the timeout for the client to read."""
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(self.reading_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the read timeout, because the client reads again."""
        super().resume_writing()
        self._cancel_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timeouts."""
        self._cancel_request_timer()
        self._cancel_read_timer()
        super().connection_lost(exc)

    def _start_request_timer(self) -> None:
        self._request_timer = self.loop.call_later(self.request_seconds, self._request_timed_out)

    def _request_timed_out(self) -> None:
        self._request_timer = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        self.transport.close()

    def _cancel_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _cancel_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None


def _disable_nagle(transport: asyncio.BaseTransport) -> None:
    """Disable Nagle's algorithm: it delays a body by 40 ms, until the client acknowledges the head.

    asyncio does so itself, but only for a socket that names its protocol. The sockets that uvicorn
    shares between workers do not.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

"""uvicorn's HTTP/1.1 protocol with timeouts.

uvicorn closes connections that are idle; one that sends its headers byte by byte, or that
asks for an archive and does not read it, would hold its place for ever.
"""

import asyncio
import socket

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LARGEST_HEADERS = 16 * 1024  # bytes of a request before its body


class ImpatientProtocol(H11Protocol):
    """Gives a client so many seconds for a request, and for each piece of an answer."""

    request_seconds = 15.0
    reading_seconds = 60.0
    _request: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        _send_at_once(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Go on waiting until a request is whole."""
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._expect_nothing()
        elif self._request is None:
            self._expect()

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        if self._reading is None:
            self._reading = self.loop.call_later(self.reading_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting: the client reads again."""
        super().resume_writing()
        self._stop_waiting_for_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._expect_nothing()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._request = self.loop.call_later(self.request_seconds, self._give_up)

    def _give_up(self) -> None:
        self._request = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        self.transport.close()

    def _expect_nothing(self) -> None:
        if self._request is not None:
            self._request.cancel()
            self._request = None

    def _stop_waiting_for_reader(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None


def _send_at_once(transport: asyncio.BaseTransport) -> None:
    """Let no body wait until the client has acknowledged the head, which takes 40 ms.

    asyncio sees to it only where a socket names its protocol, and one that uvicorn shares
    between workers does not.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

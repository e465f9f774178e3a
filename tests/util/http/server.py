"""A file server on loopback that misbehaves when told to."""

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

Answer = Callable[[Request], Response]


@dataclass
class FileServer:
    """Serves `content` at `url` with ranges; `answers` come first, one a request."""

    server: HTTPServer
    content: bytes
    path: str = "/distill/w.npz"
    etag: str | None = '"v1"'
    headers: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.expect_request(self.path).respond_with_handler(self._handle)

    @property
    def base(self) -> str:
        return self.server.url_for("/")

    @property
    def url(self) -> str:
        return self.server.url_for(self.path)

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of every request so far."""
        return [request.headers.get("Range") for request in self.requests]

    def _handle(self, request: Request) -> Response:
        self.requests.append(request)
        return self.answers.pop(0)(request) if self.answers else self.serve(request)

    def serve(self, request: Request) -> Response:
        """Answer as RFC 9110 says."""
        start = self.start_of(request)
        total = len(self.content)
        if start is None:
            return Response(self.content, 200, self.all_headers())
        if start >= total:
            return Response(b"", 416, {"Content-Range": f"bytes */{total}"})
        span = {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        return Response(self.content[start:], 206, self.all_headers() | span)

    def all_headers(self) -> dict[str, str]:
        return self.headers | ({"ETag": self.etag} if self.etag else {})

    def start_of(self, request: Request) -> int | None:
        wanted = request.headers.get("Range", "")
        if not wanted or request.headers.get("If-Range") != self.etag:
            return None
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def truncate(self, length: int) -> Answer:
        """Announce everything that was asked for, send `length` bytes, and close."""

        def answer(request: Request) -> Response:
            whole = self.serve(request)
            sent = whole.get_data()[:length]
            headers = dict(whole.headers) | {"Content-Length": str(len(whole.get_data()))}
            return Response(iter([sent]), whole.status_code, headers)

        return answer

    def reset(self, length: int) -> Answer:
        """Send `length` bytes and reset the connection."""

        def answer(request: Request) -> Response:
            connection: socket.socket = request.environ["werkzeug.socket"]

            def body() -> Iterator[bytes]:
                yield self.content[:length]
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise ConnectionError

            headers = self.all_headers() | {"Content-Length": str(len(self.content))}
            return Response(body(), 200, headers)

        return answer


def status(code: int, headers: dict[str, str] | None = None) -> Answer:
    return lambda _: Response(b"no", code, headers or {})

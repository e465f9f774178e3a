"""A proxy on loopback between a client and a server, in whose way things go wrong."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP = ("connection", "keep-alive", "transfer-encoding", "expect")
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Request:
    method: str
    target: str  # path and query
    headers: dict[str, str]  # names in small letters
    body: bytes = b""

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Kind = str | Answer | Callable[[Request], Answer | Request | None]


@dataclass
class Fault:
    """What goes wrong at requests whose method and path have `call` in them, as a pattern.

    It strikes `skip` of them later, `times` in a row. `kind` is an answer that is given
    without asking the server, or: `drop` (no answer, nothing done), `lose` (done, no answer),
    `cut` (half of the body goes on, no answer), `tear` (half of an answer), `stall` (no
    answer until the test ends), or a function that is called before the server is asked, and
    may return an answer or what to ask instead.
    """

    kind: Kind
    call: str = ""
    skip: int = 0
    times: int = 1


class FaultyProxy:
    """`requests` are all that came so far; `faults` are those to come."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            def __init__(self, *args: Any) -> None:
                self.proxy = proxy
                super().__init__(*args)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator["FaultyProxy"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()

    def add(self, kind: Kind, call: str = "", *, skip: int = 0, times: int = 1) -> Fault:
        self.faults.append(Fault(kind, call, skip, times))
        return self.faults[-1]

    def clear(self) -> None:
        """Forget requests and faults, and let go of what is held."""
        self.released.set()
        self.released = threading.Event()
        self.requests.clear()
        self.faults.clear()

    def writes(self) -> list[str]:
        """Return the requests that change something."""
        return [request.line for request in self.requests if request.method in WRITES]

    def kind_of(self, line: str) -> Kind | None:
        """Return what goes wrong at a request that just came."""
        with self._lock:
            for fault in self.faults:
                if not re.search(fault.call, line) or not fault.times:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault.kind
        return None

    def die_after(self, requests: int) -> None:
        """Answer so many requests, carry one more out, and then do nothing any more."""
        self.add("lose", skip=requests)
        self.add("drop", skip=requests, times=1 << 30)

    def answer(self, request: Request, *, whole: bool) -> Answer | None:
        """Return what is answered where nothing goes wrong; none if the connection breaks."""
        return self.forward(request) if whole else None

    def forward(self, request: Request, length: int | None = None) -> Answer:
        """Ask the server; `length` is what the request claims to have, if it has less."""
        there = urlsplit(self.upstream)
        connection = HTTPConnection(str(there.hostname), there.port, timeout=20)
        headers = {k: v for k, v in request.headers.items() if k not in HOP}
        headers["content-length"] = str(len(request.body) if length is None else length)
        try:
            connection.request(request.method, request.target, request.body, headers)
            if length is not None and connection.sock:
                connection.sock.shutdown(socket.SHUT_WR)
            response = connection.getresponse()
            return Answer(response.status, response.read(), dict(response.getheaders()))
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultyProxy

    def handle_one_request(self) -> None:
        with suppress(OSError, HTTPException):
            super().handle_one_request()
            return
        self.close_connection = True

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def log_message(self, *args: Any) -> None:
        pass

    def _pass_on(self) -> None:
        proxy, line = self.proxy, f"{self.command} {self.path}"
        kind = proxy.kind_of(line)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length // 2 if kind == "cut" else length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        proxy.requests.append(request)
        if kind == "cut":
            with suppress(OSError, HTTPException):
                proxy.forward(request, length)
        if kind == "stall":
            proxy.released.wait(30)
        if kind in ("cut", "drop", "stall"):
            self._drop()
            return
        answer = kind(request) if callable(kind) else kind
        if isinstance(answer, Request):
            request, answer = answer, None
        if not isinstance(answer, Answer):
            answer = proxy.answer(request, whole=len(body) == length)
        if kind == "lose" or answer is None:
            self._drop()
            return
        self._answer(answer, torn=kind == "tear")

    def _answer(self, answer: Answer, *, torn: bool) -> None:
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in HOP}
        self.send_response_only(answer.status)
        known = {name.lower() for name in headers}
        if "content-length" not in known:
            headers["Content-Length"] = str(len(answer.body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if torn else answer.body)
        if torn:
            self._drop()

    def _drop(self) -> None:
        """Close the connection, as a server does that dies."""
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

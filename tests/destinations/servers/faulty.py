"""Servers on loopback in whose way things go wrong, and whose state is recorded."""

import copy
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

HOP = ("connection", "keep-alive", "transfer-encoding", "expect")
WRITES = ("POST", "PUT", "PATCH", "DELETE")
ALWAYS = 1 << 30


@dataclass(frozen=True)
class Request:
    method: str
    target: str  # path and query
    headers: dict[str, str] = field(default_factory=dict)  # names in small letters
    body: bytes = b""

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def call(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization")

    def json(self) -> Any:
        return json.loads(self.body) if self.body else {}


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    known = {"Content-Type": "application/json", **(headers or {})}
    return Answer(status, json.dumps(content).encode(), known)


Kind = str | Answer | Callable[[Request], Answer | Request | None]


@dataclass
class Fault:
    """What goes wrong at requests whose method, path and query have `call` in them, a pattern.

    It strikes `skip` of them later, `times` in a row; `each` lets it strike every different
    request once. `kind` is an answer that is given without asking the server, a function that
    is called before it is asked and may return an answer or what to ask instead, or a word:
    `drop` (no answer, nothing done), `lose` (done, no answer), `cut` (half of the body
    arrives, no answer), `tear` (half of an answer), `stall` (no answer until the test ends).
    Other words are those of one server.
    """

    kind: Kind
    call: str = ""
    skip: int = 0
    times: int = 1
    each: bool = False
    struck: list[str] = field(default_factory=list)

    def strikes(self, line: str) -> bool:
        if not re.search(self.call, line) or not self.times or (self.each and line in self.struck):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        self.struck.append(line)
        return True


class FaultyServer:
    """`requests` are all that came so far; `faults` are those to come.

    The attributes in `STATE` are what the server holds. Calls that match `ASKING` only look
    like writing.
    """

    STATE: ClassVar[tuple[str, ...]] = ()
    ASKING = "^(GET|HEAD)"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.released = threading.Event()
        self.lock = threading.RLock()
        self._recorder: Callable[[Request], None] | None = None
        server = self

        class Handler(_Handler):
            def __init__(self, *args: Any) -> None:
                self.server_ = server
                super().__init__(*args)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # Two names of one place: secrets for the first must not reach the second.
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.localhost = f"http://localhost:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()

    def add(
        self,
        kind: Kind | int,
        call: str = "",
        *,
        message: str = "no",
        headers: dict[str, str] | None = None,
        **when: Any,
    ) -> Fault:
        """Let something go wrong; a status is refused with it, in the words of the service."""
        known = self.refusal(kind, message, headers or {}) if isinstance(kind, int) else kind
        self.faults.append(Fault(known, call, **when))
        return self.faults[-1]

    def refusal(self, status: int, message: str, headers: dict[str, str]) -> Answer:
        """Return a refusal in the words of the service."""
        return json_answer({"message": message}, status, headers)

    def clear(self) -> None:
        """Forget requests and faults, and let go of what is held."""
        self.released.set()
        self.released = threading.Event()
        self.requests.clear()
        self.faults.clear()

    @property
    def calls(self) -> list[str]:
        return [request.call for request in self.requests]

    @property
    def writes(self) -> list[str]:
        """Return the requests that could have changed something."""
        return [request.line for request in self.requests if self.is_write(request)]

    def is_write(self, request: Request) -> bool:
        return re.search(self.ASKING, request.call) is None

    @contextmanager
    def recorded(self, recorder: Callable[[Request], None]) -> Iterator[None]:
        """Call the recorder after each request that changed something, before its answer."""
        self._recorder = recorder
        try:
            yield
        finally:
            self._recorder = None

    def state(self) -> Any:
        """Return a copy of what is held."""
        return copy.deepcopy([getattr(self, name) for name in self.STATE])

    def restore(self, state: Any) -> None:
        for name, value in zip(self.STATE, copy.deepcopy(state), strict=True):
            setattr(self, name, value)

    def answer(self, request: Request, kind: str) -> Answer | None:
        """Return what is answered; none if the connection breaks. `kind` is a word or empty."""
        raise NotImplementedError

    def broken(self, request: Request, length: int) -> None:
        """Do what a request leaves that was to have `length` bytes, and has less."""

    def struck_by(self, line: str) -> Kind:
        """Return what goes wrong at a request that just came."""
        with self.lock:
            return next((fault.kind for fault in self.faults if fault.strikes(line)), "")

    def carry_out(self, request: Request, kind: str) -> Answer | None:
        with self.lock:
            answer = self.answer(request, kind)
            if self._recorder is not None and self.is_write(request):
                self._recorder(request)
        return answer


class FaultyProxy(FaultyServer):
    """Passes on what is asked to another server."""

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self.upstream = upstream

    def answer(self, request: Request, kind: str) -> Answer | None:
        return self.forward(request)

    def broken(self, request: Request, length: int) -> None:
        with suppress(OSError, HTTPException):
            self.forward(request, length)

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


class S3Proxy(FaultyProxy):
    def refusal(self, status: int, message: str, headers: dict[str, str]) -> Answer:
        body = f"<Error><Code>Refused</Code><Message>{message}</Message></Error>"
        return Answer(status, body.encode(), {"Content-Type": "application/xml", **headers})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_: FaultyServer

    def handle_one_request(self) -> None:
        with suppress(OSError, HTTPException):
            super().handle_one_request()
            return
        self.close_connection = True

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        server = self.server_
        length = int(self.headers.get("Content-Length") or 0)
        kind = server.struck_by(f"{self.command} {self.path}")
        body = self.rfile.read(length // 2 if kind == "cut" else length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        server.requests.append(request)
        if kind == "cut":
            with server.lock:
                server.broken(request, length)
        if kind == "stall":
            server.released.wait(30)
        if kind in ("cut", "drop", "stall"):
            self._drop()
            return
        answer = kind(request) if callable(kind) else kind
        if isinstance(answer, Request):
            request, answer = answer, None
        if not isinstance(answer, Answer):
            answer = server.carry_out(request, kind if isinstance(kind, str) else "")
        if kind == "lose" or answer is None:
            self._drop()
            return
        self._answer(answer, torn=kind == "tear")

    def _answer(self, answer: Answer, *, torn: bool) -> None:
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in HOP}
        # One byte more is announced than comes, where it is empty.
        torn = torn and answer.status not in (204, 304) and self.command != "HEAD"
        self.send_response_only(answer.status)
        if "content-length" not in {name.lower() for name in headers}:
            headers["Content-Length"] = str(len(answer.body) + (torn and not answer.body))
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

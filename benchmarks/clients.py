"""Lightweight HTTP clients. They share the server's machine, so they must use little of it."""

import http.client
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from hashlib import sha256
from urllib.parse import urlsplit

from benchmarks.measure import BenchmarkError

BLOCK = 1 << 18  # bytes that a client reads at a time
TIMEOUT = 120  # seconds


class RepeatedRequest:
    """A connection that repeats one request.

    All responses have the same length, so it only parses the first one.
    """

    def __init__(self, address: str, path: str, status: int, headers: Mapping[str, str]) -> None:
        host = urlsplit(address).netloc
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self._start = f"HTTP/1.1 {status} ".encode()
        self._socket = socket.create_connection(_host_and_port(address), TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._answer = memoryview(bytearray(self._first()))
        except BaseException:
            self.close()
            raise

    def ask(self) -> None:
        """Send the request and read the response. Raises `BenchmarkError` if its status differs."""
        self._socket.sendall(self._request)
        taken = 0
        while taken < len(self._answer):
            count = self._socket.recv_into(self._answer[taken:])
            if not count:
                raise BenchmarkError("the server closed the connection in an answer")
            taken += count
        self._check(bytes(self._answer[: len(self._start)]))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _first(self) -> int:
        """Send the first request; return the length of the response."""
        self._socket.sendall(self._request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, body = answer.partition(b"\r\n\r\n")
        self._check(head)
        fields = dict(line.lower().split(b":", 1) for line in head.splitlines()[1:])
        length = int(fields.get(b"content-length", b"0"))
        while len(body) < length:
            body += self._more()
        return len(head) + 4 + length

    def _more(self) -> bytes:
        some = self._socket.recv(BLOCK)
        if not some:
            raise BenchmarkError("the server closed the connection in an answer")
        return some

    def _check(self, answer: bytes) -> None:
        if not answer.startswith(self._start):
            words = answer.partition(b"\r\n")[0].decode(errors="replace")
            raise BenchmarkError(
                f"the server answers {words!r} where {self._start.decode().strip()} was expected"
            )


def rate(
    address: str,
    path: str,
    *,
    requests: int,
    connections: int,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> float:
    """Return the number of requests per second that the server answers."""

    def repeat(client: RepeatedRequest) -> None:
        for _ in range(requests // connections):
            client.ask()

    with ExitStack() as opened, ThreadPoolExecutor(connections) as pool:
        clients = [
            opened.enter_context(closing(RepeatedRequest(address, path, status, headers or {})))
            for _ in range(connections)
        ]
        begin = time.perf_counter()
        list(pool.map(repeat, clients))
        seconds = time.perf_counter() - begin
    return requests // connections * connections / seconds


def etag(address: str, path: str) -> str:
    """Return the entity tag of the resource at a path."""
    with closing(_connection(address)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.headers["ETag"]


def digest(address: str, path: str) -> str:
    """Return the SHA-256 of the resource at a path."""
    found = sha256()
    with closing(_connection(address)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        while block := answer.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def fetch_at_once(address: str, path: str, size: int, clients: int) -> float:
    """Return the seconds until all clients have fetched a file concurrently.

    Raises `BenchmarkError` if a client does not get exactly `size` bytes.
    """

    def fetch(_: int) -> None:
        block = bytearray(BLOCK)
        with closing(_connection(address)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            taken = 0
            while count := answer.readinto(block):
                taken += count
        if answer.status != 200 or taken != size:
            raise BenchmarkError(f"{path}: status {answer.status}, {taken} of {size} bytes came")

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(fetch, range(clients)))
    return time.perf_counter() - begin


def _connection(address: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(*_host_and_port(address), timeout=TIMEOUT)


def _host_and_port(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    if parts.hostname is None or parts.port is None:
        raise BenchmarkError(f"{address}: is not an address with a host and a port")
    return parts.hostname, parts.port

"""Clients of a server that cost little beside it, because they share its machine."""

import http.client
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from hashlib import sha256
from urllib.parse import urlsplit

from benchmarks.measure import BenchmarkError

BLOCK = 1 << 18  # bytes of an archive that a client takes at a time
PATIENCE = 120  # seconds


class Repeated:
    """One connection, on which one request is sent again and again.

    Its answers all have the same length, so that only the first has to be understood.
    """

    def __init__(self, address: str, path: str, status: int, headers: Mapping[str, str]) -> None:
        host = urlsplit(address).netloc
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self._start = f"HTTP/1.1 {status} ".encode()
        self._socket = socket.create_connection(_host_and_port(address), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._answer = memoryview(bytearray(self._first()))
        except BaseException:
            self.close()
            raise

    def ask(self) -> None:
        """Send the request and take the answer. Raises `BenchmarkError` if it is another one."""
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
        """Send the request for the first time, and return the length of the answer."""
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
    """Return how many requests a second are answered on so many connections at once."""

    def many(client: Repeated) -> None:
        for _ in range(requests // connections):
            client.ask()

    with ExitStack() as opened, ThreadPoolExecutor(connections) as pool:
        clients = [
            opened.enter_context(closing(Repeated(address, path, status, headers or {})))
            for _ in range(connections)
        ]
        begin = time.perf_counter()
        list(pool.map(many, clients))
        seconds = time.perf_counter() - begin
    return requests // connections * connections / seconds


def etag(address: str, path: str) -> str:
    """Return the entity tag of what is at a path."""
    with closing(_connection(address)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.headers["ETag"]


def digest(address: str, path: str) -> str:
    """Return the SHA-256 of what is at a path."""
    found = sha256()
    with closing(_connection(address)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        while block := answer.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def fetch_at_once(address: str, path: str, size: int, clients: int) -> float:
    """Return the seconds in which so many clients fetch a file of that size at once.

    Raises `BenchmarkError` if one of them gets less, or more.
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
    return http.client.HTTPConnection(*_host_and_port(address), timeout=PATIENCE)


def _host_and_port(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    if parts.hostname is None or parts.port is None:
        raise BenchmarkError(f"{address}: is no address with a host and a port")
    return parts.hostname, parts.port

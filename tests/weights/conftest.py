import socket
import threading
from collections.abc import Iterator

import pytest
from pytest_httpserver import HTTPServer

from publisher.weights import Retry


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, whatever the machine's settings are."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that were asked for, in seconds; none is really made."""
    return []


@pytest.fixture
def retry(pauses: list[float]) -> Retry:
    return Retry(
        attempts=4,
        first_pause=1.0,
        longest_pause=8.0,
        connect_timeout=5.0,
        read_timeout=5.0,
        sleep=pauses.append,
    )


@pytest.fixture
def closed_address() -> Iterator[str]:
    """An address on loopback where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/"


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """An event that a stalling handler waits for; it comes when the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(scope="session")
def running_server() -> Iterator[HTTPServer]:
    """One server for all tests, because stopping one takes half a second."""
    with HTTPServer(threaded=True) as running:
        yield running


@pytest.fixture
def server(running_server: HTTPServer) -> HTTPServer:
    """A server on loopback that answers requests side by side."""
    running_server.clear()
    return running_server

"""Servers on loopback, and retries whose pauses are only noted."""

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_httpserver import HTTPServer

from publisher.util.http import Retry

LOCALHOST = IPv4Address("127.0.0.1")


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
        connect_timeout=60.0,
        read_timeout=60.0,
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


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file, made for these tests alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(LOCALHOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("certificate") / "certificate.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="session")
def running_secure_server(certificate: Path) -> Iterator[HTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with HTTPServer(host=str(LOCALHOST), ssl_context=context, threaded=True) as running:
        yield running


@pytest.fixture
def secure_server(
    running_secure_server: HTTPServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> HTTPServer:
    """A server on loopback that answers over https, with a certificate that is trusted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    running_secure_server.clear()
    return running_secure_server

"""How a server starts, and how it ends: the command line, and production servers."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from publisher.cli.main import main
from publisher.hub.app import application
from publisher.hub.errors import HubError
from publisher.hub.protocol import TimeoutProtocol
from publisher.hub.server import address_of, bind, is_loopback
from publisher.release.sources.directory import DirectorySource
from tests.hub.html import cards, parsed
from tests.hub.releases import ask, served
from tests.releases import CLASSIFIER, tree

COMPRESSED = f"/{CLASSIFIER}?tf-hub-format=compressed"


@contextmanager
def process(*arguments: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python module, its output in one pipe."""
    started = subprocess.Popen(
        [sys.executable, "-u", "-m", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    with started:
        try:
            yield started
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)


def line_with(started: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Return the first match in what a process prints; it has to come."""
    assert started.stdout is not None
    seen = []
    for line in started.stdout:
        seen.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError("".join(seen))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that has to fail with one line, and return it."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_says_where_it_is_and_ends_when_it_is_told(
    release: Path, number: signal.Signals
) -> None:
    with process("publisher", "serve", "--release", release, "--port", "0") as started:
        base = line_with(started, r"is served at (http://127\.0\.0\.1:[0-9]+)/")[1]
        assert ask(base, COMPRESSED).status == 200
        started.send_signal(number)
        rest, _ = started.communicate(timeout=60)
    assert started.returncode == (0 if number == signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in rest
    assert "warning" not in rest


def test_a_server_ends_though_a_client_is_still_there(release: Path) -> None:
    with process("publisher", "serve", "--release", release, "--port", "0", "--quiet") as started:
        base = line_with(started, r"is served at (http://[0-9.:]+)/")[1]
        host, port = base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(10)
            started.send_signal(signal.SIGINT)
            rest, _ = started.communicate(timeout=60)
    assert (started.returncode, rest) == (0, "")


def test_a_port_in_use_is_refused(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        line = refused(capsys, "serve", "--release", release, "--port", str(port))
    assert line == (
        f"error: 127.0.0.1, port {port}: Address already in use; choose others with --host and"
        " --port"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "not a host"])
def test_an_address_that_is_not_this_machines_is_refused(
    release: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert "--host" in refused(capsys, "serve", "--release", release, "--host", host, "--port", "0")


@pytest.mark.parametrize("command", [["serve"], ["site", "--output", "out"]])
def test_what_is_no_release_is_refused_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "nowhere: there is no such directory" in refused(
        capsys, *command, "--release", "nowhere"
    )
    line = refused(capsys, *command, "--release", "empty")
    assert "empty/index.json: No such file or directory; publish again" in line
    assert not (tmp_path / "out").exists()


def test_only_loopback_is_for_this_machine_alone() -> None:
    with bind("127.0.0.1", 0) as here:
        assert is_loopback(here)
        assert address_of(here) == f"http://127.0.0.1:{here.getsockname()[1]}/"
    with bind("0.0.0.0", 0) as everywhere:
        assert not is_loopback(everywhere)
    with bind("localhost", 0) as named:
        assert is_loopback(named)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_is_written_in_brackets() -> None:
    try:
        listener = bind("::1", 0)
    except HubError as error:
        pytest.skip(str(error))
    with listener:
        assert is_loopback(listener)
        assert address_of(listener) == f"http://[::1]:{listener.getsockname()[1]}/"


def test_another_address_than_loopback_brings_a_warning(release: Path) -> None:
    with process(
        "publisher", "serve", "--release", release, "--host", "0.0.0.0", "--port", "0"
    ) as started:
        line_with(started, r"warning: 0\.0\.0\.0 is reachable from other machines")
        base = line_with(started, r"is served at (http://0\.0\.0\.0:[0-9]+)/")[1]
        assert ask(base.replace("0.0.0.0", "127.0.0.1"), "/").status == 200
        started.send_signal(signal.SIGINT)


def test_serving_never_imports_tensorflow(release: Path) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from publisher.hub.app import application; import publisher.hub.server;"
        "from publisher.release.sources.open import open_source;"
        "from publisher.hub import site;"
        f"application(open_source({str(release)!r}, {{}}));"
        "sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_several_workers_serve_one_release(release: Path) -> None:
    with process(
        "uvicorn",
        "--factory",
        "publisher.hub.app:from_environment",
        "--http",
        "publisher.hub.protocol:TimeoutProtocol",
        "--workers",
        "2",
        "--port",
        "0",
        PUBLISHER_RELEASE=str(release),
        PUBLISHER_PUBLIC_URL="https://hub.example",
        PUBLISHER_UNCOMPRESSED="gs://bucket/unpacked",
    ) as started:
        base = line_with(started, r"running on (http://127\.0\.0\.1:[0-9]+)")[1]
        # It tells its address before it listens.
        wait = Retrying(
            retry=retry_if_exception_type(ConnectionRefusedError),
            stop=stop_after_delay(60),
            wait=wait_fixed(0.05),
        )
        wait(ask, base, "/")
        for _ in range(4):
            assert ask(base, COMPRESSED).status == 200
            page = parsed(ask(base, "/").text)
            assert len(cards(page)) == 3
        assert f'hub.load("https://hub.example/{CLASSIFIER}")' in "".join(page.itertext())
        answer = ask(base, f"/{CLASSIFIER}?tf-hub-format=uncompressed")
        assert answer.text == f"gs://bucket/unpacked/{CLASSIFIER}"
        started.send_signal(signal.SIGTERM)
        rest, _ = started.communicate(timeout=60)
    assert "Traceback" not in rest


def test_an_answer_is_not_held_back_for_an_acknowledgement(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = []

    class Watched(TimeoutProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connection = transport.get_extra_info("socket")
            options.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def as_workers_share_it(host: str, port: int) -> socket.socket:
        listener = socket.socket()
        listener.bind((host, port))
        listener.listen()
        return listener

    monkeypatch.setattr("tests.hub.releases.bind", as_workers_share_it)
    with served(application(DirectorySource(release)), http=Watched) as base:
        assert ask(base, "/").status == 200
    assert [bool(option) for option in options] == [True]


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({}, "PUBLISHER_RELEASE is not set"),
        ({"PUBLISHER_RELEASE": "nowhere"}, "nowhere: there is no such directory"),
        ({"PUBLISHER_PUBLIC_URL": "hub"}, "hub: not an address"),
        ({"PUBLISHER_UNCOMPRESSED": "/srv"}, "/srv: not a storage path"),
    ],
)
def test_a_production_server_says_in_a_line_what_is_missing(
    release: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    complaint: str,
) -> None:
    from publisher.hub.app import from_environment

    monkeypatch.delenv("PUBLISHER_RELEASE", raising=False)
    if environment and "PUBLISHER_RELEASE" not in environment:
        monkeypatch.setenv("PUBLISHER_RELEASE", str(release))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        from_environment()
    assert str(stopped.value.code).startswith(f"error: {complaint}")
    assert len(str(stopped.value.code).splitlines()) == 1


def test_the_command_writes_a_site(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        main(["site", "--release", str(release), "--output", str(output)])
    assert stopped.value.code == 0
    files = len(tree(output))
    assert capsys.readouterr().out == f"{output}: {files} files, 3 models\n"
    with pytest.raises(SystemExit):
        main(["site", "--release", str(release), "--output", str(output), "--quiet"])
    assert capsys.readouterr().out == ""

"""Releases to serve, a real server for them, and a client that sends what it is told."""

import http.client
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from publisher.destinations.local.directory import Directory
from publisher.hub.app import application
from publisher.hub.server import address_of, bind, configuration
from publisher.hub.settings import Settings
from publisher.release.sources.directory import DirectorySource
from tests.releases import build, edited, publish, registry_of

FIGURES = (
    "training: Made up.\n",
    "training: Made up.\n"
    "    reported:\n"
    "      - {metric: ImageNet-1k top-1, value: 80.5, source: somebody,"
    " url: 'https://example.org/a'}\n"
    "      - {metric: ImageNet-1k top-1, value: 81.25, source: timm, url: 'https://example.org/b'}\n"
    "      - {metric: speed, value: 7, source: somebody, url: 'https://example.org/c'}\n",
)


def publish_into(root: Path, work: Path, *edits: tuple[str, str], **facts: Any) -> Path:
    """Publish the small registry, edited, into a release directory."""
    registry = registry_of(work, edited(FIGURES, *edits))
    built = build(registry, work / "build", **facts)
    directory = Directory(root)
    with directory.locked():
        outcomes = publish(registry, built, directory)
    assert all(outcome.status != "changed" for outcome in outcomes), outcomes
    return root


def edit_json(path: Path, change: Any) -> None:
    """Change a JSON file in place, as somebody with an editor would."""
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


def resize(root: Path, handle: str, size: int) -> None:
    """Let a version have an archive of that size, which takes no room on the disk."""

    def change(facts: dict[str, Any]) -> None:
        facts["archive"]["size"] = size

    folder = root / "models" / handle
    # The build has links to the files of a release.
    (folder / "model.tar.gz").unlink()
    (folder / "model.tar.gz").touch()
    os.truncate(folder / "model.tar.gz", size)
    edit_json(folder / "manifest.json", change)
    edit_json(
        root / "index.json",
        lambda index: [change(model) for model in index["models"] if model["handle"] == handle],
    )


@contextmanager
def served(app: ASGIApp | Path, **options: Any) -> Iterator[str]:
    """Serve an application, or a release directory, and give its address without a slash."""
    if isinstance(app, Path):
        app = application(DirectorySource(app), Settings(**options))
        options = {}
    listener = bind("127.0.0.1", 0)
    config = configuration(app)
    for name, value in options.items():
        setattr(config, name, value)
    server = uvicorn.Server(config)
    # Connections wait in the listener's queue until the server takes them.
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield address_of(listener).rstrip("/")
    finally:
        server.should_exit = True
        thread.join()


@dataclass(frozen=True)
class Answer:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(base: str, path: str, method: str = "GET", /, **headers: str) -> Answer:
    """Send one request as it is: no path is tidied up, and no redirect followed.

    Headers are given as arguments: `if_none_match="*"`.
    """
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=60)
    try:
        connection.putrequest(method, path, skip_host="host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, body)

"""A small release with the names of the real one, served by the hub and as files, and Chromium."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from publisher.hub.pages import Renderer
from publisher.hub.site import site_files, write_site
from publisher.release.catalogue import load
from publisher.release.sources.directory import DirectorySource
from tests.browser.chromium import Browser, elsewhere, started
from tests.browser.names import CLASSIFIER, EXTRACTOR, TEACHER, Place
from tests.hub.releases import edit_json, publish_into, resize, served

SOURCE = "url: 'https://example.org/a'"
EDITS = (
    ("sayakpaul/small_classification/1", CLASSIFIER),
    ("sayakpaul/small_features/1", EXTRACTOR),
    ("sayakpaul/other_classification/1", TEACHER),
    ("architecture: R20x0.5\n    classes: 3\n", "architecture: R50x1\n    classes: 3\n"),
    ("architecture: R20x0.5\n    classes: 5\n", "architecture: R152x2\n    classes: 5\n"),
    ("resolution: 64\n", "resolution: 224\n"),
    ("resolution: 32\n", "resolution: 384\n"),
    (
        "training: Made up as well.\n",
        "training: Made up as well.\n    reported:\n"
        f"      - {{metric: ImageNet-1k top-1, value: 84.3, source: somebody, {SOURCE}}}\n",
    ),
)
PICTURES = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models, one of them not synthetic and for prediction only. Not to be changed."""
    folder = tmp_path_factory.mktemp("browser")
    root = publish_into(folder / "release", folder / "1", *EDITS, only="152x2", synthetic=False)
    publish_into(root, folder / "2", *EDITS, only="50x1")
    for handle, size in ((TEACHER, 868_200_000), (CLASSIFIER, 94_000_000), (EXTRACTOR, 86_000_000)):
        resize(root, handle, size)
    edit_json(
        root / "models" / TEACHER / "manifest.json",
        lambda manifest: manifest.update(weight_standardization="folded"),
    )
    return root


@pytest.fixture(scope="session")
def hub(release: Path) -> Iterator[Place]:
    """The hub."""
    with served(release) as base:
        yield Place(base, "", f"{base}/{{handle}}")


@pytest.fixture(scope="session")
def site(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The same release as files, on a web host that knows nothing of models."""
    folder = tmp_path_factory.mktemp("site") / "out"
    archives = "https://models.example"
    write_site(site_files(load(DirectorySource(release)), Renderer(), None, archives), folder)
    with files_served(folder) as base:
        yield Place(base, "/index.html", f"{archives}/models/{{handle}}/model.tar.gz")


@pytest.fixture(params=["hub", "site"])
def place(request: pytest.FixtureRequest) -> Place:
    """Both, one after the other."""
    found: Place = request.getfixturevalue(request.param)
    return found


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve a folder as any web host does, and give its address without a slash."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as it:
        thread = threading.Thread(target=it.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{it.server_port}"
        finally:
            it.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One Chromium for all tests."""
    try:
        with started() as browser:
            yield browser
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """Chromium, for a test in which no page may complain, or ask another machine for anything."""
    chromium.open("about:blank")
    chromium.complaints(), chromium.requested()
    yield chromium
    assert chromium.complaints() == []
    assert elsewhere(chromium.requested()) == []


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """Where pictures of the pages go, for people to look at."""
    folder = tmp_path_factory.mktemp("pictures")
    pytestconfig.stash[PICTURES] = folder
    return folder


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where the pictures are."""
    if PICTURES in config.stash:
        terminalreporter.write_line(f"pictures of the pages: {config.stash[PICTURES]}")

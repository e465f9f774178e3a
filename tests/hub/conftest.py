"""One release and one server for all tests that only read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.releases import publish_into, served


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of three models, one version each, with synthetic weights. Not to be changed."""
    folder = tmp_path_factory.mktemp("hub")
    return publish_into(folder / "release", folder / "work")


@pytest.fixture(scope="session")
def hub(release: Path) -> Iterator[str]:
    """The address of a server for it."""
    with served(release) as base:
        yield base


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The same release, for one test alone."""
    return publish_into(tmp_path / "release", tmp_path / "work")

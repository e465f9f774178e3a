"""Fixtures of neighbours that the tests of a release need, too."""

import pytest

from publisher.release.sources.base import READING
from tests.hub.conftest import own, release
from tests.util.http.conftest import certificate, running_secure_server, secure_server
from tests.verify.conftest import silent_host

__all__ = [
    "certificate",
    "own",
    "release",
    "running_secure_server",
    "secure_server",
    "silent_host",
]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried at once."""
    monkeypatch.setitem(vars(READING), "sleep", lambda _: None)

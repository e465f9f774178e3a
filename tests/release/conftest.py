"""Fixtures of neighbours that the tests of a release need, too."""

from tests.hub.conftest import own, release
from tests.verify.conftest import silent_host

__all__ = ["own", "release", "silent_host"]

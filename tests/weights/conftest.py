"""Fixtures of the tests of HTTP, which weights come by."""

from tests.util.http.conftest import (
    closed_address,
    no_proxy,
    pauses,
    released,
    retry,
    running_server,
    server,
)

__all__ = ["closed_address", "no_proxy", "pauses", "released", "retry", "running_server", "server"]

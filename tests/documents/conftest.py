"""Fixtures of neighbours that the tests of documents need, too."""

from tests.signing.conftest import keys

__all__ = ["keys"]

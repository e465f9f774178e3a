"""Fetches, verifies and reads weight files.

    source = parse_source(None, upstream)           # or a directory, an address, "synthetic"
    fetched = fetch(source, "distill/R50x1_224.npz", expected, cache=..., lock_file=...,
                    locked=True, warn=print)
    arrays = open_npz(fetched.path)                 # mapped, read-only, never unpickled
    figures = check_weights(arrays, expected, "R50x1_224")

`expected` maps the names of an architecture's arrays to their shapes. Every failure is a
`WeightsError` whose message says what to do, or a `DocumentError` about the lock.
"""

from typing import TYPE_CHECKING, Any

from publisher.documents.lock import Digest, read_lock
from publisher.util.http import Retry
from publisher.weights.digest import digest_file
from publisher.weights.download import download
from publisher.weights.errors import UnreachableError, WeightsError
from publisher.weights.lock import record
from publisher.weights.source import Fetched, Source, fetch, parse_source

if TYPE_CHECKING:
    from publisher.weights.check import WeightsFigures, check_weights
    from publisher.weights.npz import Arrays, open_npz
    from publisher.weights.synthetic import SEED, is_synthetic, synthetic_array, write_synthetic

# Loaded on first use: a run with nothing to do should not wait for NumPy's import.
_WITH_NUMPY = {
    "WeightsFigures": "check",
    "check_weights": "check",
    "Arrays": "npz",
    "open_npz": "npz",
    "SEED": "synthetic",
    "is_synthetic": "synthetic",
    "synthetic_array": "synthetic",
    "write_synthetic": "synthetic",
}

__all__ = [
    "SEED",
    "Arrays",
    "Digest",
    "Fetched",
    "Retry",
    "Source",
    "UnreachableError",
    "WeightsError",
    "WeightsFigures",
    "check_weights",
    "digest_file",
    "download",
    "fetch",
    "is_synthetic",
    "open_npz",
    "parse_source",
    "read_lock",
    "record",
    "synthetic_array",
    "write_synthetic",
]


def __getattr__(name: str) -> Any:
    if name not in _WITH_NUMPY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_WITH_NUMPY[name]}"), name)

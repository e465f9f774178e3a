"""Settings from the command line. This module imports nothing expensive."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VerifySettings:
    """What `verify` checks, and how thoroughly.

    `model` is an archive, a handle, or the address of either; None means the whole release.
    Everything has to be signed with `key`, or by `identity`, for whom `issuer` vouches.
    `weights` is the source of weights for `rebuild`.
    """

    model: str | None
    release: str
    rebuild: bool = False
    cross_check: bool = False
    weights: str | None = None
    key: Path | None = None
    identity: str | None = None
    issuer: str | None = None

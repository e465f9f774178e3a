"""What a person asked to have proved. Importing it costs nothing."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VerifySettings:
    """What `verify` looks at, and how closely.

    `model` is an archive, its address, a handle, or its address; None means the whole release.
    Everything has to be signed with `key`, or by `identity`, for whom `issuer` vouches.
    `weights` is what `rebuild` starts from.
    """

    model: str | None
    release: str
    rebuild: bool = False
    cross_check: bool = False
    weights: str | None = None
    key: Path | None = None
    identity: str | None = None
    issuer: str | None = None

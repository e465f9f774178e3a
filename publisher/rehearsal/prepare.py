"""The registry, the destinations and the key that a rehearsal is given.

All destinations are folders of this machine, so that nothing leaves it; what each service
makes of a release is for the tests of its destination.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.small import content_of, with_stand_ins, write_registry
from publisher.util.files import write_whole

DIRECTORY, DOCUMENTATION = "directory", "tfhub"  # kinds of destinations
REHEARSED = "rehearsed"  # the one that there is where models.yaml has none


def write_stage(
    registry: Path, work: Path, names: Sequence[str], *, small: bool
) -> Mapping[str, Path]:
    """Write the registry that every checkout gets; return the destinations that were named.

    They are folders in `work`, and those of `models.yaml` if no name is given. Raises
    `RehearsalError` for a name that is not there.
    """
    content = content_of(registry)
    if small:
        content = with_stand_ins(content)
    listed: Mapping[str, Any] = content.get("destinations") or {REHEARSED: {"kind": DIRECTORY}}
    for name in names:
        if name not in listed:
            raise RehearsalError(
                f"{name!r} is no destination in {registry}; there are: {', '.join(listed)}"
            )
    folders = {name: work / "destinations" / name for name in listed}
    content["destinations"] = {name: _local(listed[name], to) for name, to in folders.items()}
    write_registry(content, work / "overlay/models.yaml")
    return {name: folders[name] for name in names or listed}


def _local(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a destination that is a folder instead, with the same choice of variants."""
    kind = DOCUMENTATION if entry["kind"] == DOCUMENTATION else DIRECTORY
    if kind == DOCUMENTATION:
        (folder / "assets/docs").mkdir(parents=True, exist_ok=True)
    only = {"only": entry["only"]} if entry.get("only") else {}
    return {"kind": kind, "to": str(folder), **only}


def throw_away_key(path: Path) -> Path:
    """Return a private key that nobody needs to keep; it is made if it is not there."""
    if not path.exists():
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        content = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_whole(path, content)
        path.chmod(0o600)
    return path

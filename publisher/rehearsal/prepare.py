"""Prepares a rehearsal: its registry, its destinations and its signing key.

All destinations are local folders, so nothing leaves the machine. The tests of each destination
cover how its service handles a release.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.small import content_of, with_stand_ins, write_registry
from publisher.util.files import write_whole

DIRECTORY, DOCUMENTATION = "directory", "tfhub"  # kinds of destinations
REHEARSED = "rehearsed"  # the destination of a registry that has none


def prepare_registry(
    registry: Path, work: Path, names: Sequence[str], *, small: bool
) -> Mapping[str, Path]:
    """Write the registry for all checkouts, with local destinations; return the named ones.

    Returns each destination's folder in `work` by name; all destinations if `names` is empty.
    Raises `RehearsalError` for a name that the registry does not have.
    """
    content = content_of(registry)
    if small:
        content = with_stand_ins(content)
    listed: Mapping[str, Any] = content.get("destinations") or {REHEARSED: {"kind": DIRECTORY}}
    for name in names:
        if name not in listed:
            raise RehearsalError(
                f"{name!r} is not a destination in {registry}; it has: {', '.join(listed)}"
            )
    folders = {name: work / "destinations" / name for name in listed}
    content["destinations"] = {name: _local(listed[name], to) for name, to in folders.items()}
    write_registry(content, work / "overlay/models.yaml")
    return {name: folders[name] for name in names or listed}


def _local(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a destination for a local folder, with the same selection of variants."""
    kind = DOCUMENTATION if entry["kind"] == DOCUMENTATION else DIRECTORY
    if kind == DOCUMENTATION:
        (folder / "assets/docs").mkdir(parents=True, exist_ok=True)
    only = {"only": entry["only"]} if entry.get("only") else {}
    return {"kind": kind, "to": str(folder), **only}


def throwaway_key(path: Path) -> Path:
    """Return the path of a private key for this rehearsal only; create it if it does not exist."""
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

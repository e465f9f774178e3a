"""A log of the writes to a destination, for people. No decision depends on it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from publisher.destinations.base import DestinationError

FILE = "journal.jsonl"


def journal(folder: Path) -> Callable[[str, str, str], None]:
    """Return a function that appends an action, its object and a SHA-256 to the journal.

    That function raises `DestinationError` if it cannot write to `folder`.
    """
    path = folder / FILE

    def note(did: str, what: str, digest: str) -> None:
        line = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "did": did,
            "what": what,
            **({"sha256": digest} if digest else {}),
        }
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise DestinationError(
                f"{path}: cannot be written ({error.strerror}); check free space and permissions"
            ) from error

    return note

"""What was done at a destination, kept line by line.

It is for people. What a destination holds is asked of the destination itself.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from publisher.destinations.base import DestinationError

FILE = "journal.jsonl"


def journal(folder: Path) -> Callable[[str, str, str], None]:
    """Return what adds a line to the journal in `folder`: what was done, to what, its SHA-256.

    Raises `DestinationError` where it cannot be written.
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
                f"{path}: cannot be written ({error.strerror}); see to space and permissions"
            ) from error

    return note

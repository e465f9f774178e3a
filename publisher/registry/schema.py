"""`models.schema.json`, by which an editor completes and checks `models.yaml`.

    python -m publisher.registry.schema [file]

writes it; without an argument into the current folder.
"""

import sys
from pathlib import Path

from publisher.documents.schema import schema_of
from publisher.registry.models import Registry
from publisher.util.files import write_whole

FILE = "models.schema.json"


def schema_json() -> bytes:
    """Return the JSON schema of `models.yaml`, the same bytes for the same models."""
    return schema_of(Registry)


if __name__ == "__main__":
    write_whole(Path(sys.argv[1] if len(sys.argv) > 1 else FILE), schema_json())

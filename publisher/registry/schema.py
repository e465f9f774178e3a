"""`models.schema.json`, with which editors complete and check `models.yaml`.

    python -m publisher.registry.schema [file]

writes it to the file, or to the current folder.
"""

import sys
from pathlib import Path

from publisher.documents.schema import schema_of
from publisher.registry.models import Registry
from publisher.util.files import write_whole

FILE = "models.schema.json"


def schema_json() -> bytes:
    """Return the JSON schema of `models.yaml`; equal models give equal bytes."""
    return schema_of(Registry)


if __name__ == "__main__":
    write_whole(Path(sys.argv[1] if len(sys.argv) > 1 else FILE), schema_json())

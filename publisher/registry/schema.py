"""`models.schema.json`, by which an editor completes and checks `models.yaml`.

    python -m publisher.registry.schema [file]

writes it; without an argument into the current folder.
"""

import sys
from pathlib import Path

from publisher.registry.models import Registry
from publisher.util.files import json_bytes, write_whole

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE = "models.schema.json"


def schema_json() -> bytes:
    """Return the JSON schema of `models.yaml`, the same bytes for the same models."""
    return json_bytes({"$schema": DIALECT, **Registry.model_json_schema()})


if __name__ == "__main__":
    write_whole(Path(sys.argv[1] if len(sys.argv) > 1 else FILE), schema_json())

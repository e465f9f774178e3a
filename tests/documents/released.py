"""Documents as this program wrote them before they had types, and edits of them.

`released/` is never written anew: what was published stays as it is.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "released"
INDEX = (FOLDER / "index.json").read_bytes()
MANIFEST = (FOLDER / "manifest.json").read_bytes()
PLAN = (FOLDER / "plan.json").read_bytes()
RECORD = (FOLDER / "record.json").read_bytes()
LOCK = (FOLDER / "models.lock.yaml").read_bytes()

Edit = Callable[[Any], object]


def edited(content: bytes, edit: Edit) -> bytes:
    """Return a JSON document after an edit."""
    document = json.loads(content)
    edit(document)
    return json.dumps(document).encode()

"""What the distribution brings besides code: page templates, and lists of class names.

In the repository they lie in `templates/` and `data/`, beside the package; a wheel has both
folders inside the package (`setup.py`).
"""

from pathlib import Path

import publisher

TEMPLATES, DATA = "templates", "data"


def distributed(name: str) -> Path:
    """Return where the distribution has a file or a folder, such as `templates` or `data/x.txt`.

    `name` is relative to the top of the repository. Whether it is there is for the caller to see.
    """
    package = Path(publisher.__file__).parent
    installed = (package / TEMPLATES).is_dir()
    return (package if installed else package.parent) / name

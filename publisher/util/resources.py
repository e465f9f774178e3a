"""The distribution's data files: page templates and lists of class names.

The repository has them in `templates/` and `data/`, beside the package; a wheel has both
folders inside the package (`setup.py`).
"""

from pathlib import Path

import publisher

TEMPLATES, DATA = "templates", "data"


def distributed(name: str) -> Path:
    """Return the path of a file or folder of the distribution, which may not exist.

    `name` is relative to the root of the repository: `templates`, `data/x.txt`.
    """
    package = Path(publisher.__file__).parent
    installed = (package / TEMPLATES).is_dir()
    return (package if installed else package.parent) / name

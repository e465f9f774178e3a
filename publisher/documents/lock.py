"""`models.lock.yaml`: the size and SHA-256 of each checkpoint when it was first fetched.

Upstream publishes no digests, so the first fetch is trusted and recorded; every
later one must match.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from pydantic import ConfigDict, RootModel

from publisher.documents.document import Part
from publisher.documents.errors import DocumentError
from publisher.documents.fields import Count, Sha256

HEADER = """\
# The size and SHA-256 of every checkpoint, as it was when it was first fetched.
# A checkpoint that no longer matches is refused. Written by the publisher: commit it,
# and edit it only to remove the entry of a file that upstream really replaced.

"""
_REMEDY = (
    "Each entry reads 'path: {size: <bytes>, sha256: <64 hexadecimal digits>}'; "
    "bring the file back from version control, or remove the entry and fetch again."
)


class Digest(Part):
    """The size of a weight file in bytes, and its SHA-256."""

    model_config = ConfigDict(extra="forbid")

    size: Count
    sha256: Sha256

    def __str__(self) -> str:
        """Return both, for messages."""
        return f"{self.size} bytes, sha256 {self.sha256}"


class Lock(RootModel[dict[str, Digest]]):
    """The digest of each checkpoint, by its path below the source of weights."""

    model_config = ConfigDict(defer_build=True)


def read_lock(path: Path) -> dict[str, Digest]:
    """Return the recorded digests by checkpoint path; none if there is no file.

    Raises `DocumentError`, with file and line, if the file is malformed.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path}: cannot be read ({error}). {_REMEDY}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DocumentError(f"{path}:{line}: not YAML ({error.problem}). {_REMEDY}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise DocumentError(f"{path}:1: not YAML ({reason}). {_REMEDY}") from None
    if root is None:
        return {}
    digests: dict[str, Digest] = {}
    for key, node in _entries(path, root, "the file"):
        if key in digests:
            raise _malformed(path, node, f"{key} is there twice")
        digests[key] = _digest(path, key, node)
    return digests


def _malformed(path: Path, node: yaml.Node, problem: str) -> DocumentError:
    return DocumentError(f"{path}:{node.start_mark.line + 1}: {problem}. {_REMEDY}")


def _entries(path: Path, node: yaml.Node, what: str) -> Iterator[tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise _malformed(path, node, f"{what} is not a mapping")
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _malformed(path, key, f"{what} has a key that is not text")
        yield key.value, value


def _digest(path: Path, checkpoint_path: str, node: yaml.Node) -> Digest:
    fields: dict[str, str] = {}
    for key, value in _entries(path, node, checkpoint_path):
        if key not in ("size", "sha256") or key in fields or not isinstance(value, yaml.ScalarNode):
            raise _malformed(path, value, f"{checkpoint_path} has a wrong entry {key!r}")
        fields[key] = value.value
    # Checked as text: YAML would read a digest without letters as a number.
    if not re.fullmatch(r"[0-9]{1,15}", fields.get("size", "")):
        raise _malformed(path, node, f"{checkpoint_path} has no size in bytes")
    if not re.fullmatch(r"[0-9a-f]{64}", fields.get("sha256", "")):
        raise _malformed(path, node, f"{checkpoint_path} has no sha256 of 64 lower-case digits")
    return Digest(size=int(fields["size"]), sha256=fields["sha256"])


def lock_bytes(digests: Mapping[str, Digest]) -> bytes:
    """Return the content of a lock file with these digests, by checkpoint path."""
    content = yaml.safe_dump(
        {name: digests[name].as_json() for name in sorted(digests)},
        sort_keys=False,
        allow_unicode=True,
        width=1000,
    )
    return (HEADER + content).encode()

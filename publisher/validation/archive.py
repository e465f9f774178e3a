"""Whether a packed archive may be unpacked at all. Imports no TensorFlow."""

import re
import tarfile
from pathlib import Path, PurePosixPath

from publisher.validation.report import Check

REQUIRED = ("saved_model.pb", "variables/variables.index")

# What a SavedModel is made of (https://www.tensorflow.org/guide/saved_model) and how its
# members are named in an archive (https://www.tensorflow.org/hub/model_formats).
_FILE = re.compile(
    r"saved_model\.pb|fingerprint\.pb|variables/variables\.(index|data-\d+-of-\d+)"
    r"|assets(\.extra)?(/\w[\w.-]*)+",
    re.ASCII,
)
_FOLDER = re.compile(r"variables|assets(\.extra)?(/\w[\w.-]*)*", re.ASCII)


def archive_is_a_plain_saved_model(archive: Path) -> Check:
    """Read the archive as a stream, the way `tensorflow_hub` does, and judge its members.

    Only files and folders of a SavedModel may be there, each once, each under a relative
    name without `..` whose parts start with a word character (no `._` files), and each in
    a folder that came before it, since the client makes no others. Nothing is written.
    """
    name = "archive_is_a_plain_saved_model"
    seen: set[str] = set()
    findings: list[str] = []
    unpacked = 0
    try:
        with tarfile.open(archive, "r|*") as stream:
            for member in stream:
                problem = _problem(member, seen)
                if problem:
                    findings.append(f"{member.name!r} {problem}")
                seen.add(member.name)
                unpacked += member.size
    except (tarfile.TarError, EOFError, OSError) as error:
        return Check(name, "failed", f"cannot be read as a compressed tar: {error}")
    findings += [f"{required!r} is missing" for required in REQUIRED if required not in seen]
    figures = {
        "members": len(seen),
        "bytes": archive.stat().st_size,
        "unpacked_bytes": unpacked,
        "findings": len(findings),
    }
    if findings:
        more = f", and {len(findings) - 5} more" if len(findings) > 5 else ""
        return Check(name, "failed", f"{', '.join(findings[:5])}{more}", figures)
    return Check(
        name,
        "passed",
        f"{len(seen)} members, {figures['bytes']:,} bytes, {unpacked:,} unpacked",
        figures,
    )


def _problem(member: tarfile.TarInfo, seen: set[str]) -> str:
    """Return what is wrong with a member, given those before it; empty if nothing is."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
        return "is neither a file nor a folder"
    if not (_FOLDER if member.isdir() else _FILE).fullmatch(member.name):
        return "is not part of a SavedModel"
    if member.name in seen:
        return "is there twice"
    folder = PurePosixPath(member.name).parent.as_posix()
    if folder != "." and folder not in seen:
        return "has no folder before it"
    return ""

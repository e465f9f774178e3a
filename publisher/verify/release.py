"""Checks of a whole release: its index, and all digests in SHA256SUMS."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from publisher.documents.index import INDEX
from publisher.release.catalogue import Catalogue
from publisher.release.contents import INDEX_SIGNATURE, SUMS
from publisher.util.files import sha256, sha256_file
from publisher.verify.findings import Finding, counted, proved, proved_unless, unproved

OTHER = "has other bytes"

_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<path>[\w.+-]+(?:/[\w.+-]+)*)", re.ASCII)


def index(catalogue: Catalogue) -> Finding:
    """Return the finding on the index, which `catalogue.load` has already checked."""
    count = len(catalogue.models)
    manifests = "1 manifest agrees" if count == 1 else f"{count:,} manifests agree"
    return proved("index", f"{manifests} with {INDEX} in handle, archive and checkpoint")


def sums(catalogue: Catalogue, digests: Mapping[str, str], root: Path | None) -> list[Finding]:
    """Compare `SHA256SUMS` with the files of the release, which it must list completely.

    `digests` are the archives' SHA-256 by handle. `root` is the directory of the release, all of
    whose files are checked; of a remote release, only files that the index names are checked.
    """
    stated, problems = _stated(catalogue.files[SUMS])
    known = {path: sha256(content) for path, content in catalogue.files.items()}
    known |= {catalogue.models[handle].archive: digest for handle, digest in digests.items()}
    needed = {*catalogue.files, *(model.archive for model in catalogue.models.values())}
    there = set() if root is None else set(_files(root))
    # SHA256SUMS cannot list itself or the signature over it.
    apart = {SUMS, INDEX_SIGNATURE} & catalogue.files.keys()
    unlisted = (needed | there) - stated.keys() - apart
    problems += [f"{path} is not listed" for path in sorted(unlisted)]
    seen = 0
    for path, digest in stated.items():
        if path in known:
            problem = "" if known[path] == digest else OTHER
        elif root is not None:
            problem = _problem(root, path, digest)
        else:
            continue
        seen += 1
        if problem:
            problems.append(f"{path} {problem}")
    findings = [proved_unless("SHA256SUMS", problems, f"{counted(seen, 'file')} as it lists them")]
    if seen < len(stated):
        rest = counted(len(stated) - seen, "file")
        findings.append(unproved("other files", f"{rest} of the release not downloaded"))
    return findings


def _stated(content: bytes) -> tuple[dict[str, str], list[str]]:
    """Return the digests by path, and the problems with the lines."""
    stated: dict[str, str] = {}
    problems = []
    *lines, last = content.decode(errors="replace").split("\n")
    if last:
        problems.append("its last line breaks off")
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or {".", ".."} & set(match["path"].split("/")):
            problems.append(f"line {number} is not a digest and a path")
        elif match["path"] in stated:
            problems.append(f"{match['path']} is listed twice")
        else:
            stated[match["path"]] = match["digest"]
    return stated, problems


def _problem(root: Path, path: str, digest: str) -> str:
    """Return the problem with a file of a release; empty if there is none."""
    place = root
    for name in path.split("/"):
        place /= name
        if place.is_symlink():  # it could lead anywhere, and a release has none
            return "is a link, or lies behind one"
    if not place.is_file():
        return "is missing"
    return "" if sha256_file(place) == digest else OTHER


def _files(root: Path) -> Iterator[str]:
    """Yield the paths of all files; links count as files."""
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(root).as_posix()

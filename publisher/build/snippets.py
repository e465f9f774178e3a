"""Runs each block of Python on a page once before the page can be published.

The blocks run with a stand-in instead of the page's model, because loading and training an R152x2
takes too long, and gigabytes of memory. The stand-in is built by the same code from synthetic
weights of the smallest network of the same family. It has the same head, classes, class names,
output, range of inputs and weight standardization, but another number of features, so a block
that relies on that number fails.
"""

import functools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from publisher.build import workers
from publisher.build.records import read_record, why_stale, write_record
from publisher.build.workers import OverdueError, Workers
from publisher.families import ARCHITECTURES, Architecture
from publisher.formats.archive import pack
from publisher.pages.document import code_blocks
from publisher.pages.snippets import Snippet, SnippetProblem, replaced, snippets
from publisher.util.files import sha256, sha256_file

TIMEOUT = 180.0  # seconds; a block takes one to ten, and its process may have to start first

Inputs = Mapping[str, str]


@dataclass(frozen=True)
class StandIn:
    """A small model with the interface of a variant; `assets` are copied into it."""

    architecture: Architecture
    classes: int
    head: str
    output: str
    input_range: tuple[float, float]
    assets: tuple[Path, ...]
    folded: bool

    def settings(self) -> dict[str, str]:
        """Return what identifies it, as inputs of a record."""
        return {
            "architecture": self.architecture.name,
            "classes": str(self.classes),
            "head": self.head,
            "output": self.output,
            "input range": str(self.input_range),
            "class names": " ".join(f"{path.name}={sha256_file(path)}" for path in self.assets),
            "folded": str(self.folded),
        }


@dataclass(frozen=True)
class Tried:
    """The result of a page: the number of its blocks, of those that ran now, and the faults."""

    blocks: int
    ran: int
    faults: tuple[SnippetProblem, ...]


def smallest(architecture: Architecture) -> Architecture:
    """Return the network with the fewest parameters of the same family."""
    return _smallest(architecture.package)


@functools.cache
def _smallest(package: str) -> Architecture:
    family = [one for one in ARCHITECTURES.values() if one.package == package]
    return min(family, key=lambda one: sum(prod(shape) for shape in one.arrays(1).values()))


def make_stand_in(stand_in: StandIn, folder: Path, pool: Workers, inputs: Inputs) -> Path:
    """Return the archive of a stand-in in `folder`, after building it if it is stale.

    `inputs` determine its bytes. Only one caller at a time may use a folder.
    """
    target, record = folder / "model.tar.gz", folder / "records" / "stand-in.json"
    if not why_stale(read_record(record), inputs):
        return target
    record.unlink(missing_ok=True)
    directory = folder / ".saved_model.tmp"
    shutil.rmtree(directory, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    pool.run(
        workers.convert,
        None,
        stand_in.architecture,
        classes=stand_in.classes,
        head=stand_in.head,
        output=stand_in.output,
        input_range=stand_in.input_range,
        assets=list(stand_in.assets),
        directory=directory,
        folded=stand_in.folded,
    )
    pack(directory, target)
    shutil.rmtree(directory)
    write_record(record, inputs, [target], {})
    return target


def snippets_of(page: str) -> list[Snippet]:
    """Return the blocks of Python on a page."""
    return snippets(code_blocks(page))


def digest(
    blocks: Sequence[Snippet], addresses: Sequence[str], resolution: int | None = None
) -> str:
    """Return a digest of blocks that is independent of the addresses in them.

    With a resolution it is independent of that number too: the networks take images of any size.
    """
    places = {address: f"<{number}>" for number, address in enumerate(addresses)}
    codes = [replaced(block.code, places) for block in blocks]
    if resolution is not None:
        codes = [re.sub(rf"(?<![\w.]){resolution}(?![\w.])", "<pixels>", code) for code in codes]
    return sha256(json.dumps(codes).encode())


def try_page(
    page: str,
    archives: Mapping[str, Path],
    folder: Path,
    pool: Workers,
    inputs: Inputs,
    *,
    resolution: int | None = None,
    timeout: float = TIMEOUT,
) -> Tried:
    """Run the blocks of a page that have not run before, on this page or another.

    `archives` are the archives at the addresses that the page may name, and `resolution` is that
    of its model's images. A successful block is recorded in `folder` by its text, without
    addresses and resolution, and by `inputs`. A block fails after `timeout` seconds. Only one
    caller at a time may use a folder.
    """
    blocks = snippets_of(page)
    ran, faults = 0, []
    for block in blocks:
        record = folder / "records" / f"{digest([block], list(archives), resolution)}.json"
        if not why_stale(read_record(record), inputs):
            continue
        ran += 1
        try:
            fault = pool.run_within(timeout, workers.try_snippet, block, archives)
        except OverdueError:
            fault = SnippetProblem(
                block.line,
                f"this Python was not done after {timeout:g} s; correct the template",
            )
        if fault:
            faults.append(fault)
        else:
            write_record(record, inputs, (), {})
    return Tried(len(blocks), ran, tuple(faults))

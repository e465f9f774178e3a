"""What is published in the tests: a small registry, and variants as a build leaves them.

The archives hold a few made-up bytes; nothing that publishes looks inside.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from publisher.build.manifest import Weights, build_manifest
from publisher.destinations.base import Destination
from publisher.documents.manifest import Manifest, read_manifest
from publisher.documents.plan import Change
from publisher.documents.report import Tolerance
from publisher.formats.archive import Archive
from publisher.pages import render_module
from publisher.registry import Registry, Variant, load_registry
from publisher.registry.models import Target
from publisher.release import publish as release
from publisher.release.diff import Offered
from publisher.release.publish import Prepared, Publication
from publisher.util.files import json_bytes, sha256, write_whole
from publisher.validation.report import Check, Report

TEMPLATES = Path(__file__).parents[1] / "templates"
CLASSIFIER = "sayakpaul/small_classification/1"
EXTRACTOR = "sayakpaul/small_features/1"
OTHER = "sayakpaul/other_classification/1"
HANDLES = [OTHER, CLASSIFIER, EXTRACTOR]
TOOLCHAIN = {"tensorflow": "2.21.0", "numpy": "2.1.0"}

HEADER = """\
upstream: https://storage.googleapis.com/bit_models/
asset_base: https://storage.googleapis.com/bit-resnet-models/
publisher:
  name: sayakpaul
  full_name: Sayak Paul
  url: https://github.com/sayakpaul
  description: Vision networks.
collection:
  handle: sayakpaul/collections/bit-resnet/1
  title: BiT-ResNet
  description: Classifiers and feature extractors.
validation:
  tolerance: {absolute: 1.0e-4, relative: 2.0e-4}
checkpoints:
"""
SMALL = """\
  small:
    path: distill/small.npz
    architecture: R20x0.5
    classes: 3
    class_names: names.txt
    resolution: 64
    input_range: [-1, 1]
    parity_resolutions: [64, 32]
    training: Made up.
    datasets: [other]
    network_architectures: [bit]
"""
SECOND = """\
  second:
    path: second.npz
    architecture: R20x0.5
    classes: 5
    resolution: 32
    input_range: [0, 1]
    parity_resolutions: [32]
    training: Made up as well.
    datasets: [imagenet-21k]
    network_architectures: [bit, resnet-v2-50]
"""
SMALL_VARIANTS = f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
    aliases: [sayakpaul/old_small]
  - handle: {EXTRACTOR}
    checkpoint: small
    head: feature_extractor
"""
SECOND_VARIANT = f"""\
  - handle: {OTHER}
    checkpoint: second
    head: classifier
"""
REGISTRY = f"{HEADER}{SMALL}{SECOND}variants:\n{SMALL_VARIANTS}{SECOND_VARIANT}"

Built = list[tuple[Variant, Manifest, Path]]


def registry_of(folder: Path, text: str = REGISTRY) -> Registry:
    """Load a registry that is written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.txt").write_text("cat\ndog\nowl\n")
    (folder / "models.yaml").write_text(text)
    return load_registry(folder / "models.yaml")


def edited(*edits: tuple[str, str]) -> str:
    """Return the small registry with each text replaced, wherever it is."""
    text = REGISTRY
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


def manifest_of(
    registry: Registry,
    variant: Variant,
    archive: bytes,
    *,
    weights: bytes = b"weights",
    toolchain: Mapping[str, str] = TOOLCHAIN,
    synthetic: bool = True,
    error: float = 2.4e-5,
) -> Manifest:
    """Return the manifest of a variant that was packed into these bytes."""
    parity = Check(
        "parity_with_float64_reference",
        "passed",
        f"largest error {error:.1e}",
        {"64px_largest_error": error},
    )
    return build_manifest(
        registry,
        variant,
        weights=Weights(len(weights), sha256(weights), synthetic),
        archive=Archive(len(archive), sha256(archive), 10 * len(archive)),
        report=Report(Tolerance(absolute=1e-4, relative=2e-4), (parity,)).document(),
        toolchain=toolchain,
    )


def altered(manifest: Manifest, edit: Callable[[dict[str, Any]], object]) -> Manifest:
    """Return a manifest whose JSON was edited."""
    document = manifest.as_json()
    edit(document)
    return read_manifest(json_bytes(document))


def build(
    registry: Registry, folder: Path, *, only: str = "", graph: bytes = b"graph", **facts: Any
) -> Built:
    """Build the variants whose handle has `only` in it, as the pipeline leaves them.

    Other weights, graph or toolchain give other archives; other facts only other pages.
    """
    built: Built = []
    for variant in registry.variants:
        if only not in variant.handle:
            continue
        weights, toolchain = facts.get("weights", b"weights"), facts.get("toolchain", TOOLCHAIN)
        archive = b"|".join([variant.name.encode(), weights, graph, json_bytes(toolchain)])
        manifest = manifest_of(registry, variant, archive, **facts)
        place = folder / variant.handle
        write_whole(place / "model.tar.gz", archive)
        write_whole(place / "manifest.json", manifest.as_bytes())
        page = render_module(registry, variant, manifest, TEMPLATES)
        write_whole(place / "README.md", page.encode())
        built.append((variant, manifest, place))
    return built


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones too; a link by where it leads."""
    return {
        path.relative_to(root).as_posix(): (
            str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        )
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }


def prepare(
    registry: Registry,
    offers: Sequence[Offered],
    destination: Destination,
    *,
    target: Target | None = None,
    **conditions: Any,
) -> Prepared:
    """Compare offers with a destination, with the pages of this project's templates."""
    publication = Publication(registry, TEMPLATES, **conditions)
    return release.prepare(publication, offers, destination, target)


def publish(
    registry: Registry, offers: Sequence[Offered], destination: Destination, **conditions: Any
) -> list[Change]:
    """Publish offers to a destination; return what became of each."""
    prepared = prepare(registry, offers, destination, **conditions)
    release.carry_out(prepared, destination)
    return [change for change in prepared.plan.changes if change.status != "left over"]


def times(root: Path) -> dict[str, int]:
    """Return when each file and folder was last changed, in ns."""
    return {str(path): path.lstat().st_mtime_ns for path in (root, *root.rglob("*"))}


CHANGES = ("mkdir", "link", "replace", "rename", "chmod", "fchmod", "fsync", "unlink", "rmdir")


class Faults:
    """Counts the calls that change the disk, and makes the one at `fail_at` fail.

    `killed` makes all that follow fail too: a dead process cleans nothing up.
    """

    def __init__(self, fail_at: int | None, error: BaseException, *, killed: bool) -> None:
        self.calls = 0
        self._fail_at = fail_at
        self._error = error
        self._killed = killed

    @property
    def struck(self) -> bool:
        """Whether the call that was to fail has been made."""
        return self._fail_at is not None and self.calls > self._fail_at

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with the fault in its way."""

        def faulty(*args: Any, **kwargs: Any) -> Any:
            call, self.calls = self.calls, self.calls + 1
            if self._fail_at is not None and (
                call == self._fail_at or (self._killed and call > self._fail_at)
            ):
                raise self._error
            return function(*args, **kwargs)

        return faulty


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def faults(
    fail_at: int | None = None,
    error: BaseException | None = None,
    *,
    killed: bool = False,
    names: Iterable[str] = CHANGES,
) -> Iterator[Faults]:
    """Let the call number `fail_at` of those that change the disk fail."""
    made = Faults(fail_at, error or disk_full(), killed=killed)
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(os, name, made.around(getattr(os, name)))
        yield made

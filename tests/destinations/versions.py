"""The versions that are published in the tests, as a build leaves them."""

import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from publisher.documents.manifest import Manifest
from publisher.formats.archive import Archive, pack
from publisher.pages import render_module
from publisher.pages.styles import style_of
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.util.files import write_whole
from tests.releases import CLASSIFIER, TEMPLATES, edited, manifest_of, registry_of

FOLDER = f"models/{CLASSIFIER}"
MODEL = CLASSIFIER.rpartition("/")[0]
SECOND = f"{MODEL}/2"
WEIGHTS = "variables/variables.data-00000-of-00001"
PAGE, MANIFEST, ARCHIVE = (f"{FOLDER}/{n}" for n in ("README.md", "manifest.json", "model.tar.gz"))

Files = dict[str, Path | bytes]


@cache
def packed(seed: int, assets: int) -> tuple[bytes, Archive]:
    """An archive of a SavedModel in form, of 600 kB that cannot be made smaller."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        files = {
            "saved_model.pb": b"graph",
            "variables/variables.index": b"index",
            WEIGHTS: Random(seed).randbytes(600_000),  # noqa: S311
            **{f"assets/names{number}.txt": b"cat\n" for number in range(assets)},
        }
        for name, content in files.items():
            write_whole(model / name, content)
        archive = pack(model, Path(folder) / "model.tar.gz")
        return (Path(folder) / "model.tar.gz").read_bytes(), archive


@cache
def registry_with(handle: str) -> Registry:
    """The registry in which the classifier has that handle."""
    text = edited((f"- handle: {CLASSIFIER}", f"- handle: {handle}"))
    with tempfile.TemporaryDirectory() as folder:
        return registry_of(Path(folder), text)


def page_of(style: str, registry: Registry, target: Target, manifest: Manifest) -> bytes:
    """The page of a version, as this kind of destination shows it."""
    (variant,) = [v for v in registry.variants if v.handle == manifest.handle]
    if style == "tfhub":
        return render_module(registry, variant, manifest, TEMPLATES).encode()
    return style_of(style).version(registry, target, variant, manifest, TEMPLATES).encode()


def version_files(
    style: str,
    target: Target,
    folder: Path,
    handle: str = CLASSIFIER,
    *,
    seed: int = 0,
    assets: int = 0,
    **facts: Any,
) -> Files:
    """The files of a version of the classifier: `seed` makes its archive, `facts` its page."""
    registry = registry_with(handle)
    content, archive = packed(seed, assets)
    (variant,) = [v for v in registry.variants if v.handle == handle]
    manifest = manifest_of(registry, variant, content, **{"synthetic": False, **facts})
    stated = manifest.archive.model_copy(update={"unpacked_size": archive.unpacked_size})
    manifest = manifest.model_copy(update={"archive": stated})
    place = folder / f"{seed}-{assets}" / handle / "model.tar.gz"
    if not place.exists():
        write_whole(place, content)
        place.chmod(0o644)
    return {
        "model.tar.gz": place,
        "manifest.json": manifest.as_bytes(),
        "README.md": page_of(style, registry, target, manifest),
    }


def contents(files: Files) -> dict[str, bytes]:
    return {
        name: source if isinstance(source, bytes) else source.read_bytes()
        for name, source in files.items()
    }

"""Files of a version as a build leaves them, and how patient a test is."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from publisher.pages.styles import PageStyle
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.util.files import write_whole
from publisher.util.http import Retry
from tests.releases import TEMPLATES, manifest_of

Files = Mapping[str, Path | bytes]


def version_files(
    style: PageStyle,
    target: Target,
    registry: Registry,
    folder: Path,
    archive: bytes,
    index: int = 0,
    **facts: Any,
) -> dict[str, Path | bytes]:
    """The files of a version, with the page that this kind of destination shows."""
    variant = registry.variants[index]
    manifest = manifest_of(registry, variant, archive, **facts)
    place = folder / variant.handle / "model.tar.gz"
    write_whole(place, archive)
    page = style.version(registry, target, variant, manifest, TEMPLATES)
    return {
        "model.tar.gz": place,
        "manifest.json": manifest.as_bytes(),
        "README.md": page.encode(),
    }


def contents(files: Files) -> dict[str, bytes]:
    return {
        name: source if isinstance(source, bytes) else source.read_bytes()
        for name, source in files.items()
    }


def patient(attempts: int, timeout: float, sleep: Callable[[float], None]) -> Retry:
    """Let a destination try so often, wait for answers so long, and only say that it pauses."""
    return Retry(
        attempts=attempts,
        first_pause=1.0,
        longest_pause=8.0,
        connect_timeout=20.0,
        read_timeout=timeout,
        sleep=sleep,
    )

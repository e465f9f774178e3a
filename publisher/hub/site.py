"""Writes the hub's pages as files, for any web host.

A static host cannot tell `hub.load` from a browser, so snippets name the archives.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from publisher.hub import views
from publisher.hub.answers import POLICY
from publisher.hub.errors import HubError
from publisher.hub.links import Links
from publisher.hub.pages import Renderer
from publisher.hub.search import Filters
from publisher.hub.settings import is_address
from publisher.release.catalogue import Catalogue
from publisher.util.files import write_whole

MARK = ".publisher-site"


def site_files(
    catalogue: Catalogue, renderer: Renderer, base: str | None, archives: str | None
) -> Iterator[tuple[str, bytes]]:
    """Yield the path and content of every file of a site.

    `base` is the site's address for absolute links; without it links are relative.
    `archives` is the address of the archives, by default the one that the release states.
    Raises `HubError` if that is missing, or an address is invalid.
    """
    for address in (base, archives):
        if address is not None and not is_address(address):
            raise HubError(f"{address}: not an address; give one like https://models.example/bit")
    if archives is None:
        if catalogue.index.about is None:
            raise HubError(
                "the release does not state where its archives are served from; add --archives"
            )
        archives = catalogue.index.about.asset_base

    def links_at(depth: int) -> Links:
        root = f"{base.rstrip('/')}/" if base else "../" * depth
        return Links(root, "/index.html", None, archives.rstrip("/"))

    def page(template: str, facts: dict[str, object]) -> bytes:
        return renderer.page(template, {**facts, "policy": POLICY})

    yield from renderer.assets().items()
    yield from catalogue.files.items()
    yield "index.html", page("catalogue", views.catalogue_facts(catalogue, links_at(0), Filters()))
    for handle, model in catalogue.models.items():
        yield (
            f"{handle}/index.html",
            page("model", views.model_facts(catalogue, model, links_at(3))),
        )
    newest = {**catalogue.newest}
    newest |= {alias: newest[name] for alias, name in catalogue.aliases.items()}
    for name, handle in newest.items():
        yield f"{name}/index.html", page("moved", views.moved_facts(catalogue, links_at(2), handle))
    # A host shows this page at any path, so its links must be absolute.
    top = Links(f"{base.rstrip('/')}/" if base else "/", "/index.html", None, archives)
    lost = views.error_facts(catalogue, top, "Not found", "There is nothing here.", [])
    yield "404.html", page("error", lost)
    yield MARK, b"Written by `publisher site`, which replaces this directory.\n"


def write_site(files: Iterator[tuple[str, bytes]], output: Path) -> int:
    """Write a site to a temporary folder and rename that to `output`; return the file count.

    Replace an earlier site. Raises `HubError` for a directory that holds anything else.
    """
    output = Path(os.path.realpath(output))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(output.parent / f".{output.name}.lock", timeout=0):
            _refuse_others(output)
            workplace = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
            try:
                return _write(files, workplace, output)
            finally:
                shutil.rmtree(workplace, ignore_errors=True)
    except Timeout as error:
        raise HubError(f"{output}: a site is being written there; wait and run again") from error
    except OSError as error:
        raise HubError(
            f"{error.filename or output}: {error.strerror or error}; check free space and"
            " permissions, or choose another --output"
        ) from error


def _refuse_others(output: Path) -> None:
    if not os.path.lexists(output):
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / MARK).is_file()):
        raise HubError(
            f"{output}: was not written by `publisher site`; choose another --output, or empty it"
        )


def _write(files: Iterator[tuple[str, bytes]], workplace: Path, output: Path) -> int:
    new, old = workplace / "new", workplace / "old"
    new.mkdir()
    count = 0
    for path, content in files:
        write_whole(new / path, content)
        count += 1
    if output.exists():
        output.rename(old)
    try:
        new.rename(output)
    except OSError:
        if old.exists():
            old.rename(output)
        raise
    return count

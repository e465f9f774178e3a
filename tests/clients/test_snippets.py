"""Every Python block of every page is copied and run, as its readers do, against the server."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from publisher.hub.pages import Renderer
from publisher.hub.site import site_files
from publisher.pages.document import parse
from publisher.pages.snippets import snippets
from publisher.release.catalogue import load
from publisher.release.sources.directory import DirectorySource
from tests.builds import Project
from tests.clients.agreement import CLASSIFIER, EXTRACTOR, FOLDED, HANDLES
from tests.hub.html import parsed
from tests.hub.releases import ask

ASSET_BASE = "https://storage.googleapis.com/bit-resnet-models/"  # of the tests' registry
AT_ONCE = 2

Blocks = dict[str, list[str]]


def markdown_blocks(release: Path, hub: str) -> Blocks:
    """The blocks of the documentation tree; what they load is asked from the server."""
    root = release / "tfhub.dev"
    blocks = {}
    for page in sorted(root.rglob("*.md")):
        document = parse(str(page.relative_to(root)), page.read_text())
        assert document is not None
        found = snippets(document.code)
        assert len(found) == sum(block.language == "python" for block in document.code)
        blocks[document.handle] = [snippet.code.replace(ASSET_BASE, f"{hub}/") for snippet in found]
    return blocks


def html_blocks(page: bytes) -> list[str]:
    """The blocks of a page in a browser, as they are."""
    return [
        "".join(element.itertext())
        for element in parsed(page).iter("code")
        if element.get("class") == "language-python"
    ]


def hub_blocks(hub: str) -> Blocks:
    """The blocks of the catalogue and of the models' pages."""
    return {path: html_blocks(ask(hub, path).body) for path in ("/", *(f"/{h}" for h in HANDLES))}


def site_blocks(release: Path, hub: str) -> Blocks:
    """The blocks of the same pages as files; their archives are where the server has them."""
    files = site_files(load(DirectorySource(release)), Renderer(), None, hub)
    return {path: html_blocks(page) for path, page in files if path.endswith(".html")}


def failures(blocks: Iterable[str], folder: Path) -> Iterator[tuple[str, str]]:
    """Run each block as a program of its own, and give those that fail, with what they said."""

    def run(numbered: tuple[int, str]) -> tuple[str, str] | None:
        number, code = numbered
        program = folder / f"block_{number}.py"
        program.write_text(code)
        done = subprocess.run(
            [sys.executable, program], cwd=folder, capture_output=True, text=True, check=False
        )
        return (code, f"{code}\n{done.stderr}") if done.returncode else None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from filter(None, pool.map(run, enumerate(blocks)))


def test_every_snippet_on_every_page_runs(built: Project, hub: str, tmp_path: Path) -> None:
    pages = markdown_blocks(built.release, hub)
    # A snippet to load a model and one to train it, where it can be trained.
    counts = {handle: len(blocks) for handle, blocks in pages.items() if blocks}
    assert counts == {CLASSIFIER: 2, EXTRACTOR: 2, FOLDED: 1}
    in_browser = hub_blocks(hub)
    assert {path: len(blocks) for path, blocks in in_browser.items()} == {
        "/": len(HANDLES),
        **{f"/{handle}": 1 + counts[handle] for handle in HANDLES},
    }
    # Pages share their blocks; each is run once.
    places: dict[str, str] = {}
    for path, blocks in (pages | in_browser).items():
        for block in blocks:
            assert hub in block
            assert "https://" not in block
            places[block] = f"{places.get(block, 'on')} {path}"
    if failed := [f"{places[block]}\n{why}" for block, why in failures(places, tmp_path)]:
        pytest.fail("\n".join(failed), pytrace=False)


def test_the_pages_as_files_have_the_same_snippets(built: Project, hub: str) -> None:
    in_browser, as_files = hub_blocks(hub), site_blocks(built.release, hub)

    def of_archives(blocks: list[str]) -> list[str]:
        """Blocks that name a handle's address, naming its archive in the place of it."""
        named = re.compile(rf'"{re.escape(hub)}/((?!models/)[^"]+)"')
        return [named.sub(rf'"{hub}/models/\1/model.tar.gz"', block) for block in blocks]

    assert as_files["index.html"] == of_archives(in_browser["/"])
    for handle in HANDLES:
        assert as_files[f"{handle}/index.html"] == of_archives(in_browser[f"/{handle}"])


def test_a_snippet_that_fails_is_shown_with_its_traceback(tmp_path: Path) -> None:
    faulty = "size = 3\nprint(size / 0)\n"
    [(block, shown)] = failures(["print(1)\n", faulty], tmp_path)
    assert block == faulty
    assert shown.startswith(f"{faulty}\nTraceback")
    assert "line 2" in shown
    assert shown.endswith("ZeroDivisionError: division by zero\n")

"""A signed release, served and as a site: whoever gets it gets what proves it."""

from pathlib import Path

from publisher.hub.pages import Renderer
from publisher.hub.site import site_files
from publisher.release.catalogue import load
from publisher.release.sources.directory import DirectorySource
from tests.hub.releases import ask, served
from tests.releases import CLASSIFIER, HANDLES
from tests.signing.conftest import Keys, sign

NAMES = ("provenance.json", "bom.json", "model.sig")
PATHS = ("index.sig", *(f"models/{handle}/{name}" for handle in HANDLES for name in NAMES))


def test_a_hub_that_runs_serves_what_was_signed_since(release: Path, keys: Keys) -> None:
    with served(release) as base:
        assert {ask(base, f"/{path}").status for path in PATHS} == {404}
        sign(release, keys)
        for path in PATHS:
            answer = ask(base, f"/{path}")
            assert answer.body == (release / path).read_bytes()
            assert answer.headers["content-type"] == "application/json"


def test_a_signature_of_the_index_alone_is_seen_as_well(release: Path, keys: Keys) -> None:
    """It is written last, and nothing else changes with it."""
    sign(release, keys)
    (release / "index.sig").unlink()
    with served(release) as base:
        assert ask(base, "/index.sig").status == 404
        sign(release, keys)
        assert ask(base, "/index.sig").body == (release / "index.sig").read_bytes()


def test_what_nothing_lists_is_not_served(release: Path) -> None:
    (release / "models" / CLASSIFIER / "model.sig").write_text("{}")
    with served(release) as base:
        assert ask(base, f"/models/{CLASSIFIER}/model.sig").status == 404


def test_a_site_has_it_too(release: Path, keys: Keys) -> None:
    sign(release, keys)
    files = dict(site_files(load(DirectorySource(release)), Renderer(), None, None))
    for path in PATHS:
        assert files[path] == (release / path).read_bytes()

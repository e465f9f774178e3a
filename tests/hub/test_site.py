"""The static form: files for any web host."""

import posixpath
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from publisher.hub.errors import HubError
from publisher.hub.pages import Renderer
from publisher.hub.site import site_files, write_site
from publisher.pages import PageError
from publisher.release.catalogue import load
from publisher.release.sources.directory import DirectorySource
from tests.hub.html import assets, cards, facts, links, parsed, sound, text
from tests.hub.releases import edit_json, publish_into
from tests.releases import CLASSIFIER, EXTRACTOR, HANDLES, OTHER, faults, tree

ARCHIVES = "https://storage.googleapis.com/bit-resnet-models"


def write(
    release: Path, output: Path, base: str | None = None, archives: str | None = None
) -> Path:
    catalogue = load(DirectorySource(release))
    count = write_site(site_files(catalogue, Renderer(), base, archives), output)
    assert count == len(tree(output))
    return output


@pytest.fixture(scope="module")
def site(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(release, tmp_path_factory.mktemp("site") / "out")


def page_of(site: Path, path: str) -> Any:
    page = parsed((site / path).read_bytes())
    sound(page)
    return page


def pages(site: Path) -> list[str]:
    return [path for path in tree(site) if path.endswith(".html")]


def test_templates_of_ones_own_come_first(release: Path, tmp_path: Path) -> None:
    own = tmp_path / "templates"
    (own / "web").mkdir(parents=True)
    (own / "web" / "error.html.j2").write_text("{{ policy }} & <b>{{ '<' }}</b>")
    (own / "web" / "hub.css").write_text("/* none */")
    files = dict(site_files(load(DirectorySource(release)), Renderer(own), None, ARCHIVES))
    assert files["404.html"].endswith(b" & <b>&lt;</b>")
    assert files["hub.css"] == b"/* none */"
    assert b"BiT-ResNet" in files["index.html"]
    (own / "web" / "error.html.j2").write_text("fine\n{{ nothing }}")
    with pytest.raises(PageError, match=r"web/error\.html\.j2:2: 'nothing' is undefined"):
        dict(site_files(load(DirectorySource(release)), Renderer(own), None, ARCHIVES))


def test_every_model_and_every_name_has_a_page(site: Path) -> None:
    names = [handle.rpartition("/")[0] for handle in HANDLES]
    assert sorted(pages(site)) == sorted(
        [
            "404.html",
            "index.html",
            "sayakpaul/old_small/index.html",
            *(f"{handle}/index.html" for handle in HANDLES),
            *(f"{name}/index.html" for name in names),
        ]
    )
    assert {text(page_of(site, "index.html").find(".//h1"))} == {"BiT-ResNet"}
    assert set(cards(page_of(site, "index.html"))) == {
        handle.partition("/")[2] for handle in HANDLES
    }


def test_links_are_relative_and_lead_to_what_is_there(site: Path) -> None:
    files = tree(site)
    for path in pages(site):
        page = page_of(site, path)
        for address in (*links(page).values(), *assets(page)):
            if address.startswith(("https://", "#")):
                continue
            if path == "404.html":  # shown at any path, so its links begin at the host
                assert address.startswith("/")
                target = address[1:]
            else:
                assert not address.startswith("/")
                target = posixpath.normpath(posixpath.join(posixpath.dirname(path), address))
            assert target in files, (path, address)


def test_the_small_files_of_the_release_are_there_and_the_archives_are_not(
    site: Path, release: Path
) -> None:
    there, files = tree(release), tree(site)
    for path in ("index.json", "SHA256SUMS", f"models/{OTHER}/manifest.json"):
        assert files[path] == there[path]
    assert not [path for path in files if path.endswith(".tar.gz")]


def test_snippets_name_the_archives(site: Path) -> None:
    """A plain host answers `hub.load` with a page."""
    archive = f"{ARCHIVES}/models/{CLASSIFIER}/model.tar.gz"
    page = page_of(site, f"{CLASSIFIER}/index.html")
    assert f'hub.load("{archive}")' in text(page.find(".//pre"))
    assert links(page)["model.tar.gz"] == archive
    [card] = [card for name, card in cards(page_of(site, "index.html")).items() if "other" in name]
    assert f'hub.load("{ARCHIVES}/models/{OTHER}/model.tar.gz")' in text(card)


def test_archives_can_be_elsewhere(release: Path, tmp_path: Path) -> None:
    site = write(release, tmp_path / "out", archives="https://models.example/bit/")
    for path in pages(site):
        assert ARCHIVES not in (site / path).read_text()
    page = page_of(site, f"{OTHER}/index.html")
    assert facts(page)["Archive"].startswith("100 bytes") or "bytes" in facts(page)["Archive"]
    archive = f"https://models.example/bit/models/{OTHER}/model.tar.gz"
    assert f'hub.load("{archive}")' in text(page)


def test_links_can_be_absolute(release: Path, tmp_path: Path) -> None:
    site = write(release, tmp_path / "out", base="https://models.example/bit/")
    for path in pages(site):
        page = page_of_any(site, path)
        for address in (*links(page).values(), *address_of_assets(page)):
            assert address.startswith(("https://", "#")), (path, address)
    home = "https://models.example/bit/index.html"
    assert links(page_of_any(site, f"{OTHER}/index.html"))["BiT-ResNet"] == home
    assert links(page_of_any(site, "404.html"))["All models"] == home


def page_of_any(site: Path, path: str) -> Any:
    return parsed((site / path).read_bytes())


def address_of_assets(page: Any) -> list[str]:
    return assets(page)


@pytest.mark.parametrize(
    ("name", "handle"),
    [("sayakpaul/small_classification", CLASSIFIER), ("sayakpaul/old_small", CLASSIFIER)],
)
def test_a_name_leads_to_its_newest_version(site: Path, name: str, handle: str) -> None:
    page = page_of(site, f"{name}/index.html")
    [refresh] = [meta for meta in page.iter("meta") if meta.get("http-equiv") == "refresh"]
    assert refresh.get("content") == f"0; url=../../{handle}/index.html"
    assert links(page)[handle] == f"../../{handle}/index.html"


def test_pages_bring_their_own_policy(site: Path) -> None:
    for path in pages(site):
        policies = [
            meta.get("content", "")
            for meta in page_of(site, path).iter("meta")
            if meta.get("http-equiv") == "Content-Security-Policy"
        ]
        assert len(policies) == 1
        assert policies[0].startswith("default-src 'none'")
        # Browsers take this one from a header only, and complain of it here.
        assert "frame-ancestors" not in policies[0]


def test_the_catalogue_is_whole_and_says_that_its_search_needs_javascript(site: Path) -> None:
    page = page_of(site, "index.html")
    [form] = page.iter("form")
    assert form.get("data-complete") == "yes"
    assert "needs JavaScript" in text(page.find(".//noscript"))


def test_synthetic_weights_are_the_first_thing_that_a_page_says(site: Path) -> None:
    for path in pages(site):
        body = text(page_of(site, path).find(".//body"))
        assert body.startswith("Skip to the content Synthetic weights."), path


def test_a_site_is_written_anew_over_an_earlier_one(tmp_path: Path) -> None:
    root = publish_into(tmp_path / "release", tmp_path / "1", only=OTHER)
    site = write(root, tmp_path / "out")
    (site / "left behind.html").write_text("old")
    publish_into(root, tmp_path / "2", only=EXTRACTOR)
    write(root, site)
    assert (site / EXTRACTOR / "index.html").is_file()
    assert not (site / "left behind.html").exists()
    assert [path.name for path in tmp_path.glob(".out*")] == [".out.lock"]


def test_the_same_release_gives_the_same_site(release: Path, site: Path, tmp_path: Path) -> None:
    assert tree(write(release, tmp_path / "again")) == tree(site)


def test_an_empty_directory_is_taken(release: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(release, tmp_path / "out")


@pytest.mark.parametrize("there", ["a release", "a file", "a folder", "a dangling link"])
def test_what_is_no_site_is_left_alone(
    release: Path, own: Path, tmp_path: Path, there: str
) -> None:
    output = tmp_path / "out"
    if there == "a release":
        output = own
    elif there == "a file":
        output.write_text("mine")
    elif there == "a folder":
        output.mkdir()
        (output / "mine").write_text("mine")
    else:
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        output = tmp_path / "loop"
    before = tree(tmp_path)
    with pytest.raises(HubError, match="--output"):
        write(release, output)
    after = tree(tmp_path)
    assert {path: after[path] for path in before} == before
    assert {path for path in after if path not in before} <= {f".{output.name}.lock"}


def test_a_site_that_fails_half_way_leaves_the_earlier_one(release: Path, tmp_path: Path) -> None:
    site = write(release, tmp_path / "out")
    before = tree(site)

    def files() -> Any:
        yield "index.html", b"new"
        raise HubError("enough")

    with pytest.raises(HubError, match="enough"):
        write_site(files(), site)
    assert tree(site) == before
    assert [path.name for path in tmp_path.glob(".out*")] == [".out.lock"]


def test_a_site_that_cannot_take_its_place_leaves_the_earlier_one(
    release: Path, tmp_path: Path
) -> None:
    site = write(release, tmp_path / "out")
    before = tree(site)
    # The first rename takes the earlier site away, the second one fails.
    with faults(1, names=["rename"]) as fault, pytest.raises(HubError, match="No space left"):
        write(release, site)
    assert fault.struck
    assert tree(site) == before


def test_two_do_not_write_one_site(release: Path, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".out.lock"),
        pytest.raises(HubError, match="a site is being written there"),
    ):
        write(release, tmp_path / "out")


def test_a_release_that_does_not_name_its_archives_needs_to_be_told(
    own: Path, tmp_path: Path
) -> None:
    edit_json(own / "index.json", lambda index: index.pop("about"))
    with pytest.raises(HubError, match="add --archives"):
        write(own, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write(own, tmp_path / "out", archives="https://models.example")


@pytest.mark.parametrize(
    "address", ["models.example", "javascript:alert(1)", "https://", 'https://a/"><script>', ""]
)
def test_an_address_that_is_none_is_refused(release: Path, tmp_path: Path, address: str) -> None:
    with pytest.raises(HubError, match="not an address"):
        write(release, tmp_path / "out", base=address)
    with pytest.raises(HubError, match="not an address"):
        write(release, tmp_path / "out", archives=address)

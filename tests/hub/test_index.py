"""An index and manifests that somebody else wrote: refused, or shown as the text that they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from publisher.hub.app import application
from publisher.release.catalogue import LARGEST_PAGE, load
from publisher.release.errors import ReleaseError
from publisher.release.sources.base import LARGEST
from publisher.release.sources.directory import DirectorySource
from tests.hub.html import by_id, cards, links, parsed, sound, text
from tests.hub.releases import ask, edit_json, served
from tests.releases import CLASSIFIER, EXTRACTOR, OTHER

MANIFEST = f"models/{CLASSIFIER}/manifest.json"
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 123 * 100003 }}{% raw %}"
Change = Callable[[dict[str, Any]], Any]


def model(index: Any, handle: str = CLASSIFIER) -> Any:
    [found] = [model for model in index["models"] if model["handle"] == handle]
    return found


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("index.json", lambda index: index.update(schema_version=2), "index.json.schema_version"),
        (
            "index.json",
            lambda index: model(index).update(
                handle="sayakpaul/missing/1", path="models/sayakpaul/missing/1"
            ),
            "No such file",
        ),
        (MANIFEST, lambda manifest: manifest.update(handle=EXTRACTOR), f"{MANIFEST}: its handle"),
    ],
)
def test_a_release_that_lies_is_not_served(
    own: Path, name: str, change: Change, complaint: str
) -> None:
    edit_json(own / name, change)
    with pytest.raises(ReleaseError, match=str(own)) as caught:
        load(DirectorySource(own))
    assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"not JSON", b"{}" + b" " * LARGEST])
@pytest.mark.parametrize("name", ["index.json", MANIFEST])
def test_what_is_no_json_is_not_served(own: Path, name: str, content: bytes) -> None:
    (own / name).unlink()
    (own / name).write_bytes(content)
    with pytest.raises(ReleaseError, match=name):
        load(DirectorySource(own))


@pytest.mark.parametrize(
    "name",
    ["index.json", "SHA256SUMS", f"models/{OTHER}/manifest.json", f"models/{OTHER}/README.md"],
)
def test_a_release_that_lacks_a_file_is_not_served(own: Path, name: str) -> None:
    (own / name).unlink()
    with pytest.raises(
        ReleaseError, match=f"{name}: No such file .*; publish again, or restore it"
    ):
        load(DirectorySource(own))


def test_texts_are_shown_and_never_run(own: Path) -> None:
    """Every text that a release can hold, put where it can do most."""

    def index(index: dict[str, Any]) -> None:
        index["about"]["collection"].update(title=EVIL, description=EVIL)
        index["about"]["publisher"].update(full_name=EVIL, description=EVIL)
        for figure in index["checkpoints"]["small"]["reported"]:
            figure.update(metric=EVIL, source=EVIL)
        index["checkpoints"]["small"]["license"] = EVIL
        index["checkpoints"] = {EVIL: index["checkpoints"]["small"]}
        for model in index["models"]:
            model.update(checkpoint=EVIL, architecture=EVIL)

    def manifest(manifest: dict[str, Any]) -> None:
        manifest["checkpoint"].update(name=EVIL, datasets=[EVIL])
        for tensor in (manifest["signature"]["input"], manifest["signature"]["output"]):
            tensor.update(name=EVIL, dtype=EVIL)
        manifest.update(assets=[EVIL], toolchain={EVIL: EVIL})
        manifest["validation"]["checks"][0].update(name=EVIL, summary=EVIL)

    edit_json(own / "index.json", index)
    for handle in (CLASSIFIER, EXTRACTOR, OTHER):
        edit_json(own / "models" / handle / "manifest.json", manifest)
        (own / "models" / handle / "README.md").write_text(
            f"# Module {handle}\n{EVIL}\n\n<!-- task: {EVIL} -->\n\n## {EVIL}\n\n"
            f"[a](javascript:alert(1)) ![b](https://evil.example/b.png) <b onclick='x'>\n\n"
            f"```python {EVIL}\n{EVIL}\n```\n\n| {EVIL} |\n|---|\n| {EVIL} |\n"
        )
    with served(own) as base:
        for path in ("/", f"/{CLASSIFIER}", f"/{EXTRACTOR}", "/unknown", f"/?q={'%3Cscript%3E'}"):
            page = parsed(ask(base, path, accept="text/html").text)
            sound(page)
            assert len(list(page.iter("script"))) == 1
            assert not list(page.iter("img"))
            assert not list(page.iter("b"))
            assert "12300369" not in text(page)
            for address in links(page).values():
                assert address.startswith(("/", "http://127.0.0.1:", "https://", "#")), address
            assert "<script>alert(1)</script>" in text(page.find(".//title"))
        assert len(cards(parsed(ask(base, "/").text))) == 3


def test_a_page_that_takes_long_to_read_is_not_served(own: Path) -> None:
    page = own / "models" / OTHER / "README.md"
    page.write_text("[" * LARGEST_PAGE)
    assert load(DirectorySource(own)).models[OTHER].page.startswith("[[[")
    page.write_text("[" * (LARGEST_PAGE + 1))
    with pytest.raises(ReleaseError, match=r"README\.md: is larger than 64 KiB"):
        load(DirectorySource(own))


def test_what_is_asked_for_is_shown_and_never_run(hub: str) -> None:
    page = parsed(ask(hub, "/%3Cscript%3Ealert(1)%3C/script%3E", accept="text/html").text)
    sound(page)
    assert "'/<script>alert(1)</script>'" in text(by_id(page, "main"))
    assert len(list(page.iter("script"))) == 1


def test_an_index_from_before_it_said_anything_about_itself_is_served(own: Path) -> None:
    def older(index: dict[str, Any]) -> None:
        del index["about"], index["checkpoints"]

    edit_json(own / "index.json", older)
    with served(own) as base:
        page = parsed(ask(base, "/").text)
        sound(page)
        assert len(cards(page)) == 3
        assert text(page.find(".//h1")) == "sayakpaul/collections/bit-resnet/1"
        sound(parsed(ask(base, f"/{CLASSIFIER}").text))


def test_what_an_index_will_hold_some_day_does_no_harm(own: Path) -> None:
    def newer(index: dict[str, Any]) -> None:
        index["more"] = {"a": 1}
        model(index)["more"] = [1]

    edit_json(own / "index.json", newer)
    assert len(load(DirectorySource(own)).models) == 3
    assert json.loads(load(DirectorySource(own)).files["index.json"])["more"] == {"a": 1}


def test_a_release_without_models_is_an_empty_catalogue(own: Path) -> None:
    edit_json(own / "index.json", lambda index: index.update(models=[]))
    with served(own) as base:
        page = parsed(ask(base, "/").text)
        sound(page)
        assert text(by_id(page, "count")) == "0 of 0 models"
        assert ask(base, f"/{CLASSIFIER}").status == 404


def test_a_link_in_place_of_the_index_is_not_followed(own: Path) -> None:
    moved = (own / "index.json").rename(own.parent / "index.json")
    (own / "index.json").symlink_to(moved)
    with pytest.raises(ReleaseError, match=r"index\.json: is a link"):
        application(DirectorySource(own))

"""What a browser shows: the catalogue, and a model's page at the model's own address."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from publisher.hub.app import application
from publisher.release.sources.directory import DirectorySource
from tests.hub.html import assets, by_id, cards, facts, links, parsed, sound, text
from tests.hub.releases import ask, edit_json, publish_into, served
from tests.releases import CLASSIFIER, EXTRACTOR, HANDLES, OTHER

SHORT = {handle.partition("/")[2]: handle for handle in HANDLES}
HTML = "text/html; charset=utf-8"


def page_of(base: str, path: str = "/") -> Any:
    answer = ask(base, path, accept="text/html")
    assert answer.headers["content-type"] == HTML
    page = parsed(answer.text)
    sound(page)
    return page


def manifest_of(release: Path, handle: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (release / "models" / handle / "manifest.json").read_bytes()
    )
    return content


def test_the_catalogue_shows_every_model_with_its_facts(hub: str, release: Path) -> None:
    page = page_of(hub)
    assert text(page.find(".//h1")) == "BiT-ResNet"
    found = cards(page)
    assert {SHORT[name] for name in found} == set(HANDLES)
    for name, card in found.items():
        manifest, shown = manifest_of(release, SHORT[name]), facts(card)
        assert shown["SHA-256"] == manifest["archive"]["sha256"]
        assert shown["Parameters"] == f"{manifest['parameters']:,}"
        assert shown["Archive"] == f"{manifest['archive']['size']} bytes"
        assert f"{manifest['resolution']}\u00d7{manifest['resolution']}" in text(card)
        assert links(card)[name] == f"/{SHORT[name]}"
        assert f'hub.load("{hub}/{SHORT[name]}")' in text(card.find(".//pre"))


def test_a_checkpoints_heads_stand_together_and_lead_to_each_other(hub: str) -> None:
    page = page_of(hub)
    found = cards(page)
    assert [SHORT[name] for name in found] == [CLASSIFIER, EXTRACTOR, OTHER]
    assert links(found["small_classification/1"])[EXTRACTOR] == f"/{EXTRACTOR}"
    assert links(found["small_features/1"])[CLASSIFIER] == f"/{CLASSIFIER}"
    assert "Feature extractor" not in facts(found["other_classification/1"])
    assert links(page_of(hub, f"/{CLASSIFIER}"))[EXTRACTOR] == f"/{EXTRACTOR}"
    assert links(page_of(hub, f"/{EXTRACTOR}"))[CLASSIFIER] == f"/{CLASSIFIER}"


@pytest.mark.parametrize(
    ("query", "handles"),
    [
        ("q=features", {EXTRACTOR}),
        ("q=SMALL+classifier", {CLASSIFIER}),
        ("q=old_small", {CLASSIFIER}),
        ("q=imagenet-21k", {OTHER}),
        ("q=R20X0.5", set(HANDLES)),
        ("q=32x32", {OTHER}),
        ("q=no+such+model", set()),
        ("head=classifier", {CLASSIFIER, OTHER}),
        ("head=classifier&resolution=64", {CLASSIFIER}),
        ("architecture=R20x0.5", set(HANDLES)),
        ("architecture=R50x1", set()),
        ("architecture=&resolution=&head=&q=", set(HANDLES)),
        ("head=classifier&q=%20%20", {CLASSIFIER, OTHER}),
        ("other=parameter", set(HANDLES)),
        ("q=" + "x" * 5000, set()),
        ("head=classifier&head=feature_extractor", {EXTRACTOR}),
    ],
)
def test_the_server_searches_and_filters(hub: str, query: str, handles: set[str]) -> None:
    page = page_of(hub, f"/?{query}")
    assert {SHORT[name] for name in cards(page)} == handles
    assert text(by_id(page, "count")) == f"{len(handles)} of 3 models"
    assert ("hidden" in by_id(page, "none").attrib) == bool(handles)


def test_the_form_keeps_what_was_asked_for(hub: str) -> None:
    page = page_of(hub, "/?q=%22small%3C&head=classifier")
    assert by_id(page, "q").get("value") == '"small<'
    chosen = [option.get("value") for option in page.iter("option") if "selected" in option.attrib]
    assert chosen == ["classifier"]
    assert "hidden" not in by_id(page, "all").attrib
    assert "hidden" in by_id(page_of(hub), "all").attrib
    # The script has to bring what is not on the page.
    [form] = page.iter("form")
    assert (form.get("method"), form.get("action"), form.get("data-complete")) == ("get", "/", "no")


def test_filters_offer_what_there_is(hub: str) -> None:
    page = page_of(hub)
    offered = {
        select.get("name"): [option.get("value") for option in select]
        for select in page.iter("select")
    }
    assert offered == {
        "architecture": ["", "R20x0.5"],
        "resolution": ["", "32", "64"],
        "head": ["", "classifier", "feature_extractor"],
    }


def test_reported_accuracy_is_drawn_and_stands_in_a_table(hub: str) -> None:
    page = page_of(hub)
    wide, narrow = (image for image in page.iter("svg") if image.get("role") == "img")
    for image in (wide, narrow):
        titles = [text(title) for mark in image for title in mark.iter("title")][1:]
        assert titles == ["R20x0.5, 64 px: 80.5 (somebody)", "R20x0.5, 64 px: 81.25 (timm)"]
        assert "ImageNet-1k top-1" in text(image)
    [table] = page.iter("table")
    rows = [[text(cell) for cell in row] for row in table.iter("tr")]
    assert [row[2:] for row in rows] == [
        ["ImageNet-1k top-1", "Reported by"],
        ["80.5", "somebody"],
        ["81.25", "timm"],
    ]
    assert links(table)["timm"] == "https://example.org/b"
    assert "They do not apply to synthetic weights." in text(page.find(".//figcaption"))
    # Another metric is not on the same scale, but the card has it.
    assert "7.0 speed (somebody)" in facts(cards(page)["small_classification/1"])["Reported"]
    assert "Reported" not in facts(cards(page)["small_features/1"])


def test_without_reported_figures_nothing_is_drawn(tmp_path: Path) -> None:
    root = publish_into(tmp_path / "release", tmp_path / "work", only=OTHER)
    with served(root) as base:
        page = page_of(base)
        assert len(cards(page)) == 1
        assert not list(page.iter("figure"))


def test_the_models_page_is_at_its_own_address(hub: str, release: Path) -> None:
    page, manifest = page_of(hub, f"/{CLASSIFIER}"), manifest_of(release, CLASSIFIER)
    assert text(page.find(".//h1")) == CLASSIFIER
    assert f'hub.load("{hub}/{CLASSIFIER}")' in text(page.find(".//pre"))
    [aside] = page.iter("aside")
    shown = facts(aside)
    assert shown["SHA-256"] == manifest["archive"]["sha256"]
    assert shown["Input"] == "images float32 (batch, height, width, 3), RGB in [-1.0, 1.0]"
    assert shown["Output"] == "logits float32 (batch, 3)"
    assert shown["Parameters"] == f"{manifest['parameters']:,} in {manifest['variables']} variables"
    assert shown["Checks"] == "1 passed"
    assert shown["Made with"] == "tensorflow 2.21.0, numpy 2.1.0"
    assert shown["License"] == "apache-2.0"
    assert shown["Old spellings"] == "sayakpaul/old_small"
    assert shown["Fine-tunable"] == "yes"
    for name in ("manifest.json", "README.md"):
        assert ask(hub, links(aside)[name]).status == 200


def test_the_models_page_holds_its_whole_documentation(hub: str, release: Path) -> None:
    page = page_of(hub, f"/{CLASSIFIER}")
    readme = (release / "models" / CLASSIFIER / "README.md").read_text()
    headings = [text(heading) for heading in page.iter("h2")]
    assert headings[2:] == re.findall(r"^## (.*)$", readme, re.MULTILINE)
    assert "Made up." in text(page)
    assert "asset-path" not in text(page)
    assert "# Module" not in text(page)


def test_addresses_on_a_page_lead_to_this_hub(hub: str) -> None:
    answer = ask(hub, f"/{CLASSIFIER}")
    assert "https://storage.googleapis.com/bit-resnet-models/" not in answer.text
    archive = f"{hub}/models/{CLASSIFIER}/model.tar.gz"
    assert f'ADDRESS = "{archive}"' in text(parsed(answer.text))
    assert ask(hub, archive.removeprefix(hub)).status == 200
    assert f"curl --fail --location --output model.tar.gz {archive}" in text(parsed(answer.text))


def test_addresses_follow_the_host_that_is_asked(hub: str) -> None:
    assert f'hub.load("http://models.example:8080/{OTHER}")' in text(
        parsed(ask(hub, f"/{OTHER}", host="models.example:8080").text)
    )
    assert f'hub.load("http://[::1]:8000/{OTHER}")' in text(
        parsed(ask(hub, f"/{OTHER}", host="[::1]:8000").text)
    )


def test_a_public_address_takes_the_place_of_the_host(release: Path) -> None:
    with served(release, public="https://hub.example/bit/") as base:
        page = page_of(base, f"/{OTHER}")
        assert f'hub.load("https://hub.example/bit/{OTHER}")' in text(page)
        assert assets(page) == ["/bit/hub.svg", "/bit/hub.css", "/bit/hub.js"]
        assert ask(base, "/sayakpaul/old_small").headers["location"].startswith("/bit/sayakpaul/")


def test_a_hub_can_lie_below_a_path_of_another_server(release: Path) -> None:
    with served(application(DirectorySource(release)), root_path="/bit") as base:
        page = page_of(base, f"/{OTHER}")
        assert f'hub.load("{base}/bit/{OTHER}")' in text(page)
        assert assets(page) == ["/bit/hub.svg", "/bit/hub.css", "/bit/hub.js"]
        assert ask(base, "/hub.css").status == 200


@pytest.mark.parametrize("path", ["/", f"/{CLASSIFIER}", f"/{EXTRACTOR}", "/unknown"])
def test_no_page_needs_another_host(hub: str, path: str) -> None:
    needed = assets(page_of(hub, path))
    assert needed == ["/hub.svg", "/hub.css", "/hub.js"]
    for address in needed:
        content = ask(hub, address)
        assert content.status == 200
        if address != "/hub.svg":  # whose name space is an address
            assert "//" not in re.sub(r"^ *// .*$", "", content.text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", ["/", f"/{CLASSIFIER}", f"/{OTHER}", "/unknown", "/?q=none"])
def test_synthetic_weights_are_the_first_thing_that_a_page_says(hub: str, path: str) -> None:
    page = page_of(hub, path)
    body = text(page.find(".//body"))
    assert body.startswith("Skip to the content Synthetic weights. These are random numbers")


def test_a_card_says_that_its_model_is_synthetic(tmp_path: Path) -> None:
    root = publish_into(tmp_path / "release", tmp_path / "1", only=OTHER, synthetic=False)
    publish_into(root, tmp_path / "2", only=EXTRACTOR, synthetic=True)
    with served(root) as base:
        page = page_of(base)
        found = cards(page)
        assert "synthetic" in text(found["small_features/1"])
        assert "synthetic" not in text(found["other_classification/1"])
        assert text(page.find(".//header")).endswith("their predictions mean nothing.")
        assert "Synthetic weights." in text(page_of(base, f"/{EXTRACTOR}").find(".//header"))
        assert "ynthetic" not in text(page_of(base, f"/{OTHER}").find(".//header"))


def test_real_weights_are_not_called_synthetic(tmp_path: Path) -> None:
    root = publish_into(tmp_path / "release", tmp_path / "work", synthetic=False)
    with served(root) as base:
        for path in ("/", f"/{CLASSIFIER}", "/unknown"):
            assert "ynthetic" not in text(page_of(base, path))


def test_a_model_that_cannot_be_fine_tuned_says_so(own: Path) -> None:
    edit_json(
        own / "models" / CLASSIFIER / "manifest.json",
        lambda manifest: manifest.update(weight_standardization="folded"),
    )
    with served(own) as base:
        assert facts(page_of(base, f"/{CLASSIFIER}"))["Fine-tunable"] == "no, for prediction only"
        assert "for prediction only" in text(cards(page_of(base))["small_classification/1"])


def test_a_page_names_all_versions_of_its_model(tmp_path: Path) -> None:
    name = CLASSIFIER.removesuffix("/1")
    root = publish_into(tmp_path / "release", tmp_path / "1")
    publish_into(root, tmp_path / "2", (CLASSIFIER, f"{name}/2"))
    with served(root) as base:
        for version, other in (("1", "2"), ("2", "1")):
            [aside] = page_of(base, f"/{name}/{version}").iter("aside")
            assert facts(aside)["Versions"] == "2, 1"
            assert links(aside)[other] == f"/{name}/{other}"
        # The catalogue is about what is new.
        assert "small_classification/2" in cards(page_of(base))
        assert "small_classification/1" not in cards(page_of(base))


def test_a_page_is_sent_again_only_when_it_changed(hub: str) -> None:
    one, other = ask(hub, "/"), ask(hub, "/?head=classifier")
    assert one.headers["cache-control"] == "no-cache"
    assert one.headers["etag"] != other.headers["etag"]
    assert ask(hub, "/", if_none_match=one.headers["etag"]).status == 304
    assert ask(hub, "/", if_none_match=other.headers["etag"]).status == 200


def test_more_pages_than_are_kept_are_still_right(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.hub.routes.KEPT", 2)
    with served(release) as base:
        for _ in range(2):
            for query, count in (("", 3), ("?head=classifier", 2), ("?q=features", 1)):
                assert len(cards(page_of(base, f"/{query}"))) == count

"""A release that changes while it is served."""

import logging
from pathlib import Path

import pytest

from tests.hub.html import cards, links, parsed, text
from tests.hub.releases import ask, publish_into, served
from tests.releases import CLASSIFIER, EXTRACTOR, OTHER

NAME = CLASSIFIER.removesuffix("/1")


def shown(base: str) -> list[str]:
    return list(cards(parsed(ask(base, "/").text)))


def test_what_is_published_is_seen_without_a_restart(tmp_path: Path) -> None:
    root = publish_into(tmp_path / "release", tmp_path / "1", only=OTHER)
    with served(root) as base:
        assert shown(base) == ["other_classification/1"]
        assert ask(base, f"/{EXTRACTOR}").status == 404
        publish_into(root, tmp_path / "2", only=EXTRACTOR)
        assert shown(base) == ["small_features/1", "other_classification/1"]
        assert ask(base, f"/{EXTRACTOR}?tf-hub-format=compressed").status == 200


def test_a_new_version_becomes_the_newest(tmp_path: Path) -> None:
    root = publish_into(tmp_path / "release", tmp_path / "1")
    with served(root) as base:
        assert ask(base, f"/{NAME}").headers["location"] == f"/{CLASSIFIER}"
        publish_into(root, tmp_path / "2", (CLASSIFIER, f"{NAME}/2"))
        assert ask(base, f"/{NAME}").headers["location"] == f"/{NAME}/2"
        assert ask(base, f"/{CLASSIFIER}?tf-hub-format=compressed").status == 200


def test_a_page_that_changes_alone_is_seen_too(tmp_path: Path) -> None:
    """Then the index stays as it is."""
    root = publish_into(tmp_path / "release", tmp_path / "1")
    index = (root / "index.json").read_bytes()
    with served(root) as base:
        before = ask(base, f"/{OTHER}")
        assert "Made up as well." in before.text
        publish_into(root, tmp_path / "2", ("Made up as well.", "Made anew."))
        assert (root / "index.json").read_bytes() == index
        after = ask(base, f"/{OTHER}", if_none_match=before.headers["etag"])
        assert after.status == 200
        assert "Made anew." in after.text
        sums = ask(base, "/SHA256SUMS").body
        assert sums == (root / "SHA256SUMS").read_bytes()


@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_a_broken_index_leaves_the_release_as_it_was(
    own: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    good = (own / "index.json").read_bytes()
    with served(own) as base:
        before = shown(base)
        (own / "index.json").unlink()
        if content is not None:
            (own / "index.json").write_bytes(content)
        with caplog.at_level(logging.ERROR, "publisher.hub"):
            for _ in range(3):
                assert shown(base) == before
                assert ask(base, f"/{CLASSIFIER}?tf-hub-format=compressed").status == 200
        # Said once, and not at every request.
        [said] = [
            record.getMessage() for record in caplog.records if record.name == "publisher.hub"
        ]
        assert "still serving the last" in said
        assert "index.json" in said
        (own / "index.json").write_bytes(good.replace(b"R20x0.5", b"R20x0.7"))
        assert "R20x0.7 image classifier" in text(parsed(ask(base, "/").text))


def test_a_release_that_does_not_change_is_read_once(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from publisher.hub import live

    reads: list[object] = []
    load = live.load
    monkeypatch.setattr(live, "load", lambda source: (reads.append(source), load(source))[1])
    with served(own) as base:
        for path in ("/", f"/{CLASSIFIER}", "/", f"/{CLASSIFIER}?tf-hub-format=compressed"):
            assert ask(base, path).status == 200
    assert len(reads) == 1


def test_links_to_a_model_follow_its_newest_version(tmp_path: Path) -> None:
    root = publish_into(tmp_path / "release", tmp_path / "1")
    with served(root) as base:
        publish_into(root, tmp_path / "2", (CLASSIFIER, f"{NAME}/2"))
        assert f"{NAME}/2" in links(parsed(ask(base, f"/{EXTRACTOR}").text))

"""What a hub makes of a version that its publisher withdrew."""

from pathlib import Path

import pytest

from publisher.destinations.local.directory import Directory
from publisher.release.catalogue import load
from publisher.release.sources.directory import DirectorySource
from tests.hub.releases import ask, publish_into, served
from tests.releases import CLASSIFIER, EXTRACTOR, edited, publish, registry_of

NAME = CLASSIFIER.rpartition("/")[0]
NEXT = f"{NAME}/2"
REASON = "Wrong <class> names."
LINES = f"  - handle: {CLASSIFIER}\n    checkpoint: small\n    head: classifier\n"
SECOND = LINES.replace(CLASSIFIER, NEXT)


def withdraw(root: Path, work: Path, handle: str) -> None:
    """Withdraw one of the two versions of the classifier."""
    lines = LINES.replace(CLASSIFIER, handle)
    text = edited((LINES, SECOND + LINES)).replace(lines, f"{lines}    withdrawn: {REASON}\n")
    registry = registry_of(work, text)
    variants = [variant for variant in registry.variants if variant.handle == handle]
    publish(registry, [(variants[0], None, None)], Directory(root))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Two versions of the classifier, the newer one withdrawn."""
    root = publish_into(tmp_path / "release", tmp_path / "work", (LINES, SECOND + LINES))
    withdraw(root, tmp_path / "withdrawn", NEXT)
    return root


def test_a_name_leads_to_the_newest_version_that_is_not_withdrawn(release: Path) -> None:
    catalogue = load(DirectorySource(release))
    assert catalogue.newest[NAME] == CLASSIFIER
    assert catalogue.versions(NAME) == [CLASSIFIER, NEXT]


def test_where_all_are_withdrawn_a_name_leads_to_the_newest(release: Path, tmp_path: Path) -> None:
    registry = registry_of(
        tmp_path / "both",
        edited((LINES, SECOND + LINES))
        .replace(SECOND, f"{SECOND}    withdrawn: {REASON}\n")
        .replace(LINES, f"{LINES}    withdrawn: {REASON}\n"),
    )
    offers = [(v, None, None) for v in registry.variants if v.withdrawn]
    publish(registry, offers, Directory(release))
    assert load(DirectorySource(release)).newest[NAME] == NEXT


def test_its_page_says_so_and_why(release: Path) -> None:
    with served(release) as hub:
        page = ask(hub, f"/{NEXT}").text
        assert "<strong>Withdrawn: do not use this version.</strong>" in page
        assert "Wrong &lt;class&gt; names." in page
        assert "Withdrawn" not in ask(hub, f"/{EXTRACTOR}").text
        assert f"{NEXT.rpartition('/')[2]}</a> (withdrawn)" in ask(hub, f"/{CLASSIFIER}").text


def test_programs_that_load_it_go_on_working(release: Path) -> None:
    with served(release) as hub:
        answer = ask(hub, f"/{NEXT}?tf-hub-format=compressed")
    assert answer.status == 200
    assert answer.body == (release / "models" / NEXT / "model.tar.gz").read_bytes()

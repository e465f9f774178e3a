import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.destinations.base import DestinationError
from publisher.destinations.local.tfhub import TfhubCheckout
from publisher.destinations.open import open_destination
from publisher.pages import check_pages, document_path
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.release.publish import carry_out
from tests.releases import CLASSIFIER, HANDLES, build, edited, prepare, registry_of, times, tree

PAGE = "assets/docs/sayakpaul/small_classification/1.md"
THEIRS = {
    "README.md": b"# TF Hub\n",
    "assets/docs/google/google.md": b"# Publisher google\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What somebody cloned."""
    root = tmp_path / "tfhub.dev"
    for name, content in THEIRS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def destination(checkout: Path) -> TfhubCheckout:
    return opened(checkout)


def opened(checkout: Path) -> TfhubCheckout:
    target = Target(kind="tfhub", to=str(checkout))
    return TfhubCheckout("documentation", target, {}, checkout.parent / "folder")


def test_pages_are_written_and_replaced(destination: TfhubCheckout, checkout: Path) -> None:
    destination.write(PAGE, b"one\n")
    assert tree(checkout) == THEIRS | {PAGE: b"one\n"}
    assert destination.read(PAGE) == b"one\n"
    with (checkout / PAGE).open("rb") as reader:
        destination.write(PAGE, b"two\n")
        assert reader.read() == b"one\n"
    assert tree(checkout) == THEIRS | {PAGE: b"two\n"}
    when = times(checkout)
    destination.write(PAGE, b"two\n")
    assert times(checkout) == when


def test_two_publishers_do_not_write_at_once(destination: TfhubCheckout, checkout: Path) -> None:
    destination.write(PAGE, b"one\n")
    with pytest.raises(DestinationError, match="another publisher is writing here"):
        opened(checkout).write(PAGE, b"two\n")
    assert tree(checkout) == THEIRS | {PAGE: b"one\n"}


def test_it_holds_no_archives(destination: TfhubCheckout, checkout: Path) -> None:
    with pytest.raises(DestinationError, match=r"documentation: .* pages and no archives"):
        destination.add_version(CLASSIFIER, {"model.tar.gz": b""})
    assert tree(checkout) == THEIRS


@pytest.mark.parametrize("path", ["index.json", "README.md", "models/a/b/1/README.md", "", "/x"])
def test_nothing_outside_the_pages_is_read_or_written(
    path: str, destination: TfhubCheckout, checkout: Path
) -> None:
    assert destination.read(path) is None
    with pytest.raises(DestinationError, match="has its pages in assets/docs/; leave it out"):
        destination.write(path, b"new")
    assert tree(checkout) == THEIRS


@pytest.mark.parametrize("name", ["..", "../../../x", "a//b", ".git/x", "a\\b", "a\0b", ""])
def test_no_path_leads_out_of_the_pages(
    name: str, destination: TfhubCheckout, checkout: Path, tmp_path: Path
) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: destination.read(f"assets/docs/{name}"),
        lambda: destination.write(f"assets/docs/{name}", b"escaped"),
    ]
    for attempt in attempts:
        with pytest.raises(DestinationError, match="not a path within a release"):
            attempt()
    assert tree(checkout) == THEIRS


@pytest.mark.parametrize("place", ["assets", "assets/docs", "assets/docs/google"])
def test_no_link_is_followed(
    place: str, destination: TfhubCheckout, checkout: Path, tmp_path: Path
) -> None:
    (checkout / place).rename(tmp_path / "outside")
    (checkout / place).symlink_to(tmp_path / "outside")
    before = tree(tmp_path / "outside")
    path = "assets/docs/google/google.md"
    refusal = rf"^{re.escape(str(checkout / place))}: is a link"
    with pytest.raises(DestinationError, match=refusal):
        destination.read(path)
    with pytest.raises(DestinationError, match=refusal):
        destination.write(path, b"escaped")
    assert tree(tmp_path / "outside") == before


@pytest.mark.parametrize("there", ["nothing", "a folder", "a file in its place"])
def test_what_is_no_checkout_is_refused_and_not_made(there: str, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    if there == "a folder":
        root.mkdir()
    elif there == "a file in its place":
        (root / "assets").mkdir(parents=True)
        (root / "assets" / "docs").write_bytes(b"mine")
    before = times(tmp_path)
    destination = opened(root)
    attempts: list[Callable[[], object]] = [
        destination.check,
        lambda: destination.read(PAGE),
        lambda: destination.write(PAGE, b"new"),
    ]
    for attempt in attempts:
        with pytest.raises(DestinationError) as caught:
            attempt()
        assert str(caught.value).startswith(f"{root}: has no folder assets/docs/, so it is no")
        assert str(caught.value).endswith("correct `to` of documentation in models.yaml")
    assert times(tmp_path) == before


def test_a_checkout_that_cannot_be_written_is_told_before_any_work(
    destination: TfhubCheckout, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(DestinationError, match=r"tfhub\.dev: cannot be written; check its perm"):
        destination.check()


def test_all_pages_of_a_registry_come_and_then_there_is_nothing_to_do(
    checkout: Path, registry: Registry, tmp_path: Path
) -> None:
    text = f"destinations:\n  documentation:\n    kind: tfhub\n    to: {checkout}\nvariants:"
    registry = registry_of(tmp_path / "named", edited(("variants:", text)))
    built = build(registry, tmp_path / "build")

    def publish() -> list[str]:
        destination = open_destination(registry, "documentation", {}, tmp_path / "folder")
        assert isinstance(destination, TfhubCheckout)
        destination.check()
        known = {variant.handle: manifest for variant, manifest, _ in built}
        target = registry.destinations["documentation"]
        prepared = prepare(registry, built, destination, target=target, known=known)
        carry_out(prepared, destination)
        return [change.status for change in prepared.plan.changes]

    assert publish() == ["new"] * 3
    pages = {name: content.decode() for name, content in tree(checkout).items()}
    named = [*HANDLES, registry.collection.handle, registry.publisher.name]
    assert set(pages) == {*THEIRS, *map(document_path, named)}
    ours = {name: text for name, text in pages.items() if name not in THEIRS}
    assert check_pages(ours) == []
    when = times(checkout)
    assert publish() == ["unchanged"] * 3
    assert times(checkout) == when

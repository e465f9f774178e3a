"""What a publish does at the release directory and at each destination. Builds are stand-ins."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from publisher.destinations.base import DestinationError
from publisher.destinations.local.directory import Directory
from publisher.documents.plan import Plan
from publisher.registry import select
from publisher.release import pipeline
from publisher.release.pipeline import Planned, Published
from publisher.release.publish import Outcome
from publisher.release.settings import PublishSettings
from tests.builds import (
    CLASSIFIER_A,
    CLASSIFIER_B,
    EXTRACTOR_A,
    HANDLES,
    REGISTRY,
    Watcher,
    errors_of,
    project,
    real_weights,
    run_of,
)
from tests.commandline import folder
from tests.releases import tree
from tests.signing.conftest import Keys, keys, other_keys, sign

__all__ = ["folder", "keys", "other_keys"]  # fixtures

DESTINATIONS = """\
destinations:
  shelf: {kind: directory, to: shelf}
  small: {kind: directory, to: only_classifiers, only: ['*_classification']}
  pages: {kind: tfhub, to: checkout}
"""

Publish = Callable[..., Published]


@pytest.fixture(autouse=True)
def destinations(folder: Path) -> None:
    """Adds destinations to the registry of the current folder."""
    (folder / "checkout/assets/docs").mkdir(parents=True)
    project(folder, REGISTRY + DESTINATIONS)


def settings_of(options: dict[str, Any]) -> PublishSettings:
    """Take the settings out of the options."""
    release = Path(options.pop("release", "dist"))
    names = [field.name for field in fields(PublishSettings)]
    return PublishSettings(release, **{n: options.pop(n) for n in names if n in options})


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def publish(folder: Path, watcher: Watcher) -> Publish:
    """Publishes what the globs choose; further options are settings of the publish or the run."""

    def run(*globs: str, consent: Callable[[Plan], bool] | None = None, **options: Any) -> Any:
        settings = settings_of(options)
        build = folder / options.pop("build", "build")
        begun = run_of(folder / "models.yaml", build, reporter=watcher, **options)
        variants = select(begun.registry, globs)
        return pipeline.publish(begun, variants, settings, {}, consent or (lambda plan: True))

    return run


@pytest.fixture
def plan(folder: Path) -> Callable[..., Planned]:
    """Plans what `publish` would do with everything."""

    def run(**options: Any) -> Planned:
        settings = settings_of(options)
        begun = run_of(folder / "models.yaml", folder / "build")
        return pipeline.plan(begun, begun.registry.variants, settings, {})

    return run


def good(published: Published) -> list[Outcome]:
    """See that nothing went wrong, and return what came of the destinations."""
    assert errors_of(published.results) == {}
    assert published.refusal is None
    assert [change for change in published.changes if change.refused] == []
    for outcome in published.outcomes:
        assert outcome.error is None
        assert outcome.plan is not None
        assert outcome.plan.refused == []
    return list(published.outcomes)


def error_of(outcome: Outcome) -> str:
    assert outcome.did == "failed"
    return str(outcome.error)


# Destinations


def test_a_destination_gets_the_release_byte_for_byte(publish: Publish, folder: Path) -> None:
    [outcome] = good(publish(to=("shelf",)))
    assert (outcome.did, outcome.versions) == ("written", 4)
    assert tree(folder / "shelf") == tree(folder / "dist")


def test_all_destinations_are_named_with_a_star(publish: Publish) -> None:
    outcomes = good(publish(to=("pages", "*")))
    assert [outcome.name for outcome in outcomes] == ["pages", "shelf", "small"]


def test_a_destination_gets_only_what_models_yaml_says(publish: Publish, folder: Path) -> None:
    good(publish(to=("small",)))
    held = Directory(folder / "only_classifiers").manifests()
    assert sorted(held) == sorted([CLASSIFIER_A, CLASSIFIER_B])


def test_a_checkout_of_the_documentation_gets_pages(publish: Publish, folder: Path) -> None:
    good(publish(to=("pages",)))
    assert tree(folder / "checkout") == tree(folder / "dist/tfhub.dev")


def test_a_destination_that_cannot_be_written_is_found_before_anything_is_built(
    publish: Publish, folder: Path
) -> None:
    project(folder, REGISTRY + DESTINATIONS.replace("to: checkout", "to: nowhere"))
    before = tree(folder)
    with pytest.raises(DestinationError, match="nowhere"):
        publish(to=("pages",))
    assert tree(folder) == before


def test_without_consent_a_destination_stays_as_it_is(publish: Publish, folder: Path) -> None:
    asked: list[str] = []

    def no(plan: Plan) -> bool:
        asked.append(plan.destination)
        return False

    outcomes = good(publish(to=("shelf", "small"), consent=no))
    assert [outcome.did for outcome in outcomes] == ["declined", "declined"]
    assert asked == ["shelf", "small"]
    assert not (folder / "shelf").exists()
    assert (folder / "dist/index.json").exists()


def test_all_or_nothing_publishes_nothing_if_one_variant_fails(
    publish: Publish, folder: Path
) -> None:
    weights = str(real_weights(folder / "weights", ["a"]))
    published = publish(to=("shelf",), weights=weights, all_or_nothing=True)
    assert "nothing was published, because not every variant is good" in str(published.refusal)
    assert not (folder / "shelf").exists()
    assert not (folder / "dist/index.json").exists()
    published = publish(to=("shelf",), weights=weights)
    assert len(errors_of(published.results)) == 2
    assert sorted(Directory(folder / "shelf").manifests()) == sorted([CLASSIFIER_A, EXTRACTOR_A])


def test_all_or_nothing_publishes_nothing_if_one_version_is_refused_anywhere(
    publish: Publish, folder: Path
) -> None:
    # The second destination holds one of the versions with other bytes.
    weights = str(real_weights(folder / "weights", ["a", "b"]))
    good(publish("*_a_class*", to=("small",), build="other", release="other/dist"))
    before = tree(folder / "only_classifiers")
    published = publish(to=("shelf", "small"), weights=weights, all_or_nothing=True)
    said = str(published.refusal)
    assert said.startswith(f"nothing was published (--all-or-nothing): small: {CLASSIFIER_A}: ")
    assert not (folder / "shelf").exists()
    assert not (folder / "dist/index.json").exists()
    assert tree(folder / "only_classifiers") == before


def test_what_was_done_is_in_a_journal(publish: Publish, folder: Path) -> None:
    good(publish("*_a_class*", to=("shelf",)))
    lines = (folder / "build/destinations/shelf/journal.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    manifest = Directory(folder / "shelf").manifests()[CLASSIFIER_A]
    digest = manifest.archive.sha256
    assert [entry["did"] for entry in entries[:2]] == ["sends", "sent"]
    assert all(entry["sha256"] == digest for entry in entries[:2])
    assert entries[-2]["what"] == "SHA256SUMS"
    assert entries[-1]["did"] == "done"


# Plans


def test_a_plan_says_of_each_version_what_becomes_of_it(
    publish: Publish, plan: Callable[..., Planned], folder: Path
) -> None:
    def statuses() -> dict[str, str]:
        [found] = plan(to=("shelf",)).plans.plans
        return {change.handle: change.status for change in found.changes}

    good(publish())
    assert statuses() == dict.fromkeys(HANDLES, "new")
    good(publish(to=("shelf",)))
    assert statuses() == dict.fromkeys(HANDLES, "unchanged")
    reworded = (REGISTRY + DESTINATIONS).replace("training: Made up.", "training: Made well.", 1)
    project(folder, reworded)
    good(publish())
    changed = {CLASSIFIER_A: "page", EXTRACTOR_A: "page"}
    assert statuses() == {**dict.fromkeys(HANDLES, "unchanged"), **changed}


# What was built elsewhere


def test_what_was_built_in_parts_elsewhere_is_published_as_one(
    publish: Publish, folder: Path
) -> None:
    for part in ("a", "b"):
        good(publish(f"*_{part}_*", build=f"build {part}", release=f"part {part}"))
    good(publish(built=(Path("part a"), Path("part b")), to=("shelf",)))
    good(publish(release="whole"))
    assert tree(folder / "dist") == tree(folder / "whole") == tree(folder / "shelf")


@pytest.mark.parametrize("parts", [["a"], ["a", "b"]], ids=["one", "two"])
def test_a_folder_of_parts_stands_for_what_it_holds(
    publish: Publish, folder: Path, parts: list[str]
) -> None:
    globs = [f"*_{part}_*" for part in parts]
    for part, glob in zip(parts, globs, strict=True):
        good(publish(glob, release=f"parts/{part}"))
    (folder / "parts/notes").mkdir()  # no release
    good(publish(*globs, built=(Path("parts"),)))
    good(publish(*globs, release="whole"))
    assert tree(folder / "dist") == tree(folder / "whole")


@pytest.mark.parametrize("there", [True, False], ids=["empty", "missing"])
def test_without_any_part_every_variant_is_named(
    publish: Publish, folder: Path, there: bool
) -> None:
    if there:
        (folder / "parts").mkdir()
    errors = errors_of(publish(built=(Path("parts"),)).results)
    assert sorted(errors) == sorted(HANDLES)
    assert all("is not in parts; build it there first" in error for error in errors.values())
    assert not (folder / "dist/index.json").exists()


def test_a_part_of_another_checkpoint_is_not_published(publish: Publish, folder: Path) -> None:
    good(publish("*_a_class*", release="part"))
    manifest = folder / "part/models" / CLASSIFIER_A / "manifest.json"
    content: dict[str, Any] = json.loads(manifest.read_text())
    content["checkpoint"]["name"] = "b"
    manifest.write_text(json.dumps(content))
    errors = errors_of(publish("*_a_class*", built=(Path("part"),)).results)
    assert "part has it with another checkpoint or head" in errors[CLASSIFIER_A]


def test_a_withdrawal_needs_no_part(publish: Publish, folder: Path) -> None:
    good(publish())
    text = (folder / "models.yaml").read_text()
    line = f"handle: {CLASSIFIER_A}\n"
    (folder / "models.yaml").write_text(text.replace(line, f"{line}    withdrawn: Wrong.\n"))
    good(publish(CLASSIFIER_A, built=(Path("parts"),)))
    assert "Wrong." in (folder / "dist/models" / CLASSIFIER_A / "README.md").read_text()


def test_a_damaged_part_is_not_published(publish: Publish, folder: Path) -> None:
    good(publish("*_a_*", release="part"))
    archive = folder / "part/models" / CLASSIFIER_A / "model.tar.gz"
    content = archive.read_bytes()
    archive.unlink()
    archive.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    published = publish("*_a_*", built=(Path("part"),))
    [refused] = [change for change in published.changes if change.refused]
    assert "is not the archive that was built and checked" in refused.message
    assert list(Directory(folder / "dist").manifests()) == [EXTRACTOR_A]


def test_parts_that_differ_are_refused(publish: Publish, folder: Path) -> None:
    good(publish("*_a_*", release="part"))
    text = (folder / "models.yaml").read_text().replace("absolute: 1.0e-4", "absolute: 1.0e-3")
    (folder / "models.yaml").write_text(text)
    good(publish("*_a_*", release="other"))
    with pytest.raises(
        DestinationError, match="part and other hold different builds; leave one out"
    ):
        publish(built=(Path("part"), Path("other")))


# Signatures


@pytest.fixture
def signed(publish: Publish, folder: Path, keys: Keys) -> Path:
    """A release that is signed."""
    good(publish())
    sign(folder / "dist", keys)
    return folder / "dist"


def test_signatures_go_where_the_release_goes(signed: Path, publish: Publish, folder: Path) -> None:
    good(publish(to=("shelf",)))
    assert tree(folder / "shelf") == tree(signed)
    assert (folder / "shelf/index.sig").exists()
    [outcome] = good(publish(to=("shelf",)))
    assert outcome.did == "nothing"


def test_what_is_signed_later_is_added_to_what_is_there(
    publish: Publish, folder: Path, keys: Keys
) -> None:
    good(publish(to=("shelf",)))
    sign(folder / "dist", keys)
    [outcome] = good(publish(to=("shelf",)))
    assert outcome.plan is not None
    assert {change.status for change in outcome.plan.changes} == {"page"}
    assert tree(folder / "shelf") == tree(folder / "dist")


def test_a_signature_that_is_there_stays_when_somebody_signs_again(
    signed: Path, publish: Publish, folder: Path, other_keys: Keys
) -> None:
    good(publish(to=("shelf",)))
    before = tree(folder / "shelf")
    sign(signed, other_keys, again=True)
    [outcome] = publish(to=("shelf",)).outcomes
    assert outcome.plan is not None
    assert {change.status for change in outcome.plan.changes} == {"unchanged"}
    after = tree(folder / "shelf")
    for path in (f"models/{handle}/model.sig" for handle in HANDLES):
        assert after[path] == before[path]


def test_a_signed_index_is_not_replaced_by_an_unsigned_one(
    signed: Path, publish: Publish, folder: Path, watcher: Watcher, keys: Keys
) -> None:
    good(publish(to=("shelf",)))
    before = tree(folder / "shelf")
    text = (folder / "models.yaml").read_text()
    (folder / "models.yaml").write_text(text.replace("Made up.", "Made well."))
    [outcome] = publish(to=("shelf",)).outcomes
    said = error_of(outcome)
    assert "shelf: its index is signed, and the new index would not match" in said
    assert "run `publisher sign`, then publish all" in said
    assert watcher.warnings == [
        "dist is signed and has changed since; sign it again: publisher sign --release dist"
    ]
    assert tree(folder / "shelf") == before
    sign(signed, keys)
    good(publish(to=("shelf",)))
    assert tree(folder / "shelf") == tree(signed)

"""withdraw and bump, as a person types them. Builds are stand-ins."""

import json
from pathlib import Path

from tests.builds import CLASSIFIER_A, EXTRACTOR_A, REGISTRY, Finished, project
from tests.commandline import Command, command, folder, good, published
from tests.releases import tree
from tests.signing.conftest import new_keys

__all__ = ["command", "folder", "published"]  # fixtures

SHELF = "destinations:\n  shelf: {kind: directory, to: shelf}\n"
REASON = "The class names were those of another data set."
NOTICE = f"**Withdrawn: do not use this version.** {REASON}"


def test_a_version_is_withdrawn_in_models_yaml_in_the_index_and_on_its_pages(
    published: Finished, command: Command, folder: Path
) -> None:
    before = tree(folder / "dist")
    finished = good(command("withdraw", CLASSIFIER_A, "--reason", REASON))
    assert finished.stdout == (
        f"models.yaml: {CLASSIFIER_A} is withdrawn\ndist: marked as withdrawn\n"
    )
    assert f"    withdrawn: {REASON}\n" in (folder / "models.yaml").read_text()
    after = tree(folder / "dist")
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed >= {"index.json", "SHA256SUMS", f"models/{CLASSIFIER_A}/README.md"}
    assert f"models/{CLASSIFIER_A}/model.tar.gz" not in changed
    for path in (f"models/{CLASSIFIER_A}/README.md", f"tfhub.dev/assets/docs/{CLASSIFIER_A}.md"):
        assert NOTICE in after[path].decode()
    listed = json.loads(after["index.json"])["models"]
    assert {model["handle"]: model.get("withdrawn") for model in listed}[CLASSIFIER_A] == REASON


def test_a_second_time_changes_nothing(published: Finished, command: Command, folder: Path) -> None:
    good(command("withdraw", CLASSIFIER_A, "--reason", REASON))
    before = tree(folder)
    finished = good(command("withdraw", CLASSIFIER_A, "--reason", REASON))
    assert f"{CLASSIFIER_A} was already withdrawn" in finished.stdout
    assert tree(folder) == before


def test_a_destination_hears_of_it_as_well(
    published: Finished, command: Command, folder: Path
) -> None:
    project(folder, REGISTRY + SHELF)
    good(command("publish", "--weights", "synthetic", "--to", "shelf", "--yes"))
    arguments = ["withdraw", CLASSIFIER_A, "--reason", REASON, "--to", "shelf", "--yes"]
    finished = good(command(*arguments))
    assert "shelf: 0 new versions, " in finished.stdout
    assert tree(folder / "shelf") == tree(folder / "dist")


def test_at_a_signed_destination_it_has_to_be_signed_first(
    published: Finished, command: Command, folder: Path
) -> None:
    project(folder, REGISTRY + SHELF)
    new_keys(folder / "keys")
    to_shelf = ("--to", "shelf", "--yes")
    good(command("sign", "--key", "keys/key.pem"))
    good(command("publish", "--weights", "synthetic", *to_shelf))
    before = tree(folder)
    finished = command("withdraw", CLASSIFIER_A, "--reason", REASON, *to_shelf)
    assert finished.status == 1
    assert "shelf: its index is signed, and a withdrawal changes it" in finished.stderr
    assert tree(folder) == before

    good(command("withdraw", CLASSIFIER_A, "--reason", REASON))
    good(command("sign", "--key", "keys/key.pem"))
    good(command("publish", CLASSIFIER_A, "--release", "dist", *to_shelf))
    assert tree(folder / "shelf") == tree(folder / "dist")
    assert NOTICE in (folder / "shelf/models" / CLASSIFIER_A / "README.md").read_text()


def test_a_withdrawn_version_is_not_built_and_not_lost_by_the_next_publish(
    published: Finished, command: Command, folder: Path
) -> None:
    good(command("withdraw", CLASSIFIER_A, "--reason", REASON))
    before = tree(folder / "dist")
    finished = good(command("publish", "--weights", "synthetic"))
    [row] = [line for line in finished.stdout.splitlines() if line.startswith(CLASSIFIER_A)]
    assert row.split() == [CLASSIFIER_A, "withdrawn"]
    after = tree(folder / "dist")
    assert {path for path in {*before, *after} if before.get(path) != after.get(path)} == {
        # The page of its sibling no longer leads to it.
        f"models/{EXTRACTOR_A}/README.md",
        f"tfhub.dev/assets/docs/{EXTRACTOR_A}.md",
        "SHA256SUMS",
    }
    assert CLASSIFIER_A.encode() not in after[f"models/{EXTRACTOR_A}/README.md"]
    plan = good(command("plan", "--weights", "synthetic"))
    [row] = [line for line in plan.stdout.splitlines() if line.startswith(CLASSIFIER_A)]
    assert row.split() == [CLASSIFIER_A, "none", "withdrawn", "withdrawn"]


def test_an_unknown_handle_is_refused_with_near_ones(command: Command, folder: Path) -> None:
    before = tree(folder)
    finished = command("withdraw", "sayakpaul/small_a_classificatoin/1", "--reason", REASON)
    assert finished.status == 2
    assert f"near ones: {CLASSIFIER_A}" in finished.stderr
    assert tree(folder) == before


def test_a_reason_has_to_be_given(command: Command) -> None:
    finished = command("withdraw", CLASSIFIER_A)
    assert finished.status == 2
    assert "--reason" in finished.stderr


def test_versions_are_raised_where_they_stand(command: Command, folder: Path) -> None:
    finished = good(command("bump", "*_a_*"))
    assert finished.stdout.splitlines()[0] == f"{CLASSIFIER_A} -> {CLASSIFIER_A[:-1]}2"
    assert (folder / "models.yaml").read_text() == REGISTRY.replace(
        "small_a_classification/1", "small_a_classification/2"
    ).replace("small_a_features/1", "small_a_features/2")


def test_raising_everything_has_to_be_said(command: Command, folder: Path) -> None:
    before = tree(folder)
    finished = command("bump")
    assert finished.status == 2
    assert "'*' raises all" in finished.stderr
    assert tree(folder) == before

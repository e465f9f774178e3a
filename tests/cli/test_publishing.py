"""plan and publish with destinations besides the release directory. Builds are stand-ins."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from publisher.destinations.local.directory import Directory
from tests.builds import (
    CLASSIFIER_A,
    CLASSIFIER_B,
    EXTRACTOR_A,
    EXTRACTOR_B,
    HANDLES,
    REGISTRY,
    Finished,
    project,
    real_weights,
)
from tests.commandline import Command, command, folder, good, published
from tests.releases import tree
from tests.signing.conftest import new_keys

__all__ = ["command", "folder", "published"]  # fixtures

DESTINATIONS = """\
destinations:
  shelf:
    kind: directory
    to: shelf
  small:
    kind: directory
    to: only_classifiers
    only: ['*_classification']
  pages:
    kind: tfhub
    to: checkout
"""
SYNTHETIC = ("--weights", "synthetic")


@pytest.fixture(autouse=True)
def destinations(folder: Path) -> None:
    """Adds destinations to the registry of the current folder."""
    (folder / "checkout/assets/docs").mkdir(parents=True)
    project(folder, REGISTRY + DESTINATIONS)


def publish(command: Command, *arguments: str) -> Finished:
    return command("publish", *SYNTHETIC, "--yes", *arguments)


def test_a_destination_gets_the_release_byte_for_byte(command: Command, folder: Path) -> None:
    finished = good(publish(command, "--to", "shelf"))
    assert tree(folder / "shelf") == tree(folder / "dist")
    assert "shelf: 4 new versions, " in finished.stdout


def test_a_second_publish_changes_nothing_anywhere(command: Command, folder: Path) -> None:
    good(publish(command, "--to", "shelf", "--to", "pages"))
    before = tree(folder)
    finished = good(publish(command, "--to", "shelf", "--to", "pages"))
    assert "shelf: nothing to do\n" in finished.stdout
    assert "pages: nothing to do\n" in finished.stdout
    assert tree(folder) == before


def test_a_destination_gets_only_what_models_yaml_says(command: Command, folder: Path) -> None:
    good(publish(command, "--to", "small"))
    assert sorted(Directory(folder / "only_classifiers").manifests()) == sorted(
        [CLASSIFIER_A, CLASSIFIER_B]
    )


def test_a_checkout_of_the_documentation_gets_pages(command: Command, folder: Path) -> None:
    good(publish(command, "--to", "pages"))
    assert tree(folder / "checkout") == tree(folder / "dist/tfhub.dev")


def test_an_unknown_destination_is_an_error_before_anything_is_built(
    command: Command, folder: Path
) -> None:
    before = tree(folder)
    finished = publish(command, "--to", "shelv")
    assert finished.status == 1
    assert "'shelv' is no destination in models.yaml" in finished.stderr
    assert "shelf" in finished.stderr
    assert tree(folder) == before


def test_a_destination_that_cannot_be_written_is_found_before_anything_is_built(
    command: Command, folder: Path
) -> None:
    project(folder, REGISTRY + DESTINATIONS.replace("to: checkout", "to: nowhere"))
    before = tree(folder)
    finished = publish(command, "--to", "pages")
    assert finished.status == 1
    assert "nowhere" in finished.stderr
    assert tree(folder) == before


def test_where_nobody_can_be_asked_consent_has_to_be_given_before(
    command: Command, folder: Path
) -> None:
    before = tree(folder)
    finished = command("publish", *SYNTHETIC, "--to", "shelf")
    assert finished.status == 2
    assert "add --yes if so" in finished.stderr
    assert tree(folder) == before


class Terminal(io.StringIO):
    """A person's keyboard."""

    def isatty(self) -> bool:
        return True


def test_a_person_is_shown_the_plan_and_asked(
    published: Finished, command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["publish", *SYNTHETIC, "--to", "shelf"]
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    finished = command(*arguments)
    assert finished.status == 1
    asked = finished.stderr.index("Write this to shelf? [y/N]")
    shown = finished.stderr[:asked]
    assert f"{CLASSIFIER_A}  new: archive, manifest and page are put there" in shown
    assert "shelf: left as it is" in finished.stdout
    assert not (folder / "shelf").exists()
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    good(command(*arguments))
    assert tree(folder / "shelf") == tree(folder / "dist")


def test_a_dry_run_writes_nothing_anywhere(command: Command, folder: Path) -> None:
    before = tree(folder)
    finished = good(publish(command, "--to", "shelf", "--dry-run"))
    assert "IN shelf" in finished.stdout
    assert "decided once it is built" in finished.stdout
    assert tree(folder) == before
    good(publish(command))
    before = tree(folder)
    finished = good(publish(command, "--to", "shelf", "--dry-run"))
    assert "new: archive, manifest and page are put there" in finished.stdout
    assert tree(folder) == before


def plans(command: Command, *arguments: str) -> list[dict[str, Any]]:
    finished = good(command("plan", *SYNTHETIC, "--json", *arguments))
    found: list[dict[str, Any]] = json.loads(finished.stdout)["destinations"]
    return found


def test_a_plan_says_of_each_version_what_becomes_of_it(
    published: Finished, command: Command, folder: Path
) -> None:
    [before] = plans(command, "--to", "shelf")
    assert {change["handle"]: change["status"] for change in before["changes"]} == dict.fromkeys(
        HANDLES, "new"
    )
    good(publish(command, "--to", "shelf"))
    [after] = plans(command, "--to", "shelf")
    assert {change["status"] for change in after["changes"]} == {"unchanged"}
    assert after["writes"] == []
    reworded = (REGISTRY + DESTINATIONS).replace("training: Made up.", "training: Made well.", 1)
    project(folder, reworded)
    good(publish(command))
    [page] = plans(command, "--to", "shelf")
    assert {change["handle"]: change["status"] for change in page["changes"]} == {
        CLASSIFIER_A: "page",
        EXTRACTOR_A: "page",
        CLASSIFIER_B: "unchanged",
        EXTRACTOR_B: "unchanged",
    }


def test_a_plan_as_markdown_is_for_a_pull_request(published: Finished, command: Command) -> None:
    finished = good(command("plan", *SYNTHETIC, "--to", "shelf", "--markdown"))
    assert "### dist\n\nNothing to do.\n" in finished.stdout
    assert "### shelf" in finished.stdout
    assert (
        f"| `{CLASSIFIER_A}` | new: archive, manifest and page are put there |" in finished.stdout
    )


def test_a_saved_plan_is_carried_out_once_it_is_still_true(
    published: Finished, command: Command, folder: Path
) -> None:
    good(command("plan", *SYNTHETIC, "--to", "shelf", "--output", "plan.json", "*_a_*"))
    good(publish(command, "--plan", "plan.json"))
    assert sorted(Directory(folder / "shelf").manifests()) == sorted([CLASSIFIER_A, EXTRACTOR_A])
    before = tree(folder / "shelf")
    refused = publish(command, "--plan", "plan.json")
    assert refused.status == 1
    assert "shelf: is no longer as the plan has it" in refused.stderr
    assert f"{CLASSIFIER_A} was 'new' and is 'unchanged'" in refused.stderr
    assert tree(folder / "shelf") == before


def test_a_plan_of_what_is_not_built_is_not_saved(command: Command, folder: Path) -> None:
    finished = command("plan", *SYNTHETIC, "--to", "shelf", "--output", "plan.json")
    assert finished.status == 1
    assert "run `publisher build` first" in finished.stderr
    assert not (folder / "plan.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--output", "plan.json"], "name one with --to"),
        (["publish", "--plan", "plan.json", "--to", "shelf"], "give no HANDLE and no --to"),
        (["publish", "--plan", "plan.json", "*_a_*"], "give no HANDLE and no --to"),
    ],
)
def test_options_that_contradict_are_refused(
    command: Command, arguments: list[str], said: str
) -> None:
    finished = command(*arguments, *SYNTHETIC)
    assert finished.status == 2
    assert said in finished.stderr


def test_a_version_with_other_bytes_is_refused_there_and_the_others_go_on(
    command: Command, folder: Path
) -> None:
    good(publish(command, "--to", "shelf", "*_a_class*"))
    text = (REGISTRY + DESTINATIONS).replace("classes: 10", "classes: 9", 1)
    (folder / "names9.txt").write_text("".join(f"class {number}\n" for number in range(9)))
    project(folder, text.replace("class_names: names.txt", "class_names: names9.txt", 1))
    finished = publish(command, "--to", "shelf", "--release", "dist 2")
    assert finished.status == 1
    assert f"{CLASSIFIER_A}: shelf holds this version with other bytes" in finished.stderr
    assert sorted(Directory(folder / "shelf").manifests()) == sorted(HANDLES)


def test_all_or_nothing_publishes_nothing_if_one_variant_fails(
    command: Command, folder: Path
) -> None:
    real_weights(folder / "weights", ["a"])
    arguments = ["publish", "--weights", "weights", "--yes", "--to", "shelf"]
    finished = command(*arguments, "--all-or-nothing")
    assert finished.status == 1
    assert "nothing was published, because not every variant is good" in finished.stderr
    assert not (folder / "shelf").exists()
    assert not (folder / "dist/index.json").exists()
    finished = command(*arguments)
    assert finished.status == 1
    assert sorted(Directory(folder / "shelf").manifests()) == sorted([CLASSIFIER_A, EXTRACTOR_A])


def test_what_was_done_is_in_a_journal(command: Command, folder: Path) -> None:
    good(publish(command, "--to", "shelf", "*_a_class*"))
    lines = (folder / "build/destinations/shelf/journal.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    manifest = Directory(folder / "shelf").manifests()[CLASSIFIER_A]
    digest = manifest.archive.sha256
    assert [entry["did"] for entry in entries[:2]] == ["sends", "sent"]
    assert all(entry["sha256"] == digest for entry in entries[:2])
    assert entries[-2]["what"] == "SHA256SUMS"
    assert entries[-1]["did"] == "done"


def test_what_was_built_in_parts_elsewhere_is_published_as_one(
    command: Command, folder: Path
) -> None:
    for part in ("a", "b"):
        arguments = ["--build-dir", f"build {part}", "--release", f"part {part}"]
        good(command("publish", *SYNTHETIC, *arguments, f"*_{part}_*"))
    parts = ["--built", "part a", "--built", "part b"]
    finished = good(command("publish", *parts, "--to", "shelf", "--yes"))
    assert "4 of 4 variants good in dist" in finished.stdout
    good(command("publish", *SYNTHETIC, "--release", "whole"))
    assert tree(folder / "dist") == tree(folder / "whole") == tree(folder / "shelf")


def test_a_part_that_is_missing_is_named_and_the_rest_goes_on(
    command: Command, folder: Path
) -> None:
    good(command("publish", *SYNTHETIC, "--release", "part", "*_a_*"))
    finished = command("publish", "--built", "part")
    assert finished.status == 1
    assert f"{CLASSIFIER_B}: is not in part; build it there first" in finished.stderr
    assert sorted(Directory(folder / "dist").manifests()) == sorted([CLASSIFIER_A, EXTRACTOR_A])


@pytest.mark.parametrize("parts", [["a"], ["a", "b"]], ids=["one", "two"])
def test_a_folder_of_parts_stands_for_what_it_holds(
    command: Command, folder: Path, parts: list[str]
) -> None:
    for part in parts:
        good(command("publish", *SYNTHETIC, "--release", f"parts/{part}", f"*_{part}_*"))
    (folder / "parts/notes").mkdir()  # no release
    globs = [f"*_{part}_*" for part in parts]
    good(command("publish", "--built", "parts", *globs))
    good(command("publish", *SYNTHETIC, "--release", "whole", *globs))
    assert tree(folder / "dist") == tree(folder / "whole")


@pytest.mark.parametrize("there", [True, False], ids=["empty", "missing"])
def test_without_any_part_every_variant_is_named(
    command: Command, folder: Path, there: bool
) -> None:
    if there:
        (folder / "parts").mkdir()
    finished = command("publish", "--built", "parts")
    assert finished.status == 1
    assert finished.stderr.count("is not in parts; build it there first") == 4
    assert not (folder / "dist/index.json").exists()


def test_a_withdrawal_needs_no_part(published: Finished, command: Command, folder: Path) -> None:
    text = (folder / "models.yaml").read_text()
    line = f"handle: {CLASSIFIER_A}\n"
    (folder / "models.yaml").write_text(text.replace(line, f"{line}    withdrawn: Wrong.\n"))
    good(command("publish", "--built", "parts", CLASSIFIER_A))
    assert "Wrong." in (folder / "dist/models" / CLASSIFIER_A / "README.md").read_text()


def test_a_withdrawal_is_taken_back_only_if_somebody_says_so(
    published: Finished, command: Command, folder: Path
) -> None:
    before, text = tree(folder / "dist"), (folder / "models.yaml").read_text()
    good(command("withdraw", CLASSIFIER_A, "--reason", "Wrong class names."))
    (folder / "models.yaml").write_text(text)
    for words in (["plan"], ["publish"], ["publish", "--dry-run"]):
        finished = command(*words, *SYNTHETIC)
        assert finished.status == 1
        assert f"{CLASSIFIER_A}: is withdrawn at " in finished.stderr
        assert "(Wrong class names.), and models.yaml does not say so" in finished.stderr
    good(command("plan", *SYNTHETIC, "--reinstate"))
    good(command("publish", *SYNTHETIC, "--reinstate"))
    assert tree(folder / "dist") == before


def test_a_damaged_part_is_not_published(command: Command, folder: Path) -> None:
    good(command("publish", *SYNTHETIC, "--release", "part", "*_a_*"))
    archive = folder / "part/models" / CLASSIFIER_A / "model.tar.gz"
    content = archive.read_bytes()
    archive.unlink()
    archive.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    finished = command("publish", "--built", "part", "*_a_*")
    assert finished.status == 1
    assert "is not the archive that was built and checked" in finished.stderr
    assert list(Directory(folder / "dist").manifests()) == [EXTRACTOR_A]


def test_parts_that_differ_are_refused(command: Command, folder: Path) -> None:
    good(command("publish", *SYNTHETIC, "--release", "part", "*_a_*"))
    text = (folder / "models.yaml").read_text().replace("absolute: 1.0e-4", "absolute: 1.0e-3")
    (folder / "models.yaml").write_text(text)
    good(command("publish", *SYNTHETIC, "--release", "other", "*_a_*"))
    finished = command("publish", "--built", "part", "--built", "other")
    assert finished.status == 1
    assert "part and other hold it, and differ; leave one out" in finished.stderr


@pytest.fixture
def signed(published: Finished, command: Command, folder: Path) -> str:
    """A release that is signed, and the path of the key."""
    new_keys(folder / "keys")
    key = "keys/key.pem"
    good(command("sign", "dist", "--key", key))
    return key


def test_signatures_go_where_the_release_goes(signed: str, command: Command, folder: Path) -> None:
    good(publish(command, "--to", "shelf"))
    assert tree(folder / "shelf") == tree(folder / "dist")
    assert (folder / "shelf/index.sig").exists()
    assert "shelf: nothing to do\n" in good(publish(command, "--to", "shelf")).stdout


def test_what_is_signed_later_is_added_to_what_is_there(
    published: Finished, command: Command, folder: Path
) -> None:
    good(publish(command, "--to", "shelf"))
    new_keys(folder / "keys")
    good(command("sign", "dist", "--key", "keys/key.pem"))
    [plan] = plans(command, "--to", "shelf")
    assert {change["status"] for change in plan["changes"]} == {"page"}
    good(publish(command, "--to", "shelf"))
    assert tree(folder / "shelf") == tree(folder / "dist")


def test_a_signature_that_is_there_stays_when_somebody_signs_again(
    signed: str, command: Command, folder: Path
) -> None:
    good(publish(command, "--to", "shelf"))
    before = tree(folder / "shelf")
    new_keys(folder / "others")
    good(command("sign", "dist", "--key", "others/key.pem", "--again"))
    [plan] = plans(command, "--to", "shelf")
    assert {change["status"] for change in plan["changes"]} == {"unchanged"}
    refused = publish(command, "--to", "shelf")
    assert refused.status in (0, 1)
    after = tree(folder / "shelf")
    handles = [f"models/{handle}/model.sig" for handle in HANDLES]
    assert {path: after[path] for path in handles} == {path: before[path] for path in handles}


def test_a_signed_index_is_not_replaced_by_an_unsigned_one(
    signed: str, command: Command, folder: Path
) -> None:
    good(publish(command, "--to", "shelf"))
    before = tree(folder / "shelf")
    text = (folder / "models.yaml").read_text()
    (folder / "models.yaml").write_text(text.replace("Made up.", "Made well."))
    finished = publish(command, "--to", "shelf")
    assert finished.status == 1
    assert "shelf: its index is signed, and what would be there is not" in finished.stderr
    assert "after `publisher sign`" in finished.stderr
    assert "warning: dist is signed and has changed since; sign it again" in finished.stderr
    assert tree(folder / "shelf") == before
    good(command("sign", "dist", "--key", signed))
    good(publish(command, "--to", "shelf"))
    assert tree(folder / "shelf") == tree(folder / "dist")

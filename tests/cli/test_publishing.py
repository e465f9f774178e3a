"""plan and publish with destinations besides the release directory. Builds are stand-ins."""

import io
from pathlib import Path

import pytest

from publisher.destinations.local.directory import Directory
from tests.builds import (
    CLASSIFIER_A,
    CLASSIFIER_B,
    EXTRACTOR_A,
    HANDLES,
    REGISTRY,
    Finished,
    project,
)
from tests.commandline import Command, command, folder, good, published
from tests.releases import tree

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


def test_a_second_publish_changes_nothing_anywhere(command: Command, folder: Path) -> None:
    good(publish(command, "--to", "shelf", "--to", "pages"))
    before = tree(folder)
    finished = good(publish(command, "--to", "shelf", "--to", "pages"))
    assert "shelf: nothing to do\n" in finished.stdout
    assert "pages: nothing to do\n" in finished.stdout
    assert tree(folder) == before


def test_an_unknown_destination_is_an_error_before_anything_is_built(
    command: Command, folder: Path
) -> None:
    before = tree(folder)
    finished = publish(command, "--to", "shelv")
    assert finished.status == 1
    assert "'shelv' is no destination in models.yaml" in finished.stderr
    assert "shelf" in finished.stderr
    assert tree(folder) == before


@pytest.mark.parametrize("verb", [("publish", "--yes"), ("plan",), ("publish", "--dry-run")])
def test_all_that_is_wrong_is_said_before_anything_is_built(
    command: Command, folder: Path, verb: tuple[str, ...]
) -> None:
    template = folder / "templates/tfhub/module.md.j2"
    template.write_text("{% if %}")
    before = tree(folder)
    finished = command(*verb, *SYNTHETIC, "--to", "shelf", "--to", "shelv", "--to", "book")
    assert finished.status == 2
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(" ")[1] for line in errors] == [f"{template}:1:", "'shelv'", "'book'"]
    assert tree(folder) == before


def test_what_is_wrong_with_a_build_is_said_before_it_begins(
    command: Command, folder: Path
) -> None:
    (folder / "templates/tfhub/publisher.md.j2").write_text("{% if %}")
    before = tree(folder)
    finished = command("build", *SYNTHETIC)
    assert finished.status == 2
    assert "publisher.md.j2:1: " in finished.stderr
    assert tree(folder) == before


def test_where_nobody_can_be_asked_consent_has_to_be_given_before(
    command: Command, folder: Path
) -> None:
    before = tree(folder)
    finished = command("publish", *SYNTHETIC, "--to", "shelf")
    assert finished.status == 2
    assert "this is no terminal; add --yes" in finished.stderr
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


def test_what_comes_of_destinations_is_there_for_machines(
    published: Finished, command: Command
) -> None:
    [plan] = good(command("plan", *SYNTHETIC, "--to", "shelf", "--json")).document["destinations"]
    assert {change["status"] for change in plan["changes"]} == {"new"}
    document = good(publish(command, "--to", "shelf", "--json")).document
    [outcome] = document["destinations"]
    assert (outcome["destination"], outcome["plan"], outcome["done"]) == ("shelf", plan, True)
    assert outcome["message"].startswith("4 new versions, ")
    assert {row["build"] for row in document["variants"]} == {"up to date"}


def test_a_destination_that_fails_is_told_and_ends_with_1(
    published: Finished, command: Command, folder: Path
) -> None:
    good(publish(command, "--to", "shelf"))
    (folder / "shelf/models" / CLASSIFIER_A / "manifest.json").write_text("{}")
    finished = publish(command, "--to", "shelf", "--to", "small")
    assert finished.status == 1
    assert "shelf: failed\nsmall: 2 new versions, " in finished.stdout
    assert "damaged: manifest.json" in finished.stderr


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
    good(command("plan", *SYNTHETIC, "--to", "shelf", "--save", "plan.json", "*_a_*"))
    good(publish(command, "--plan", "plan.json"))
    assert sorted(Directory(folder / "shelf").manifests()) == sorted([CLASSIFIER_A, EXTRACTOR_A])
    before = tree(folder / "shelf")
    refused = publish(command, "--plan", "plan.json")
    assert refused.status == 1
    assert "shelf: the saved plan no longer applies" in refused.stderr
    assert f"{CLASSIFIER_A} was 'new' and is 'unchanged'" in refused.stderr
    assert tree(folder / "shelf") == before


def test_a_plan_of_what_is_not_built_is_not_saved(command: Command, folder: Path) -> None:
    finished = command("plan", *SYNTHETIC, "--to", "shelf", "--save", "plan.json")
    assert finished.status == 1
    assert "run `publisher build` first" in finished.stderr
    assert not (folder / "plan.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--save", "plan.json"], "name one with --to"),
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


def test_a_part_that_is_missing_is_named_and_the_rest_goes_on(
    command: Command, folder: Path
) -> None:
    good(command("publish", *SYNTHETIC, "--release", "part", "*_a_*"))
    finished = command("publish", "--built", "part")
    assert finished.status == 1
    assert f"{CLASSIFIER_B}: is not in part; build it there first" in finished.stderr
    assert sorted(Directory(folder / "dist").manifests()) == sorted([CLASSIFIER_A, EXTRACTOR_A])


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

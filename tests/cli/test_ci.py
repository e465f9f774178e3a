"""`publisher ci`, as the workflows call it. Builds are stand-ins."""

import json
import shutil
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
)
from tests.commandline import Command, command, folder, good, published
from tests.releases import tree
from tests.signing.conftest import Keys, keys

__all__ = ["command", "folder", "keys", "published"]  # fixtures

DESTINATIONS = """\
destinations:
  pages: {kind: tfhub, to: checkout}
  shelf: {kind: directory, to: shelf}
"""
SYNTHETIC = ("--weights", "synthetic")
SHA256 = "5" * 64


@pytest.fixture(autouse=True)
def destinations(folder: Path) -> None:
    """Adds destinations to the registry of the current folder."""
    (folder / "checkout/assets/docs").mkdir(parents=True)
    project(folder, REGISTRY + DESTINATIONS)


def reworded() -> str:
    """Return the registry with another word on the pages of one checkpoint."""
    return (REGISTRY + DESTINATIONS).replace("training: Made up.", "training: Made well.", 1)


def job(name: str, *handles: str, weights: str = "unrecorded") -> dict[str, str]:
    return {"name": name, "handles": " ".join(handles), "weights": weights}


def test_globs_may_come_in_one_word(command: Command) -> None:
    found = good(
        command("ci", "matrix", " *_a_class*  *_b_feat* ", "--to", "shelf pages shelf")
    ).document
    assert found == {
        "parts": [
            {"name": "1 of 1", "checkpoints": [job("a", CLASSIFIER_A), job("b", EXTRACTOR_B)]}
        ],
        "only": "*_a_class* *_b_feat*",
        "to": "shelf pages",
    }


def test_outputs_are_lines_for_the_next_job(command: Command) -> None:
    finished = good(command("ci", "matrix", "*_a_class*", "--to", "shelf", "--github-output"))
    parts, only, to = finished.stdout.splitlines()
    assert json.loads(parts.removeprefix("parts=")) == [
        {"name": "1 of 1", "checkpoints": [job("a", CLASSIFIER_A)]}
    ]
    assert (only, to) == ("only=*_a_class*", "to=shelf")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["$(shell id)*"], 2, "'$(shell' is no glob over handles"),
        (["*'; id; '"], 2, "is no glob over handles"),
        (["*\u00e4"], 2, "is no glob over handles"),
        (["*_c_*"], 2, "no handle matches '*_c_*'"),
        (["--to", "  "], 1, "no destination is named, so nothing would be published"),
        (["--to", "shelf $(id)"], 1, "'$(id)' is no destination in models.yaml"),
    ],
)
def test_what_a_person_may_type_into_a_form_is_not_trusted(
    command: Command, arguments: list[str], status: int, said: str
) -> None:
    finished = command("ci", "matrix", *arguments, "--github-output")
    assert finished.status == status
    assert said in finished.stderr
    assert finished.stdout == ""


def sent(command: Command, keys: Keys, *globs: str) -> None:
    """Publish to the shelf what `part` holds, as the last job of a release does."""
    options = ["--built", "part", "--yes", *globs]
    good(command("publish", *options))
    good(command("sign", "--key", keys.private))
    good(command("publish", *options, "--to", "shelf"))


def require_signed(command: Command, keys: Keys) -> None:
    """See that all of the shelf is signed; what was built here are no models."""
    findings = command("verify", "--release", "shelf", "--key", keys.public, "--json").document[
        "findings"
    ]
    statuses = {finding["what"]: finding["status"] for finding in findings}
    assert statuses["signature"] == statuses["SHA256SUMS"] == statuses["digest"] == "proved"


@pytest.fixture
def first(command: Command, folder: Path, keys: Keys) -> Path:
    """The shelf after a first release, made on a machine that is gone."""
    good(command("publish", *SYNTHETIC, "--release", "part"))
    sent(command, keys)
    for name in ("dist", "part", "build"):
        shutil.rmtree(folder / name)
    return folder / "shelf"


def raised(command: Command, *globs: str) -> None:
    """Raise versions, and build them on a machine that is new."""
    good(command("bump", *globs))
    good(command("publish", *SYNTHETIC, "--release", "part"))


def test_a_new_machine_goes_on_with_what_a_destination_holds(
    command: Command, folder: Path, keys: Keys, first: Path
) -> None:
    raised(command, "*_a_class*")
    finished = good(command("ci", "pull", "--from", "pages", "--from", "shelf", "--built", "part"))
    assert finished.stdout == "dist: has the 4 versions that shelf holds\n"
    assert tree(folder / "dist") == tree(first)
    sent(command, keys)
    after = Directory(first).manifests()
    assert sorted(after) == sorted([*HANDLES, CLASSIFIER_A.replace("/1", "/2")])
    require_signed(command, keys)


def test_without_that_a_signed_index_is_not_made_a_lie(
    command: Command, keys: Keys, first: Path
) -> None:
    raised(command, "*_a_class*")
    good(command("publish", "--built", "part"))
    good(command("sign", "--key", keys.private))
    finished = command("publish", "--built", "part", "--to", "shelf", "--yes")
    assert finished.status == 1
    assert "its index is signed" in finished.stderr


def test_a_page_that_changed_is_signed_with_what_was_signed_before(
    command: Command, folder: Path, keys: Keys, first: Path
) -> None:
    signed = (first / "models" / CLASSIFIER_A / "model.sig").read_bytes()
    project(folder, reworded())
    good(command("publish", *SYNTHETIC, "--release", "part"))
    good(command("ci", "pull", "--from", "shelf", "--built", "part"))
    sent(command, keys)
    assert (first / "models" / CLASSIFIER_A / "model.sig").read_bytes() == signed
    require_signed(command, keys)


def test_a_second_pull_changes_nothing(command: Command, folder: Path, first: Path) -> None:
    good(command("ci", "pull", "--from", "shelf"))
    before = tree(folder)
    good(command("ci", "pull", "--from", "shelf"))
    assert tree(folder) == before


def test_before_the_first_release_there_is_nothing_to_pull(command: Command, folder: Path) -> None:
    finished = good(command("ci", "pull", "--from", "pages", "--from", "shelf"))
    assert finished.stdout == "no release is there yet: pages, shelf\n"
    assert not (folder / "dist/index.json").exists()
    assert good(command("ci", "pull", "--json")).document == {"destination": None, "handles": []}


def test_a_directory_with_other_bytes_is_not_pulled_into(
    command: Command, folder: Path, first: Path
) -> None:
    text = (REGISTRY + DESTINATIONS).replace("classes: 10", "classes: 9", 1)
    (folder / "names9.txt").write_text("".join(f"class {number}\n" for number in range(9)))
    project(folder, text.replace("class_names: names.txt", "class_names: names9.txt", 1))
    good(command("publish", *SYNTHETIC))
    finished = command("ci", "pull", "--from", "shelf")
    assert finished.status == 1
    assert f"{CLASSIFIER_A}: " in finished.stderr
    assert "pull into an empty release directory" in finished.stderr


def test_a_review_has_the_plans_the_checks_and_the_pages_that_changed(
    published: Finished, command: Command, folder: Path
) -> None:
    good(command("publish", *SYNTHETIC, "--to", "shelf", "--yes", "*_b_*"))
    project(folder, reworded())
    good(command("publish", *SYNTHETIC))
    project(folder / "base", REGISTRY)
    base = ["--registry", "base/models.yaml", "--output", "before"]
    assert good(command("ci", "pages", *base)).stdout == "before: 6 pages\n"
    shown = good(command("ci", "review", "--to", "*", "--before", "before")).stdout
    plans, _, rest = shown.partition("### Checks")
    checks, _, pages = rest.partition("### Pages")
    assert f"| `{CLASSIFIER_A}` | new: archive, manifest and page are put there |" in plans
    assert f"| `{CLASSIFIER_B}` | unchanged |" in plans
    assert plans.index("### pages") < plans.index("### shelf")
    assert f"| `{CLASSIFIER_A}` | 2 | 0 | largest error 2.4e-05, bound 1.0e-04 |" in checks
    assert "The weights are synthetic: random numbers." in checks
    assert f"<summary>assets/docs/{CLASSIFIER_A}.md: changed</summary>" in pages
    assert "\n-Made up.\n+Made well.\n" in pages
    assert CLASSIFIER_B not in pages


def test_pages_that_cannot_be_compared_are_not_called_new(
    published: Finished, command: Command, folder: Path
) -> None:
    finished = command("ci", "review", "--before", "nowhere")
    assert finished.status == 1
    assert "nowhere: is not there; see the step" in finished.stderr
    pages = finished.stdout.partition("### Pages")[2]
    assert pages.startswith("\n\nNot compared:\n")
    assert CLASSIFIER_A not in pages


def test_pages_rendered_anew_are_those_that_were_built(
    published: Finished, command: Command, folder: Path
) -> None:
    good(command("ci", "pages", "--output", "again"))
    assert tree(folder / "again/tfhub.dev") == tree(folder / "dist/tfhub.dev")
    project(folder, (REGISTRY + DESTINATIONS).replace("small_a_features/1", "small_a_features/2"))
    found = good(command("ci", "pages", "--output", "fewer", "--json")).document["pages"]
    assert set(found) == set(tree(folder / "fewer"))
    assert f"tfhub.dev/assets/docs/{EXTRACTOR_A}.md" not in tree(folder / "fewer")


def test_a_destination_that_cannot_be_read_is_said_to_be(
    published: Finished, command: Command, folder: Path
) -> None:
    shutil.rmtree(folder / "checkout")
    shown = good(command("ci", "review", "--to", "*")).stdout
    assert "### pages\n\nNot planned:\n\n```\n" in shown
    assert "### shelf\n\n| handle | plan |" in shown


def test_a_review_fails_for_what_is_missing_or_refused(
    published: Finished, command: Command, folder: Path
) -> None:
    good(command("publish", *SYNTHETIC, "--to", "shelf", "--yes"))
    shutil.rmtree(folder / "dist/models" / CLASSIFIER_B)
    manifest = folder / "shelf/models" / CLASSIFIER_A / "manifest.json"
    changed: dict[str, Any] = json.loads(manifest.read_text())
    changed["archive"]["sha256"] = SHA256
    manifest.write_text(json.dumps(changed))
    finished = command("ci", "review", "--to", "shelf")
    assert finished.status == 1
    assert f"{CLASSIFIER_B}: is not in dist" in finished.stderr
    assert f"{CLASSIFIER_A}: shelf holds this version with other bytes" in finished.stderr
    assert f"- `{CLASSIFIER_B}`" in finished.stdout
    assert "holds this version with other bytes" in finished.stdout


def next_to_rebuild(command: Command, number: int) -> str:
    return good(command("ci", "next-to-rebuild", str(number))).stdout.strip()


def test_each_published_variant_is_next_once(published: Finished, command: Command) -> None:
    rebuilt = [
        good(command("ci", "next-to-rebuild", str(number))).stdout.strip() for number in range(5)
    ]
    assert rebuilt == [*HANDLES, HANDLES[0]]


def test_what_is_not_published_is_never_next(
    published: Finished, command: Command, folder: Path
) -> None:
    good(command("bump", "*_a_*"))
    rebuilt = {
        good(command("ci", "next-to-rebuild", str(number))).stdout.strip() for number in range(4)
    }
    assert rebuilt == {CLASSIFIER_B, EXTRACTOR_B}
    good(command("bump", "*_b_*"))
    finished = command("ci", "next-to-rebuild", "1")
    assert finished.status == 1
    assert "dist: holds nothing that models.yaml lists" in finished.stderr

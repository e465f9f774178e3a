"""release-notes, as a person types it. Builds are stand-ins."""

from pathlib import Path

from tests.builds import CLASSIFIER_A, HANDLES, REGISTRY, Finished, project
from tests.commandline import Command, command, folder, good, published

__all__ = ["command", "folder", "published"]  # fixtures

NEXT = CLASSIFIER_A.replace("/1", "/2")


def test_a_first_release_adds_everything(published: Finished, command: Command) -> None:
    text = good(command("release-notes")).stdout
    assert "### Added" in text
    assert all(handle in text for handle in HANDLES)


def test_what_changed_since_a_release_directory_is_told(
    published: Finished, command: Command, folder: Path
) -> None:
    (folder / "dist").rename(folder / "last")
    good(command("bump", "*_a_class*"))
    good(command("publish", "--weights", "synthetic"))
    text = good(command("release-notes", "--since", "last")).stdout
    assert "### Raised" in text
    assert "small_a_classification" in text
    assert "small_b" not in text


def test_what_changed_since_a_destination_is_told(
    published: Finished, command: Command, folder: Path
) -> None:
    project(folder, f"{REGISTRY}destinations:\n  last: {{kind: directory, to: dist}}\n")
    finished = good(command("release-notes", "--since", "last"))
    assert finished.stdout == "Nothing changed: every archive, page and figure is as it was.\n"


def test_notes_go_into_the_changelog_once(
    published: Finished, command: Command, folder: Path
) -> None:
    arguments = ["release-notes", "--changelog", "CHANGELOG.md", "--heading", "2026-11-25"]
    text = good(command(*arguments)).stdout
    content = (folder / "CHANGELOG.md").read_text()
    assert content.startswith("# Changelog\n\n## 2026-11-25\n")
    assert text in content
    good(command(*arguments))
    assert (folder / "CHANGELOG.md").read_text() == content


def test_what_is_no_release_is_refused(command: Command, folder: Path) -> None:
    finished = command("release-notes")
    assert finished.status == 1
    assert "dist: there is no release here" in finished.stderr
    (folder / "dist").mkdir()
    finished = command("release-notes", "--since", "nowhere")
    assert finished.status == 1
    assert "nowhere: is neither a release directory nor a destination" in finished.stderr
    assert command("release-notes", "--changelog", "CHANGELOG.md").status == 2

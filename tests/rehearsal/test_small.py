"""The registry with small stand-ins, and the one that a rehearsal is given."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from publisher.registry import load_registry
from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.prepare import prepare_registry
from publisher.rehearsal.small import write_project
from publisher.signing.signatures import key_signer
from tests.builds import REGISTRY, ROOT, project

DESTINATIONS = """\
destinations:
  bucket: {kind: google-cloud-storage, to: 'gs://models/', only: ['*_a_*']}
  pages: {kind: tfhub, to: ../tfhub.dev}
  cards: {kind: kaggle, to: sayakpaul/models, license_name: Apache 2.0}
"""


def test_every_variant_of_this_repository_has_a_stand_in(tmp_path: Path) -> None:
    true = load_registry(ROOT / "models.yaml")
    small = load_registry(write_project(ROOT / "models.yaml", tmp_path / "small"))
    assert small.variants == true.variants
    assert not small.destinations
    for name, checkpoint in small.checkpoints.items():
        assert checkpoint.architecture == "R20x0.5"
        assert small.class_names(checkpoint) == true.class_names(true.checkpoints[name])
    assert (tmp_path / "small/templates/tfhub/module.md.j2").exists()


def test_a_registry_without_templates_and_class_names_of_its_own_has_one(tmp_path: Path) -> None:
    alone = tmp_path / "alone/models.yaml"
    alone.parent.mkdir()
    shutil.copyfile(ROOT / "models.yaml", alone)
    small = load_registry(write_project(alone, tmp_path / "small"))
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["models.yaml"]
    assert all(small.class_names(checkpoint) for checkpoint in small.checkpoints.values())


def test_it_is_written_from_the_command_line(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "publisher", "ci", "stand-ins", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("--output", str(tmp_path / "small"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "small/models.yaml").exists()
    done = run("--registry", str(tmp_path / "none.yaml"), "--output", str(tmp_path / "other"))
    assert done.returncode == 2
    assert "there is no such file" in done.stderr


def test_all_destinations_of_a_rehearsal_are_folders_of_this_machine(tmp_path: Path) -> None:
    registry = project(tmp_path / "project", REGISTRY + DESTINATIONS)
    places = prepare_registry(registry, tmp_path / "work", ["cards", "bucket"], small=False)
    folder = tmp_path / "work/destinations"
    assert places == {"cards": folder / "cards", "bucket": folder / "bucket"}
    project(tmp_path / "work/overlay", (tmp_path / "work/overlay/models.yaml").read_text())
    found = load_registry(tmp_path / "work/overlay/models.yaml")
    assert {name: (one.kind, one.to) for name, one in found.destinations.items()} == {
        "bucket": ("directory", str(folder / "bucket")),
        "pages": ("tfhub", str(folder / "pages")),
        "cards": ("directory", str(folder / "cards")),
    }
    assert found.destinations["bucket"].only == ("*_a_*",)
    rest = {"exclude": {"destinations"}}
    assert found.model_dump(**rest) == load_registry(registry).model_dump(**rest)


def test_a_registry_without_destinations_gets_one(tmp_path: Path) -> None:
    registry = project(tmp_path / "project")
    assert list(prepare_registry(registry, tmp_path / "work", [], small=True)) == ["rehearsed"]


def test_an_unknown_destination_is_named(tmp_path: Path) -> None:
    registry = project(tmp_path / "project", REGISTRY + DESTINATIONS)
    with pytest.raises(RehearsalError, match=r"'bukket' is not a destination in .*: bucket, pages"):
        prepare_registry(registry, tmp_path / "work", ["bukket"], small=False)


def test_the_key_signs_and_is_kept_for_the_next_run(tmp_path: Path) -> None:
    from publisher.rehearsal.prepare import throwaway_key

    key = throwaway_key(tmp_path / "key.pem")
    assert key.stat().st_mode & 0o077 == 0
    first = key_signer(key, {}).key
    assert key_signer(throwaway_key(tmp_path / "key.pem"), {}).key == first

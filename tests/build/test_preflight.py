"""What is known to go wrong before anything is fetched."""

import shutil
from collections import namedtuple
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest

from publisher.build import preflight as module
from publisher.build.build import build
from publisher.build.preflight import NoSpaceError, preflight
from publisher.build.stages import Run
from publisher.families import ARCHITECTURES
from publisher.pages.errors import WrongTemplateError
from tests.builds import CLASSES, EXTRACTOR_A, REGISTRY, Inline, chosen, project, run_of

Usage = namedtuple("Usage", "total used free")
Free = Callable[[float], None]

DESTINATIONS = "destinations:\n  cards: {kind: kaggle, to: sayakpaul/models}\n"
_SHAPES = ARCHITECTURES["R20x0.5"].arrays(CLASSES)
WHOLE = 4 * sum(map(prod, _SHAPES.values()))  # bytes of a classifier
BACKBONE = WHOLE - 4 * sum(prod(_SHAPES[name]) for name in _SHAPES if "head/conv2d" in name)
BOTH = WHOLE + BACKBONE


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Of a project in which nothing is built yet."""
    return run_of(project(tmp_path / "project", REGISTRY + DESTINATIONS), tmp_path / "build")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    """Sets the free space of every disk, in bytes."""

    def set_to(size: float) -> None:
        usage = Usage(1 << 50, 0, int(size))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    return set_to


def template(run: Run, name: str, text: str) -> Path:
    path = run.settings.templates / name
    path.write_text(text)
    return path


def test_a_good_project_passes_and_nothing_is_written(run: Run) -> None:
    assert preflight(run, chosen(run), ["cards"]) == []
    assert not run.settings.build.exists()


def test_templates_of_the_pages_that_are_made_have_to_compile(run: Run) -> None:
    module_page = template(run, "tfhub/module.md.j2", "{% if %}")
    card = template(run, "kaggle/usage.md.j2", "{{ name | shout }}")
    template(run, "web/base.html.j2", "{% if %}")
    template(run, "huggingface/card.md.j2", "{% if %}")
    places = [str(error).split(":")[0] for error in preflight(run, chosen(run), ["cards"])]
    assert places == [str(card), str(module_page)]
    (error,) = preflight(run, chosen(run), ["unknown"])
    assert isinstance(error, WrongTemplateError)


def test_space_is_needed_for_all_that_is_built(run: Run, free: Free) -> None:
    # Weights, SavedModels, archives, and one model unpacked while it is checked.
    needed = 2 * WHOLE + 2 * BOTH + 0.9 * 2 * BOTH + WHOLE
    free(needed + 1)
    assert preflight(run, chosen(run)) == []
    free(needed - 1)
    (error,) = preflight(run, chosen(run))
    assert isinstance(error, NoSpaceError)
    assert str(error).startswith(f"{run.settings.build}: the build needs about ")
    assert "--build-dir" in str(error)
    assert preflight(run, chosen(run, EXTRACTOR_A)) == []


def test_weights_in_a_directory_need_no_space(tmp_path: Path, run: Run, free: Free) -> None:
    free(2 * BOTH + 0.9 * 2 * BOTH + WHOLE + 1)
    assert preflight(run, chosen(run)) != []
    weights = tmp_path / "weights"
    weights.mkdir()
    run = run_of(run.settings.registry_file, run.settings.build, weights=str(weights))
    assert preflight(run, chosen(run)) == []


def test_a_release_on_another_disk_needs_space_for_its_archives(
    tmp_path: Path, run: Run, free: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "release"
    free(0)
    assert len(preflight(run, chosen(run), release=release)) == 1
    monkeypatch.setattr(module, "_disk", lambda path: path.name)
    errors = preflight(run, chosen(run), release=release)
    assert [str(error).split(":")[0] for error in errors] == [
        str(run.settings.build),
        str(release),
    ]
    assert "--release" in str(errors[1])


def test_what_is_made_again_takes_the_place_of_what_is_there(
    run: Run, free: Free, inline: type[Inline]
) -> None:
    build(run, chosen(run))
    free(0)
    template(run, "kaggle/usage.md.j2", "{% if %}")
    assert preflight(run, chosen(run), ["cards"]) == []  # there is nothing to do
    template(run, "tfhub/module.md.j2", "other")
    (error,) = preflight(run, chosen(run), ["cards"])  # rendering takes no space to speak of
    assert isinstance(error, WrongTemplateError)
    template(run, "kaggle/usage.md.j2", "")
    archive = run.folder(chosen(run, EXTRACTOR_A)[0]) / "model.tar.gz"
    archive.unlink()
    free(0.9 * BACKBONE + WHOLE + 1)  # its classifier is checked again, too
    assert preflight(run, chosen(run)) == []

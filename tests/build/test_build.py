"""What is built, when and why; the work itself is a stand-in."""

import errno
import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pytest_httpserver import HTTPServer

from publisher.build import build as pipeline
from publisher.build import stages as steps
from publisher.build.build import BuildError, Built, Failed, Stale, build, build_lock, dry_run
from publisher.build.engine import Key
from publisher.build.stages import Run
from publisher.build.workers import WorkerError
from publisher.families import ARCHITECTURES
from publisher.pages import render_module
from publisher.util.files import sha256_file
from publisher.validation.request import Request
from publisher.weights import Retry, fetch, write_synthetic
from tests.builds import (
    CLASSIFIER_A,
    CLASSIFIER_B,
    EXTRACTOR_A,
    EXTRACTOR_B,
    HANDLES,
    REGISTRY,
    STAND_INS,
    A,
    B,
    Inline,
    Watcher,
    checkpoint,
    chosen,
    edited,
    errors_of,
    project,
    real_weights,
    run_of,
    variant,
)
from tests.releases import HEADER, times, tree

pytestmark = pytest.mark.usefixtures("inline")

TOLERANCE = "tolerance: {absolute: 1.0e-4, relative: 2.0e-4}"
EVERYTHING = Counter(
    {"fetch": 2, "expect": 2, "convert": 4, "package": 4, "validate": 4, "render": 4, "try": 4}
)


class Place:
    """A project that is built again and again; `watcher` is of the latest run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.build_dir = folder / "build"
        self.registry_file = project(folder)
        self.settings: dict[str, object] = {}
        self.weights = "synthetic"
        self.watcher = Watcher()

    def edit(self, *edits: tuple[str, str]) -> None:
        self.registry_file.write_text(edited(*edits))

    def run(self) -> Run:
        self.watcher = Watcher()
        return run_of(
            self.registry_file,
            self.build_dir,
            weights=self.weights,
            reporter=self.watcher,
            **self.settings,
        )

    def build(self, *handles: str) -> list[Built | Failed]:
        run = self.run()
        return build(run, chosen(run, *handles))

    def build_well(self, *handles: str) -> list[Built]:
        results = self.build(*handles)
        assert errors_of(results) == {}
        return [result for result in results if isinstance(result, Built)]

    def planned(self, *handles: str) -> dict[str, str]:
        """Say of each variant what a rehearsal says; it must not write anything."""
        before = tree(self.folder), times(self.folder)
        run = self.run()
        results = dry_run(run, chosen(run, *handles))
        assert (tree(self.folder), times(self.folder)) == before
        assert self.watcher.reasons == {}
        return {
            result.variant.handle: (
                f"{result.stage}: {result.reason}"
                if isinstance(result, Stale)
                else str(getattr(result, "error", "up to date"))
            )
            for result in results
        }

    def model(self, handle: str) -> Path:
        return self.build_dir / "models" / handle


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "project")


@pytest.fixture
def built(place: Place) -> Place:
    """A place where everything is up to date."""
    place.build_well()
    return place


@pytest.fixture
def closed_address() -> Iterator[str]:
    """An address on loopback where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that downloads asked for, in seconds; none is really made."""
    asked: list[float] = []
    assert fetch.__kwdefaults__ is not None
    monkeypatch.setitem(fetch.__kwdefaults__, "retry", Retry(attempts=3, sleep=asked.append))
    return asked


def test_everything_is_built_once(place: Place) -> None:
    results = place.build_well()
    assert [result.variant.handle for result in results] == HANDLES
    assert place.watcher.stages == EVERYTHING
    assert set(place.watcher.reasons.values()) == {"not built yet"}
    for result in results:
        assert result.folder == place.model(result.variant.handle)
        assert result.manifest.synthetic is True
        archive = result.folder / "model.tar.gz"
        assert result.manifest.archive.sha256 == sha256_file(archive)
        assert (result.folder / "README.md").read_text().startswith("# Module sayakpaul/small_")


def test_a_second_build_does_nothing_and_gives_the_same(place: Place) -> None:
    first = place.build_well()
    before = times(place.folder)
    assert place.build_well() == first
    assert place.watcher.stages == Counter()
    assert times(place.folder) == before


def test_two_builds_differ_in_nothing_but_their_records(tmp_path: Path) -> None:
    places = [Place(tmp_path / "one"), Place(tmp_path / "two" / "deeper")]
    places[1].settings["jobs"] = 3
    for place in places:
        place.build_well()
    trees = [
        {name: content for name, content in tree(place.build_dir).items() if "records" not in name}
        for place in places
    ]
    for files in trees:
        del files["expected/a.json"], files["expected/b.json"]  # records as well
    assert trees[0] == trees[1]
    assert "models/sayakpaul/small_a_classification/1/manifest.json" in trees[0]


def test_a_selection_builds_no_more_than_it_needs(place: Place) -> None:
    (result,) = place.build_well(EXTRACTOR_A)
    assert result.variant.handle == EXTRACTOR_A
    assert place.watcher.stages == Counter(dict.fromkeys(EVERYTHING, 1))


def test_a_classifier_needs_its_feature_extractor_but_not_its_page(place: Place) -> None:
    place.build_well(CLASSIFIER_A)
    assert ("validate", EXTRACTOR_A) in place.watcher.reasons
    assert ("render", EXTRACTOR_A) not in place.watcher.reasons
    assert not place.model(EXTRACTOR_A).joinpath("README.md").exists()
    order = place.watcher.finishes
    assert order.index(("validate", EXTRACTOR_A)) < order.index(("validate", CLASSIFIER_A))


def test_larger_networks_come_first(place: Place) -> None:
    larger = checkpoint("b", classes=5000, class_names=None)
    place.edit((B, larger))
    place.build_well()
    assert place.watcher.finishes[0] == ("fetch", "b")


# What a change makes stale. Each test makes one change and then looks at a plan, at what a
# build does, and at whether the next has nothing to do.


def settled(place: Place) -> bool:
    """Whether everything is up to date now."""
    return set(place.planned().values()) == {"up to date"}


def stages_of(place: Place) -> dict[str, set[str]]:
    """Return the subjects that each stage ran for."""
    found: dict[str, set[str]] = {}
    for stage, subject in place.watcher.reasons:
        found.setdefault(stage, set()).add(subject)
    return found


def test_another_tolerance_validates_and_renders_again(built: Place) -> None:
    built.edit((TOLERANCE, "tolerance: {absolute: 1.0e-3, relative: 2.0e-4}"))
    reason = "tolerance changed from 0.0001 + 0.0002 to 0.001 + 0.0002"
    assert set(built.planned().values()) == {f"validate: {reason}"}
    built.build_well()
    assert stages_of(built) == {"validate": set(HANDLES), "render": set(HANDLES)}
    assert built.watcher.reasons["validate", CLASSIFIER_A] == reason
    assert built.watcher.reasons["render", CLASSIFIER_A] == "manifest changed, registry changed"
    assert settled(built)


def test_another_template_renders_again_and_no_more(built: Place) -> None:
    template = built.folder / "templates" / "tfhub" / "module.md.j2"
    template.write_text(template.read_text() + "\nThe end.\n")
    assert set(built.planned().values()) == {"render: templates changed"}
    built.build_well()
    assert stages_of(built) == {"render": set(HANDLES)}
    assert "The end." in (built.model(CLASSIFIER_B) / "README.md").read_text()
    assert settled(built)


def test_other_class_names_convert_classifiers_and_only_them(built: Place) -> None:
    names = built.folder / "names.txt"
    names.write_text(names.read_text().replace("class 3", "owl"))
    plan = built.planned()
    assert plan[CLASSIFIER_A] == "convert: class names changed"
    assert plan[EXTRACTOR_A] == "up to date"
    built.build_well()
    classifiers = {CLASSIFIER_A, CLASSIFIER_B}
    assert stages_of(built) == dict.fromkeys(
        ("convert", "package", "validate", "render", "try"), classifiers
    )
    assert built.watcher.reasons["package", CLASSIFIER_A] == "SavedModel changed"
    assert settled(built)


def test_what_the_registry_says_on_a_page_renders_its_checkpoint_again(built: Place) -> None:
    built.edit((B, checkpoint("b", training="Made up at night.")))
    plan = built.planned()
    assert plan[CLASSIFIER_A] == "up to date"
    assert plan[CLASSIFIER_B] == "render: registry changed"
    built.build_well()
    assert stages_of(built) == {"render": {CLASSIFIER_B, EXTRACTOR_B}}
    assert "Made up at night." in (built.model(CLASSIFIER_B) / "README.md").read_text()


def test_another_input_range_begins_with_what_depends_on_it(built: Place) -> None:
    built.edit((A, checkpoint("a", input_range="[0, 1]")))
    assert built.planned()[CLASSIFIER_A].startswith("convert: input range changed from (-1.0, 1.0)")
    built.build_well()
    assert stages_of(built)["expect"] == {"a"}
    assert stages_of(built)["convert"] == {CLASSIFIER_A, EXTRACTOR_A}
    assert "fetch" not in stages_of(built)


FOLDED = "    weight_standardization: folded\n"
FOLDED_CLASSIFIER_A = "sayakpaul/small_a_prediction/1"
FOLDED_EXTRACTOR_A = "sayakpaul/small_a_prediction_features/1"


def folded_too(*, extractor: bool = True) -> str:
    """The registry with folded variants of checkpoint `a` beside those that are computed."""
    text = REGISTRY + variant(FOLDED_CLASSIFIER_A, "a", "classifier") + FOLDED
    if extractor:
        text += variant(FOLDED_EXTRACTOR_A, "a", "feature_extractor") + FOLDED
    return text


def test_folded_variants_are_built_beside_those_that_are_computed(built: Place) -> None:
    """From the same weights and the same expected features; the others are left alone."""
    built.registry_file.write_text(folded_too())
    plan = built.planned()
    folded = {FOLDED_CLASSIFIER_A, FOLDED_EXTRACTOR_A}
    assert {handle for handle, what in plan.items() if what == "convert: not built yet"} == folded
    results = built.build_well()
    found = stages_of(built)
    assert found == dict.fromkeys(("convert", "package", "validate", "render", "try"), folded)
    for result in results:
        handle = result.variant.handle
        expected = "folded" if handle in folded else "computed"
        assert result.manifest.weight_standardization == expected
        page = (built.model(handle) / "README.md").read_text()
        assert f"<!-- fine-tunable: {'false' if handle in folded else 'true'} -->" in page
        graph = (built.model(handle) / "saved_model" / "saved_model.pb").read_text()
        assert f"('folded', {handle in folded})" in graph
    assert settled(built)


def test_a_folded_classifier_waits_for_the_folded_feature_extractor(place: Place) -> None:
    place.registry_file.write_text(folded_too())
    place.build_well(FOLDED_CLASSIFIER_A)
    assert stages_of(place)["validate"] == {FOLDED_CLASSIFIER_A, FOLDED_EXTRACTOR_A}
    order = place.watcher.finishes
    extractor = order.index(("validate", FOLDED_EXTRACTOR_A))
    assert extractor < order.index(("validate", FOLDED_CLASSIFIER_A))


def test_a_folded_classifier_without_one_is_held_to_the_other_feature_extractor(
    place: Place,
) -> None:
    place.registry_file.write_text(folded_too(extractor=False))
    place.build_well(FOLDED_CLASSIFIER_A)
    assert stages_of(place)["validate"] == {FOLDED_CLASSIFIER_A, EXTRACTOR_A}
    order = place.watcher.finishes
    extractor = order.index(("validate", EXTRACTOR_A))
    assert extractor < order.index(("validate", FOLDED_CLASSIFIER_A))


def test_a_variant_that_becomes_folded_is_converted_again(built: Place) -> None:
    handle = f"handle: {EXTRACTOR_B}\n"
    built.edit((handle, handle + FOLDED))
    plan = built.planned()
    assert plan[EXTRACTOR_B] == ("convert: weight standardization changed from computed to folded")
    assert {plan[CLASSIFIER_A], plan[EXTRACTOR_A]} == {"up to date"}
    built.build_well()
    assert stages_of(built)["convert"] == {EXTRACTOR_B}
    # The classifier is held to it, and its page says that it is for prediction only.
    assert stages_of(built)["validate"] == {CLASSIFIER_B, EXTRACTOR_B}
    page = (built.model(CLASSIFIER_B) / "README.md").read_text()
    assert ", for prediction only." in page
    assert settled(built)


def test_another_variant_to_fine_tune_renders_a_folded_one_again(place: Place) -> None:
    place.registry_file.write_text(folded_too())
    place.build_well()
    newer = CLASSIFIER_A.replace("/1", "/2")
    place.registry_file.write_text(folded_too() + variant(newer, "a", "classifier"))
    assert place.planned(FOLDED_CLASSIFIER_A) == {FOLDED_CLASSIFIER_A: "render: registry changed"}
    place.build_well()
    assert newer in (place.model(FOLDED_CLASSIFIER_A) / "README.md").read_text()


def test_other_resolutions_do_not_convert_again(built: Place) -> None:
    built.edit((A, checkpoint("a", parity_resolutions="[32, 48]")))
    built.build_well()
    assert set(stages_of(built)) == {"expect", "validate", "render"}
    assert stages_of(built)["validate"] == {CLASSIFIER_A, EXTRACTOR_A}


def test_thorough_adds_the_native_resolution(built: Place) -> None:
    built.edit((A, checkpoint("a", resolution=64)))
    built.build_well()
    built.settings["thorough"] = True
    built.build_well()
    assert built.watcher.reasons["expect", "a"] == (
        "resolutions changed from (32, 40) to (32, 40, 64)"
    )
    assert ("expect", "b") not in built.watcher.reasons  # 32 is native, and there already


def test_what_is_found_of_graphs_is_kept_in_the_build_folder_unless_thorough(
    built: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Path | None] = []

    def validate(request: Request, weights: Path) -> Any:
        places.append(request.graph_cache)
        return known(request, weights)

    known = STAND_INS["validate"]
    monkeypatch.setitem(STAND_INS, "validate", validate)
    for resolutions in ("[32, 48]", "[32, 56]"):
        built.edit((A, checkpoint("a", parity_resolutions=resolutions)))
        built.build_well()
        built.settings["thorough"] = True
    first, second, *thorough = places
    assert first == second
    assert first is not None
    assert first.parent == built.build_dir / "graphs"
    assert thorough == [None, None]


def test_a_touched_but_equal_file_is_no_reason(built: Place) -> None:
    for path in built.build_dir.rglob("*"):
        os.utime(path, ns=(1, 1))
    assert settled(built)
    built.build_well()
    assert built.watcher.stages == Counter()


def test_an_archive_that_was_edited_is_packed_again_and_the_rest_is_found_good(
    built: Place,
) -> None:
    archive = built.model(CLASSIFIER_A) / "model.tar.gz"
    good = archive.read_bytes()
    archive.write_bytes(good + b"!")
    assert built.planned() == {
        **dict.fromkeys(HANDLES, "up to date"),
        CLASSIFIER_A: "package: model.tar.gz was changed on disk",
    }
    built.build_well()
    assert stages_of(built) == {"package": {CLASSIFIER_A}}
    assert archive.read_bytes() == good
    assert settled(built)


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("saved_model/saved_model.pb", "convert"),
        ("model.tar.gz", "package"),
        ("report.json", "validate"),
        ("features.npz", "validate"),
        ("manifest.json", "render"),
        ("README.md", "render"),
    ],
)
def test_a_missing_file_is_made_again(built: Place, file: str, stage: str) -> None:
    before = (built.model(EXTRACTOR_A) / file).read_bytes()
    (built.model(EXTRACTOR_A) / file).unlink()
    name = Path(file).name
    assert built.planned()[EXTRACTOR_A] == f"{stage}: {name} is missing"
    built.build_well()
    assert built.watcher.reasons[stage, EXTRACTOR_A] == f"{name} is missing"
    assert (built.model(EXTRACTOR_A) / file).read_bytes() == before
    assert settled(built)


def test_a_plan_for_a_classifier_names_the_feature_extractor_that_it_waits_for(
    built: Place,
) -> None:
    (built.model(EXTRACTOR_A) / "report.json").unlink()
    assert built.planned()[CLASSIFIER_A] == f"validate: {EXTRACTOR_A} is not up to date"
    built.build_well()
    assert stages_of(built) == {"validate": {EXTRACTOR_A}}  # it answers what it did before


def test_other_code_of_a_stage_runs_it_again(built: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    known = steps._code

    def edited_package(*places: str) -> str:
        return "edited" if places == ("formats/archive.py",) else known(*places)

    monkeypatch.setattr(steps, "_code", edited_package)
    assert set(built.planned().values()) == {"package: code changed"}
    built.build_well()
    assert stages_of(built) == {"package": set(HANDLES)}  # and the archives came out the same


def test_another_version_of_a_library_runs_again_what_uses_it(
    built: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = steps._version
    now = known("tensorflow")
    monkeypatch.setattr(
        steps, "_version", lambda name: "9.9" if name == "tensorflow" else known(name)
    )
    assert set(built.planned().values()) == {f"convert: tensorflow changed from {now} to 9.9"}
    built.build_well()
    assert set(stages_of(built)) == {"convert", "validate", "render", "try"}


def test_the_code_digest_follows_every_file_of_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(steps.SOURCE, tmp_path / "source")
    monkeypatch.setattr(steps, "SOURCE", tmp_path / "source")
    digest = steps._code.__wrapped__
    before = digest("validation", "formats/archive.py")
    (tmp_path / "source" / "files.py").write_text("# other")
    assert digest("validation", "formats/archive.py") == before
    (tmp_path / "source" / "validation" / "checks.py").write_text("# other")
    assert digest("validation", "formats/archive.py") != before


def test_a_moved_build_folder_is_still_up_to_date_and_goes_on(built: Place) -> None:
    moved = built.folder / "elsewhere" / "build"
    moved.parent.mkdir()
    shutil.move(built.build_dir, moved)
    built.build_dir = moved
    assert settled(built)
    (built.model(CLASSIFIER_A) / "saved_model" / "saved_model.pb").unlink()
    built.build_well()  # from the weights, which lie elsewhere now
    assert built.watcher.stages == Counter(convert=1)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"inputs": 1, "outputs": [], "result": 2}'])
def test_spoiled_records_are_as_good_as_none(built: Place, content: bytes) -> None:
    archive = (built.model(CLASSIFIER_A) / "model.tar.gz").read_bytes()
    for path in built.build_dir.rglob("*.json"):
        if path.parent.name in ("records", "expected"):
            path.write_bytes(content)
    assert set(built.planned().values()) == {"fetch: not built yet"}
    built.build_well()
    assert built.watcher.stages == EVERYTHING
    assert (built.model(CLASSIFIER_A) / "model.tar.gz").read_bytes() == archive
    assert settled(built)


# Failures


def test_a_failed_check_blocks_its_variants_in_one_line_and_the_others_go_on(place: Place) -> None:
    tight = checkpoint("b", tolerance="{absolute: 1.0e-12, relative: 0}")
    place.edit((B, tight))
    errors = errors_of(place.build())
    assert set(errors) == {CLASSIFIER_B, EXTRACTOR_B}
    kept = place.model(CLASSIFIER_B) / "failures"
    assert errors[CLASSIFIER_B] == (
        f"{CLASSIFIER_B}: parity_with_float64_reference: largest error 2.4e-05, bound 1.0e-12;"
        f" tensors kept in {kept}"
    )
    assert (kept / "parity_with_float64_reference.npz").is_file()
    assert place.watcher.failures["validate", CLASSIFIER_B] == errors[CLASSIFIER_B]
    assert (place.model(CLASSIFIER_A) / "README.md").is_file()
    assert not (place.model(CLASSIFIER_B) / "README.md").exists()


def test_a_blocked_variant_is_checked_again_by_the_next_build(place: Place) -> None:
    place.edit((B, checkpoint("b", tolerance="{absolute: 1.0e-12, relative: 0}")))
    place.build()
    plan = place.planned()
    assert plan[CLASSIFIER_A] == "up to date"
    assert plan[CLASSIFIER_B] == "validate: not built yet"
    assert set(errors_of(place.build())) == {CLASSIFIER_B, EXTRACTOR_B}
    assert stages_of(place) == {"validate": {CLASSIFIER_B, EXTRACTOR_B}}
    place.edit()
    place.build_well()
    assert settled(place)


def test_a_blocked_feature_extractor_does_not_block_its_classifier(
    place: Place, inline: type[Inline]
) -> None:
    inline.faults[f"convert {EXTRACTOR_A}"] = WorkerError("convert: the process was killed")
    assert errors_of(place.build()) == {EXTRACTOR_A: "convert: the process was killed"}
    assert (place.model(CLASSIFIER_A) / "manifest.json").is_file()


def test_a_classifier_is_not_held_to_what_an_earlier_feature_extractor_answered(
    built: Place, inline: type[Inline]
) -> None:
    built.edit((A, checkpoint("a", input_range="[0, 1]")))
    inline.faults[f"convert {EXTRACTOR_A}"] = WorkerError("convert: the process was killed")
    assert set(errors_of(built.build())) == {EXTRACTOR_A}
    assert not (built.model(EXTRACTOR_A) / "features.npz").exists()
    assert "features of the sibling changed" in built.watcher.reasons["validate", CLASSIFIER_A]


def test_a_failed_feature_extractor_that_was_not_asked_for_is_a_warning(
    place: Place, inline: type[Inline]
) -> None:
    inline.faults[f"validate {EXTRACTOR_A}"] = WorkerError("validate: the process was killed")
    place.build_well(CLASSIFIER_A)
    assert place.watcher.warnings == ["validate: the process was killed"]


def test_weights_that_are_not_there_block_their_variants_once(place: Place) -> None:
    place.weights = str(real_weights(place.folder / "weights", ["a"]))
    errors = errors_of(place.build())
    assert set(errors) == {CLASSIFIER_B, EXTRACTOR_B}
    (message,) = set(errors.values())
    assert "distill/b.npz: there is no such file" in message
    assert place.watcher.failures == {("fetch", "b"): message}


def test_weights_that_do_not_fit_block_their_variants(place: Place) -> None:
    weights = real_weights(place.folder / "weights", ["a"])
    real_weights(place.folder / "weights", ["b"], classes=11)
    place.weights = str(weights)
    real_weights(place.folder / "weights", ["a"])
    errors = errors_of(place.build())
    assert set(errors) == {CLASSIFIER_B, EXTRACTOR_B}
    assert "resnet/head/conv2d/bias" in errors[CLASSIFIER_B]


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_source_that_gives_no_answer_is_asked_once_in_a_run(
    place: Place, closed_address: str, pauses: list[float], jobs: int
) -> None:
    place.weights, place.settings["jobs"] = closed_address, jobs
    errors = errors_of(place.build())
    assert list(errors) == HANDLES
    (message,) = set(errors.values())
    assert message == (
        f"cannot reach {closed_address}distill/a.npz: no answer (connection refused), 3 attempts;"
        " give WEIGHTS=/path/to/weights (a directory) or another address, or rehearse with"
        " WEIGHTS=synthetic"
    )
    assert len(pauses) == 2  # of one download
    place.weights = "synthetic"
    place.build_well()


def test_a_full_disk_blocks_only_the_variant_that_met_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = render_module

    def full(registry: object, variant: object, *rest: object) -> str:
        if getattr(variant, "handle", "") == CLASSIFIER_A:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "README.md")
        return known(registry, variant, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "render_module", full)
    assert errors_of(place.build()) == {
        CLASSIFIER_A: f"{CLASSIFIER_A}: render: README.md: No space left on device; free space or"
        " correct the permissions, and run the same command again"
    }


def test_without_templates_of_its_own_a_registry_has_the_distributions(built: Place) -> None:
    shutil.rmtree(built.folder / "templates")
    assert settled(built)


def test_a_malformed_lock_file_blocks_with_its_line_in_a_plan_and_in_a_build(place: Place) -> None:
    place.weights = str(real_weights(place.folder / "weights", ["a", "b"]))
    place.build_well()
    (place.folder / "models.lock.yaml").write_text("distill/a.npz: [\n")
    plan = place.planned()
    assert list(plan) == HANDLES
    assert all("models.lock.yaml:2: not YAML" in line for line in plan.values())
    assert errors_of(place.build()) == plan


def test_after_an_interruption_the_next_build_does_the_rest(
    place: Place, inline: type[Inline]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    inline.faults[f"validate {CLASSIFIER_A}"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        place.build()
    done = place.watcher.stages
    inline.faults.clear()
    place.build_well()
    assert done + place.watcher.stages == EVERYTHING + Counter(validate=1)


def test_workers_are_closed_whatever_happens(
    place: Place, inline: type[Inline], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    monkeypatch.setattr(Inline, "close", lambda workers: closed.append(workers.count))
    place.settings["jobs"] = 3
    inline.faults["expect a"] = RuntimeError("a fault of the program")
    with pytest.raises(RuntimeError):
        place.build()
    assert closed == [3]


def test_one_build_folder_is_for_one_publisher(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "build"
    with build_lock(folder):
        refused = pytest.raises(
            BuildError, match=r"another publisher is at work here; .*-build-dir"
        )
        with refused, build_lock(folder):
            pass
        with build_lock(tmp_path / "other"):
            pass
    with build_lock(folder):
        pass


def test_a_build_folder_that_cannot_be_made_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(BuildError, match="file/build: cannot be written")
    with refused, build_lock(tmp_path / "file" / "build"):
        pass


# The Python on pages

COUNTING = """
with open("{counter}", "a") as file:
    file.write("{address} ")
"""


def add_snippet(place: Place, code: str, *handles: str) -> None:
    """Add a block to the page of these variants; to all if none is named."""
    template = place.folder / "templates" / "tfhub" / "module.md.j2"
    where = f"variant.handle in {handles}" if handles else "true"
    template.write_text(
        f"{template.read_text()}{{% if {where} %}}\n```python\n{code}\n```\n{{% endif %}}\n"
    )


def counting(place: Place) -> Path:
    """Add a block that writes down the address of its page's model, and return where."""
    counter = place.folder / "counter.txt"
    add_snippet(place, COUNTING.format(counter=counter, address="{{ asset_path }}"))
    return counter


def handles_in(counter: Path) -> set[str]:
    """Return the handles that were written down, each once."""
    addresses = counter.read_text().split()
    assert len(addresses) == len(set(addresses))
    return {"/".join(address.split("/")[-4:-1]) for address in addresses}


def test_a_snippet_that_fails_blocks_its_variant_and_no_other(place: Place) -> None:
    template = place.folder / "templates" / "tfhub" / "module.md.j2"
    good = template.read_text()
    add_snippet(place, "size = 3", CLASSIFIER_B)
    add_snippet(place, "print(size)", CLASSIFIER_B)
    add_snippet(place, "print(1 / 0)", CLASSIFIER_B)
    errors = errors_of(place.build())
    page = place.model(CLASSIFIER_B) / "README.md"
    lines = page.read_text().splitlines()
    first, second = lines.index("print(size)"), lines.index("print(1 / 0)")
    message = (
        f"{CLASSIFIER_B}: {page}:{first}: this Python fails: name 'size' is not defined"
        f" (failed as well: line {second})"
    )
    assert errors == {CLASSIFIER_B: message}
    assert place.watcher.failures == {("try", CLASSIFIER_B): message}
    assert place.planned()[CLASSIFIER_B] == "try: not built yet"
    assert errors_of(place.build()) == errors
    assert stages_of(place) == {"try": {CLASSIFIER_B}}
    template.write_text(good)
    place.build_well()
    assert settled(place)


def test_a_page_whose_snippet_became_faulty_is_blocked(built: Place) -> None:
    add_snippet(built, "print(1 / 0)", EXTRACTOR_A)
    assert set(built.planned().values()) == {"render: templates changed"}
    errors = errors_of(built.build())
    assert list(errors) == [EXTRACTOR_A]
    assert "this Python fails: division by zero" in errors[EXTRACTOR_A]
    assert stages_of(built) == {"render": set(HANDLES), "try": {EXTRACTOR_A}}


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_snippet_on_several_pages_runs_once_for_each_kind_of_model(
    place: Place, jobs: int
) -> None:
    place.settings["jobs"] = jobs
    counter = counting(place)
    place.build_well()
    assert place.watcher.stages["try"] == 4
    first = handles_in(counter)
    assert len(first & {CLASSIFIER_A, CLASSIFIER_B}) == 1
    assert len(first & {EXTRACTOR_A, EXTRACTOR_B}) == 1
    place.build_well()
    assert place.watcher.stages == Counter()
    new = f"{place.registry_file.read_text()}{variant('sayakpaul/new/1', 'b', 'classifier')}"
    place.registry_file.write_text(new)
    place.build_well()
    assert stages_of(place)["try"] == {"sayakpaul/new/1"}
    assert handles_in(counter) == first


def test_a_snippet_runs_again_with_another_kind_of_model(place: Place) -> None:
    counter = counting(place)
    place.build_well(CLASSIFIER_A)
    assert handles_in(counter) == {CLASSIFIER_A}
    place.edit((B, checkpoint("b", input_range="[0, 1]")))
    place.build_well(CLASSIFIER_A, CLASSIFIER_B)
    assert handles_in(counter) == {CLASSIFIER_A, CLASSIFIER_B}


def test_stages_come_one_after_the_other_and_larger_networks_first_in_each(place: Place) -> None:
    """Else whichever variant is last would go through all of its stages alone."""
    place.edit((B, checkpoint("b", architecture="R50x1")))
    run = place.run()
    found = list(steps.tasks_of(run, run.registry.variants))
    assert [key.stage for key in found] == [
        stage for stage in steps.STAGES for _ in range(2 if stage in ("fetch", "expect") else 4)
    ]
    assert [key.subject for key in found if key.stage == "fetch"] == ["b", "a"]
    validated = [key.subject for key in found if key.stage == "validate"]
    assert validated == [EXTRACTOR_B, CLASSIFIER_B, EXTRACTOR_A, CLASSIFIER_A]


def test_checkpoints_with_equal_class_names_in_two_files_share_their_snippets(
    place: Place,
) -> None:
    (place.folder / "other").mkdir()
    shutil.copy(place.folder / "names.txt", place.folder / "other" / "names.txt")
    place.edit((B, checkpoint("b", class_names="other/names.txt")))
    tasks = steps.tasks_of(place.run(), place.run().registry.variants)
    turns = [tasks[Key("try", handle)].mutex for handle in (CLASSIFIER_A, CLASSIFIER_B)]
    assert turns[0] == turns[1] != ""  # never at the same time
    counter = counting(place)
    place.build_well(CLASSIFIER_A, CLASSIFIER_B)
    assert len(handles_in(counter)) == 1


def test_a_snippet_that_ran_before_is_not_run_because_a_record_was_lost(place: Place) -> None:
    counter = counting(place)
    place.build_well()
    before = counter.read_text()
    (place.model(CLASSIFIER_A) / "records" / "try.json").unlink()
    assert place.planned()[CLASSIFIER_A] == "try: not built yet"
    place.build_well()
    assert stages_of(place) == {"try": {CLASSIFIER_A}}
    assert counter.read_text() == before


def test_a_snippet_whose_model_moved_is_not_run_again(built: Place) -> None:
    counter = counting(built)
    built.build_well()
    before = counter.read_text()
    text = built.registry_file.read_text()
    built.registry_file.write_text(text.replace("/bit-resnet-models/", "/elsewhere/"))
    built.build_well()
    assert stages_of(built) == {"render": set(HANDLES)}
    assert "/elsewhere/" in (built.model(CLASSIFIER_A) / "README.md").read_text()
    assert counter.read_text() == before


# Weights


def test_the_digests_of_real_weights_are_recorded_with_a_warning(place: Place) -> None:
    weights = real_weights(place.folder / "weights", ["a", "b"])
    place.weights = str(weights)
    results = place.build_well()
    assert not any(result.manifest.synthetic for result in results)
    assert len(place.watcher.warnings) == 2
    assert all("was not in models.lock.yaml" in line for line in place.watcher.warnings)
    lock = yaml.safe_load((place.folder / "models.lock.yaml").read_text())
    assert lock == {
        f"distill/{name}.npz": {
            "size": (weights / "distill" / f"{name}.npz").stat().st_size,
            "sha256": sha256_file(weights / "distill" / f"{name}.npz"),
        }
        for name in "ab"
    }
    place.build_well()
    assert place.watcher.warnings == []
    assert place.watcher.stages == Counter()


def test_locked_refuses_what_is_not_recorded_and_takes_what_is(place: Place) -> None:
    place.weights = str(real_weights(place.folder / "weights", ["a", "b"]))
    place.settings["locked"] = True
    errors = errors_of(place.build())
    assert list(errors) == HANDLES
    assert "--locked takes only what is" in errors[CLASSIFIER_A]
    assert not (place.folder / "models.lock.yaml").exists()
    place.settings["locked"] = False
    place.build_well()
    place.settings["locked"] = True
    place.build_well()
    assert place.watcher.stages == Counter()


def test_an_entry_that_left_the_lock_file_is_a_reason_to_look_again(place: Place) -> None:
    place.weights = str(real_weights(place.folder / "weights", ["a", "b"]))
    place.build_well()
    (place.folder / "models.lock.yaml").unlink()
    assert set(place.planned().values()) == {"fetch: models.lock.yaml does not list it"}
    place.build_well()
    assert stages_of(place) == {"fetch": {"a", "b"}}


def test_weights_with_another_digest_than_recorded_are_refused(place: Place) -> None:
    weights = real_weights(place.folder / "weights", ["a", "b"])
    place.weights = str(weights)
    place.build_well()
    other = real_weights(place.folder / "other", ["x", "b"]) / "distill"
    shutil.copy(other / "x.npz", weights / "distill" / "b.npz")
    errors = errors_of(place.build())
    assert set(errors) == {CLASSIFIER_B, EXTRACTOR_B}
    assert "models.lock.yaml records" in errors[CLASSIFIER_B]


def test_synthetic_weights_need_no_lock_wherever_they_come_from(place: Place) -> None:
    place.build_well()
    place.weights, place.settings["locked"] = str(place.build_dir / "weights" / "synthetic"), True
    results = place.build_well()
    assert all(result.manifest.synthetic for result in results)
    assert stages_of(place) == {"fetch": {"a", "b"}}  # another source, the same bytes
    assert place.watcher.reasons["fetch", "a"].startswith("source changed")
    assert place.watcher.warnings == []
    assert not (place.folder / "models.lock.yaml").exists()


def test_weights_come_from_an_address_and_are_not_asked_for_twice(
    place: Place, httpserver: HTTPServer
) -> None:
    weights = real_weights(place.folder / "served", ["a", "b"])
    for name in "ab":
        content = (weights / "distill" / f"{name}.npz").read_bytes()
        httpserver.expect_request(f"/bit/distill/{name}.npz").respond_with_data(content)
    place.weights, place.settings["jobs"] = httpserver.url_for("/bit"), 4
    results = place.build_well()
    assert results[0].manifest.checkpoint.sha256 == sha256_file(weights / "distill" / "a.npz")
    assert len(httpserver.log) == 2
    place.build_well()
    assert len(httpserver.log) == 2
    assert place.watcher.stages == Counter()


def test_secrets_of_an_address_are_neither_kept_nor_a_reason(
    place: Place, httpserver: HTTPServer
) -> None:
    path = place.folder / "a.npz"
    write_synthetic(path, ARCHITECTURES["R20x0.5"].arrays(10))
    httpserver.expect_request("/distill/a.npz").respond_with_data(path.read_bytes())
    address = httpserver.url_for("/")
    place.weights = address.replace("http://", "http://user:hidden@")
    place.build_well(EXTRACTOR_A)
    files = tree(place.build_dir)
    assert not any(b"hidden" in content for content in files.values())
    place.weights = address.replace("http://", "http://user:another@")
    assert place.planned(EXTRACTOR_A) == {EXTRACTOR_A: "up to date"}


# Adding variants


@pytest.mark.parametrize("architecture", ["R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4"])
@pytest.mark.parametrize("classes", [1, 21_843])
def test_a_variant_of_any_architecture_is_an_edit_of_the_registry(
    place: Place, architecture: str, classes: int
) -> None:
    new = checkpoint(
        "new", architecture=architecture, classes=classes, class_names=None, resolution=224
    )
    handle = f"sayakpaul/bit_m_{architecture.lower()}/1"
    place.registry_file.write_text(
        f"{HEADER}{A}{new}variants:\n"
        + variant(EXTRACTOR_A, "a", "feature_extractor")
        + variant(handle, "new", "classifier")
    )
    assert place.planned()[handle] == "fetch: not built yet"


def test_a_new_variant_leaves_the_old_ones_alone(built: Place) -> None:
    new = f"{built.registry_file.read_text()}{variant('sayakpaul/new/1', 'b', 'classifier')}"
    built.registry_file.write_text(new)
    results = built.build_well()
    assert [result.variant.handle for result in results] == [*HANDLES, "sayakpaul/new/1"]
    stages = stages_of(built)
    assert stages["convert"] == stages["package"] == stages["validate"] == {"sayakpaul/new/1"}
    assert "fetch" not in stages


def test_checkpoints_may_share_a_file(place: Place) -> None:
    place.edit((B, checkpoint("b", path="distill/a.npz", resolution=40)))
    place.settings["jobs"] = 4
    place.build_well()
    assert place.watcher.stages["fetch"] == 1
    assert settled(place)


def test_figures_of_the_weights_are_in_the_report(built: Place) -> None:
    report = (built.model(CLASSIFIER_A) / "report.json").read_text()
    assert "63 arrays" in report
    with np.load(built.build_dir / "expected" / "a.npz") as expected:
        assert sorted(expected.files) == ["32", "40"]


def test_processes_are_warmed_up_only_where_there_is_work_for_them(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[int] = []
    monkeypatch.setattr(Inline, "warm_up", lambda workers, count: warmed.append(count))
    place.settings["jobs"] = 2
    place.build_well()
    place.build_well()
    template = place.folder / "templates" / "tfhub" / "module.md.j2"
    template.write_text(template.read_text() + "\nThe end.\n")
    place.build_well()
    assert warmed == [2]
    assert pipeline.IN_WORKERS == ("expect", "convert", "validate", "try")

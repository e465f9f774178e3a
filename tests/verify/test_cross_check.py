"""The table of four forms. What needs JAX itself is marked; the rest needs made-up answers."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from publisher.documents.index import Manifest
from publisher.formats.archive import pack
from publisher.util.files import json_bytes, sha256_file
from publisher.verify import cross_check as room
from publisher.verify.cross_check import CONVERTED, JAX, PUBLISHED, TRUTH, Answer, Row, cross_check
from publisher.verify.findings import Finding
from publisher.verify.targets import Target, target_of
from tests.builds import CLASSIFIER_A, EXTRACTOR_A, Project, Watcher, publisher
from tests.validation.test_archive import write
from tests.verify.conftest import edit_json, statuses

FORMS = [TRUTH, PUBLISHED, JAX, CONVERTED]
MANIFEST = f"models/{CLASSIFIER_A}/manifest.json"
# The registry of these tests allows 1e-4 and 2e-4 of the largest.
BOUND = 1e-4 + 2e-4 * 2.0


def answer(form: str, *values: float) -> Answer:
    return Answer(form, np.array([values]), 0.25)


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the worker answer what a test says."""

    def say(*found: Answer | Exception) -> None:
        def run_alone(task: object, question: object) -> list[Answer]:
            if isinstance(found[0], Exception):
                raise found[0]
            return [one for one in found if isinstance(one, Answer)]

        monkeypatch.setattr(room, "run_alone", run_alone)

    return say


@pytest.fixture
def target(release: Path) -> Target:
    return target_of(CLASSIFIER_A, str(release), {}, release)


# What is made of the answers


def test_each_form_is_held_to_the_truth(answered: Any, target: Target) -> None:
    answered(answer(TRUTH, 1.0, -2.0), answer(JAX, 1.0002, -2.0001))
    watcher = Watcher()
    finding, rows = cross_check(target, watcher)
    assert rows[0] == Row(CLASSIFIER_A, TRUTH, 0.0, 0.0, 0.0, True, 0.25)
    jax = rows[1]
    assert jax.error == pytest.approx(2e-4)
    assert jax.relative == pytest.approx(1e-4)  # of the largest expected, 2
    assert jax.bound == pytest.approx(BOUND)
    assert jax.within
    assert finding == Finding(
        "proved", "cross-check", "TensorFlow, JAX and NumPy agree; the worst takes 40% of its bound"
    )
    assert watcher.finishes == [("compute", CLASSIFIER_A)]


@pytest.mark.parametrize("value", [1.001, np.nan, np.inf])
def test_a_form_beyond_the_bound_is_named(value: float, answered: Any, target: Target) -> None:
    answered(answer(TRUTH, 1.0, -2.0), answer(PUBLISHED, 1.0, -2.0), answer(JAX, value, -2.0))
    finding, rows = cross_check(target, Watcher())
    assert finding.status == "failed"
    assert finding.detail.startswith(f"{CLASSIFIER_A}: JAX is off by ")
    assert [row.within for row in rows] == [True, True, False]
    json.loads(json_bytes([row.as_json() for row in rows]))


def test_the_bound_is_the_one_that_the_manifest_states(
    answered: Any, release: Path, target: Target
) -> None:
    answered(answer(TRUTH, 1.0, -2.0), answer(JAX, 1.0002, -2.0))
    edit_json(
        release / MANIFEST,
        lambda manifest: manifest["validation"]["tolerance"].update(absolute=1e-6, relative=0),
    )
    strict = replace(
        target,
        manifests={CLASSIFIER_A: Manifest.model_validate_json((release / MANIFEST).read_bytes())},
    )
    assert cross_check(strict, Watcher())[0].status == "failed"


def test_a_whole_release_is_computed_model_by_model(answered: Any, release: Path) -> None:
    answered(answer(TRUTH, 1.0), answer(JAX, 1.0))
    finding, rows = cross_check(target_of(None, str(release), {}, release), Watcher())
    assert finding.status == "proved"
    assert len({row.handle for row in rows}) == 4


def test_an_archive_without_a_manifest_cannot_be_computed(target: Target) -> None:
    alone = Target("it", target.archives, {}, unstated="no manifest.json lies beside it")
    finding, rows = cross_check(alone, Watcher())
    assert finding == Finding(
        "failed", "cross-check", "cannot be made: no manifest.json lies beside it"
    )
    assert rows == []


def test_a_worker_that_fails_is_a_failure_and_the_rest_is_still_said(
    answered: Any, target: Target
) -> None:
    answered(room.VerifyError("it cannot be loaded"))
    watcher = Watcher()
    finding, rows = cross_check(target, watcher)
    assert finding.detail == f"{CLASSIFIER_A}: it cannot be loaded"
    assert watcher.failures == {("compute", CLASSIFIER_A): "it cannot be loaded"}
    assert rows == []


def test_an_architecture_that_is_unknown_here_is_named(release: Path, target: Target) -> None:
    edit_json(release / MANIFEST, lambda manifest: manifest.update(architecture="R7x7"))
    manifest = Manifest.model_validate_json((release / MANIFEST).read_bytes())
    finding, _ = cross_check(replace(target, manifests={CLASSIFIER_A: manifest}), Watcher())
    assert finding.status == "failed"
    assert "R7x7 is an unknown architecture" in finding.detail


# With JAX


def with_jax(function: Any) -> Any:
    missing = room.importlib.util.find_spec("jax") is None
    skip = pytest.mark.skipif(missing, reason="needs the extra `jax`")
    return pytest.mark.clients(skip(function))


@with_jax
@pytest.mark.parametrize("handle", [CLASSIFIER_A, EXTRACTOR_A])
def test_four_forms_of_a_published_model_agree(handle: str, published: Project) -> None:
    target = target_of(handle, str(published.release), {}, published.folder)
    finding, rows = cross_check(target, Watcher())
    assert finding.status == "proved", finding.detail
    assert [row.form for row in rows] == FORMS
    assert all(0 < row.error < row.bound for row in rows[1:])


@with_jax
def test_four_forms_of_a_folded_model_agree(
    folded_classifier: Path, release: Path, tmp_path: Path
) -> None:
    pack(folded_classifier, tmp_path / "model.tar.gz")
    edit_json(release / MANIFEST, lambda manifest: manifest.update(weight_standardization="folded"))
    shutil.copy(release / MANIFEST, tmp_path)
    finding, rows = cross_check(
        target_of(str(tmp_path / "model.tar.gz"), "", {}, tmp_path), Watcher()
    )
    assert finding.status == "proved", finding.detail
    assert [row.form for row in rows] == FORMS


@with_jax
def test_a_graph_that_computes_something_else_is_seen(
    folded_classifier: Path, release: Path, tmp_path: Path
) -> None:
    """One that scales its input in another way than its manifest says."""
    pack(folded_classifier, tmp_path / "model.tar.gz")
    shutil.copy(release / MANIFEST, tmp_path)
    edit_json(tmp_path / "manifest.json", lambda manifest: manifest.update(input_range=[0.0, 1.0]))
    finding, rows = cross_check(
        target_of(str(tmp_path / "model.tar.gz"), "", {}, tmp_path), Watcher()
    )
    assert finding.status == "failed"
    assert f"{PUBLISHED} is off by " in finding.detail
    assert {row.form: row.within for row in rows} == {
        TRUTH: True,
        PUBLISHED: False,
        JAX: True,
        CONVERTED: True,
    }


@with_jax
def test_an_archive_of_another_architecture_is_named(release: Path, target: Target) -> None:
    edit_json(release / MANIFEST, lambda manifest: manifest.update(architecture="R50x1"))
    manifest = Manifest.model_validate_json((release / MANIFEST).read_bytes())
    finding, _ = cross_check(replace(target, manifests={CLASSIFIER_A: manifest}), Watcher())
    assert finding.status == "failed"
    assert "its variables are not those of R50x1 with 10 classes" in finding.detail


@with_jax
def test_an_archive_that_tensorflow_cannot_load_is_said_to_be_one(
    release: Path, tmp_path: Path
) -> None:
    write(tmp_path / "model.tar.gz")  # its graph and its variables are a few letters
    shutil.copy(release / MANIFEST, tmp_path)
    finding, _ = cross_check(target_of(str(tmp_path / "model.tar.gz"), "", {}, tmp_path), Watcher())
    assert finding.status == "failed"
    assert f"{CLASSIFIER_A}: TensorFlow cannot load it (" in finding.detail


@with_jax
def test_the_command_prints_one_table(published: Project, tmp_path: Path) -> None:
    arguments = ("verify", CLASSIFIER_A, "--cross-check")
    finished = publisher(published.folder, *arguments, "--json", "--quiet", TMPDIR=str(tmp_path))
    assert finished.status == 0, finished.stderr
    assert finished.stderr == ""
    assert statuses(finished)["cross-check"] == "proved"
    assert [row["form"] for row in finished.document["cross_check"]] == FORMS
    shown = publisher(published.folder, *arguments, TMPDIR=str(tmp_path))
    lines = shown.stdout.splitlines()
    header = next(index for index, line in enumerate(lines) if line.startswith("FORM "))
    assert [line.partition("  ")[0] for line in lines[header + 1 :]] == FORMS
    assert f"compute  {CLASSIFIER_A}: done" in shown.stderr
    assert list(tmp_path.iterdir()) == []
    archive = published.release / "models" / CLASSIFIER_A / "model.tar.gz"
    assert sha256_file(archive) in shown.stdout

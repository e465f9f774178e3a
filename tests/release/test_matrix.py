"""The jobs of a release."""

from pathlib import Path

import pytest

from publisher.registry import load_registry, select
from publisher.release import matrix as module
from publisher.release.matrix import Part, destinations_in, globs_in, matrix
from tests.builds import CLASSIFIER_A, CLASSIFIER_B, EXTRACTOR_A, EXTRACTOR_B, REGISTRY, project

DESTINATIONS = """\
destinations:
  pages: {kind: tfhub, to: checkout}
  shelf: {kind: directory, to: shelf}
"""
SHA256 = "5" * 64


def job(name: str, *handles: str, weights: str = "unrecorded") -> dict[str, str]:
    return {"name": name, "handles": " ".join(handles), "weights": weights}


def parts_of(folder: Path, *globs: str, text: str = REGISTRY) -> list[Part]:
    registry = load_registry(project(folder, text))
    return matrix(registry, select(registry, globs), folder / "models.lock.yaml")


def test_there_is_a_job_for_each_checkpoint(tmp_path: Path) -> None:
    [part] = parts_of(tmp_path)
    assert part == {
        "name": "1 of 1",
        "checkpoints": [job("a", CLASSIFIER_A, EXTRACTOR_A), job("b", CLASSIFIER_B, EXTRACTOR_B)],
    }


def test_recorded_weights_are_named_by_their_digest(tmp_path: Path) -> None:
    lock = f"distill/a.npz: {{size: 1, sha256: '{SHA256}'}}\n"
    (tmp_path / "models.lock.yaml").write_text(lock)
    [part] = parts_of(tmp_path)
    assert [one["weights"] for one in part["checkpoints"]] == [SHA256, "unrecorded"]


def test_more_checkpoints_than_a_matrix_may_have_come_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_MATRIX", 1)
    assert [(part["name"], len(part["checkpoints"])) for part in parts_of(tmp_path)] == [
        ("1 of 2", 1),
        ("2 of 2", 1),
    ]


def test_what_is_withdrawn_is_not_built(tmp_path: Path) -> None:
    text = REGISTRY
    for handle in (CLASSIFIER_A, EXTRACTOR_A, CLASSIFIER_B):
        text = text.replace(f"handle: {handle}\n", f"handle: {handle}\n    withdrawn: Wrong.\n")
    [part] = parts_of(tmp_path, text=text)
    assert part["checkpoints"] == [job("b", EXTRACTOR_B)]
    assert parts_of(tmp_path, "*_a_*", text=text) == []


def test_a_text_may_hold_several_globs_or_destinations(tmp_path: Path) -> None:
    assert globs_in([" *_a_class*  *_b_feat* ", "x"]) == ("*_a_class*", "*_b_feat*", "x")
    registry = load_registry(project(tmp_path, REGISTRY + DESTINATIONS))
    assert destinations_in(registry, ["shelf pages", "shelf"]) == ["shelf", "pages"]
    assert destinations_in(registry, ["*"]) == ["pages", "shelf"]

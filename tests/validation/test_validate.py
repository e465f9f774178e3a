import io
import pickle
import shutil
import tarfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from publisher.formats.archive import pack
from publisher.util import memory
from publisher.validation import checks, graph_checks
from publisher.validation.checks import CHECKS, Subject
from publisher.validation.expected import images as images_of
from publisher.validation.expected import load_features, save_features
from publisher.validation.graph_checks import GRAPH_CHECKS
from publisher.validation.report import Check, Report, ValidationError
from publisher.validation.request import Request
from publisher.validation.training_checks import TRAINING_CHECKS
from publisher.validation.validate import validate
from publisher.weights import Arrays

RequestFor = Callable[..., Request]

BEFORE = ["weights_fit_the_architecture", "archive_is_a_plain_saved_model", "loads_with_hub_load"]
ALL = BEFORE + [check.__name__ for check in (*CHECKS, *GRAPH_CHECKS, *TRAINING_CHECKS)]
HEAD_BIAS = "resnet/head/conv2d/bias"
IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32, "images")


def checked(
    request: Request, arrays: Arrays, looking: Sequence[Callable[[Subject], Check]]
) -> Report:
    """Run these checks of the loaded model, and none of the graph."""
    return validate(request, arrays, looking, graph_checks=(), training_checks=())


def statuses(report: Report) -> dict[str, str]:
    return {check.name: check.status for check in report.checks}


def passing(subject: Subject) -> Check:
    return Check("passing", "passed", subject.head)


def failing(subject: Subject) -> Check:
    images = subject.images(1, 32, 32, seed=0)
    return Check(
        "failing", "failed", "error 2 above bound 1", {"error": np.inf}, {"images": images}
    )


def raising(subject: Subject) -> Check:
    raise RuntimeError(f"no such thing\nin {subject.head}\n  at line 3")


def misshapen(subject: Subject) -> Check:
    raise ValidationError("shape [1] where [2] is expected")


@pytest.mark.parametrize("head", ["classifier", "feature_extractor"])
def test_a_good_archive_passes_every_check_in_order(head: str, reports: dict[str, Report]) -> None:
    report = reports[head]
    assert report.passed, report.failure_summary()
    assert [check.name for check in report.checks] == ALL
    assert report.document().as_bytes()


def test_the_check_of_the_weights_comes_from_the_request(
    request_for: RequestFor, checkpoint: Arrays
) -> None:
    weights = Check("weights_fit_the_architecture", "failed", "2 arrays are constant")
    report = checked(request_for(weights_check=weights), checkpoint, [passing])
    assert not report.passed
    assert report.failure_summary() == "weights_fit_the_architecture: 2 arrays are constant"


def test_a_request_travels_to_a_worker(request_for: RequestFor) -> None:
    request = request_for()
    assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301  our own bytes


def test_an_archive_of_another_checkpoint_is_blocked_in_one_line(
    request_for: RequestFor, checkpoint: Arrays
) -> None:
    other = Arrays(checkpoint._mapped)
    other.update(checkpoint)
    other[HEAD_BIAS] = checkpoint[HEAD_BIAS].copy()
    other[HEAD_BIAS][4] += 0.5
    request = request_for()
    report = checked(
        request,
        other,
        [
            checks.variables_equal_the_checkpoint,
            checks.parity_with_float64_reference,
            checks.class_names_are_in_the_assets,
        ],
    )
    assert statuses(report) == {
        **dict.fromkeys(BEFORE, "passed"),
        "variables_equal_the_checkpoint": "failed",
        "parity_with_float64_reference": "failed",
        "class_names_are_in_the_assets": "passed",
    }
    assert report.failure_summary() == (
        f"variables_equal_the_checkpoint: 1 of 63 variables differ, the first is {HEAD_BIAS}"
        " (failed as well: parity_with_float64_reference)"
    )
    with np.load(request.failures / "parity_with_float64_reference.npz") as kept:
        error = np.abs(kept["48px_measured"] - kept["48px_expected"])
        assert error.argmax() == 4
        assert kept["48px_images"].shape == (1, 48, 48, 3)


def test_a_check_that_raises_has_failed_and_the_rest_still_run(
    request_for: RequestFor, checkpoint: Arrays
) -> None:
    report = checked(request_for(), checkpoint, [raising, misshapen, passing])
    assert [(c.name, c.status, c.summary) for c in report.checks[len(BEFORE) :]] == [
        ("raising", "failed", "RuntimeError: no such thing"),
        ("misshapen", "failed", "shape [1] where [2] is expected"),
        ("passing", "passed", "classifier"),
    ]


def test_tensors_of_a_failing_check_are_kept_and_those_of_an_earlier_run_are_not(
    request_for: RequestFor, checkpoint: Arrays
) -> None:
    request = request_for()
    report = checked(request, checkpoint, [failing, passing, raising])
    assert [path.name for path in request.failures.iterdir()] == ["failing.npz"]
    with np.load(request.failures / "failing.npz") as kept:
        assert kept["images"].shape == (1, 32, 32, 3)
    assert b'"error": "inf"' in report.document().as_bytes()
    checked(request, checkpoint, [passing])
    assert not request.failures.exists()


def test_the_client_s_copy_is_removed(request_for: RequestFor, checkpoint: Arrays) -> None:
    seen: list[Path] = []

    def look(subject: Subject) -> Check:
        seen.append(subject.directory)
        assert (subject.directory / "saved_model.pb").is_file()
        return Check("look", "passed", "")

    request = request_for()
    assert checked(request, checkpoint, [look]).passed
    assert seen[0].is_relative_to(request.scratch)
    assert not request.scratch.exists()


def test_checks_look_at_the_archive_and_not_at_the_build_folder(
    classifier: Path, request_for: RequestFor, checkpoint: Arrays, tmp_path: Path
) -> None:
    copy = tmp_path / "saved_model"
    shutil.copytree(classifier, copy)
    archive = tmp_path / "model.tar.gz"
    pack(copy, archive)
    shutil.rmtree(copy)
    report = checked(
        request_for(archive=archive),
        checkpoint,
        [checks.variables_equal_the_checkpoint, graph_checks.graph_holds_only_allowed_operations],
    )
    assert report.passed, report.failure_summary()


def refuse(subject: Subject) -> Check:
    raise AssertionError("checked what could not be loaded")


def test_an_archive_that_is_none_fails_with_one_plain_line(
    request_for: RequestFor, checkpoint: Arrays, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(b"not an archive")
    request = request_for(archive=archive)
    report = checked(request, checkpoint, [refuse])
    assert statuses(report) == {BEFORE[0]: "passed", BEFORE[1]: "failed"}
    assert report.failure_summary().startswith(
        "archive_is_a_plain_saved_model: cannot be read as a compressed tar"
    )
    assert "\n" not in report.failure_summary()


def test_an_archive_that_is_not_plain_is_not_unpacked(
    classifier_archive: Path, request_for: RequestFor, checkpoint: Arrays, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(classifier_archive) as source, tarfile.open(archive, "w:gz") as target:
        for member in source:
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
        stray = tarfile.TarInfo("._saved_model.pb")
        stray.size = 3
        target.addfile(stray, io.BytesIO(b"mac"))
    request = request_for(archive=archive)
    report = checked(request, checkpoint, [refuse])
    assert not report.passed
    assert "'._saved_model.pb' is not part of a SavedModel" in report.failure_summary()
    assert not request.scratch.exists()


def test_an_archive_that_cannot_be_loaded_fails_with_one_plain_line(
    classifier: Path, request_for: RequestFor, checkpoint: Arrays, tmp_path: Path
) -> None:
    copy = tmp_path / "saved_model"
    shutil.copytree(classifier, copy)
    (copy / "saved_model.pb").write_bytes(b"\xff" * 100)
    archive = tmp_path / "model.tar.gz"
    pack(copy, archive)
    request = request_for(archive=archive)
    report = checked(request, checkpoint, [refuse])
    assert statuses(report) == {**dict.fromkeys(BEFORE[:2], "passed"), BEFORE[2]: "failed"}
    assert report.failure_summary().startswith("loads_with_hub_load: ")
    assert "saved_model.pb" in report.failure_summary()
    assert "\n" not in report.failure_summary()
    assert not request.scratch.exists()


# The feature extractor that a classifier is held to.


def test_a_feature_extractor_leaves_what_it_returned(
    reports: dict[str, Report], requests: dict[str, Request], feature_extractor: Path
) -> None:
    assert reports["feature_extractor"].passed
    path = requests["feature_extractor"].features
    assert path is not None
    features = load_features(path)
    assert sorted(features) == [48, 64]
    model = hub.load(str(feature_extractor))
    for resolution, measured in features.items():
        images = images_of((-1.0, 1.0), resolution)[:1]
        again = model(tf.constant(images)).numpy()
        np.testing.assert_allclose(measured, again, rtol=0, atol=1e-5 * np.abs(again).max())


def test_a_classifier_is_held_to_the_features_that_were_left(
    request_for: RequestFor, checkpoint: Arrays, expected_file: Path
) -> None:
    truth = load_features(expected_file)
    request = request_for()
    assert request.features is not None
    outcomes = []
    for factor in (1.0, 1.01):
        save_features(request.features, {r: values * factor for r, values in truth.items()})
        before = request.features.read_bytes()
        report = checked(request, checkpoint, [checks.logits_follow_from_the_features])
        outcomes.append(report.checks[-1].status)
        assert request.features.read_bytes() == before  # a classifier leaves none itself
    assert outcomes == ["passed", "failed"]


def test_a_feature_extractor_that_left_nothing_fails_its_own_check_only(
    request_for: RequestFor, checkpoint: Arrays
) -> None:
    request = request_for()
    report = checked(request, checkpoint, [checks.logits_follow_from_the_features, passing])
    assert statuses(report) == {
        **dict.fromkeys(BEFORE, "passed"),
        "logits_follow_from_the_features": "failed",
        "passing": "passed",
    }
    assert "returned none at 48, 64 px" in report.failure_summary()
    assert "\n" not in report.failure_summary()


def test_where_no_feature_extractor_is_published_the_check_is_skipped(
    request_for: RequestFor, checkpoint: Arrays
) -> None:
    request = request_for(features=None)
    report = checked(request, checkpoint, [checks.logits_follow_from_the_features])
    assert report.passed
    assert report.checks[-1].status == "skipped"


# Memory and time.


def test_nothing_of_a_model_is_left_in_memory_when_its_report_is_there(
    request_for: RequestFor, checkpoint: Arrays
) -> None:
    """One process validates one large model after another."""
    alive: list[weakref.ref[Any]] = []

    def remember(subject: Subject) -> Check:
        # The memory of a variable hangs on its handle, which others may hold on to.
        handles = [variable.handle for variable in subject.model.variables]
        alive.extend(map(weakref.ref, [subject.model, *handles]))
        return Check("remember", "passed", "")

    looking = [
        remember,
        checks.parity_with_float64_reference,
        checks.loads_as_a_keras_layer,
        checks.signature_is_as_documented,
        raising,
    ]
    report = checked(request_for(), checkpoint, looking)
    assert list(statuses(report).values()) == ["passed"] * 7 + ["failed"], report.failure_summary()
    assert len(alive) == 64
    assert not any(reference() is not None for reference in alive)


def test_images_of_all_sizes_go_through_one_function(
    request_for: RequestFor, checkpoint: Arrays
) -> None:
    """Each size alone would be traced and optimized anew, which takes seconds."""
    traced: list[int] = []

    def look(subject: Subject) -> Check:
        for batch, height, width in ((1, 32, 32), (3, 48, 48), (2, 40, 64)):
            images = subject.images(batch, height, width, seed=0)
            alone = subject.model(tf.constant(images)).numpy()
            close = {"rtol": 0, "atol": 1e-5 * np.abs(alone).max()}
            np.testing.assert_allclose(subject.predict(images), alone, **close)
            traced.append(subject.compiled.experimental_get_tracing_count())
        return Check("look", "passed", "")

    report = checked(request_for(), checkpoint, [look])
    assert report.passed, report.failure_summary()
    assert traced == [1, 1, 1]


def test_what_a_check_leaves_behind_is_given_back_before_the_next(
    request_for: RequestFor, checkpoint: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def note(subject: Subject) -> Check:
        happened.append("check")
        return Check("note", "passed", "")

    monkeypatch.setattr(memory, "trim_heap", lambda: happened.append("given back"))
    checked(request_for(), checkpoint, [note, note])
    # At last what the model took.
    assert happened == [*["check", "given back"] * 2, "given back"]


def packed_checkpoint(folder: Path, **attributes: Any) -> Path:
    """Pack a plain object with these attributes, and a signature."""
    root = tf.train.Checkpoint(variable=tf.Variable(1.0))
    for name, value in attributes.items():
        setattr(root, name, value)

    @tf.function(input_signature=[IMAGES], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": tf.zeros((tf.shape(images)[0], 10))}

    tf.saved_model.save(root, str(folder / "saved_model"), signatures=serve)
    pack(folder / "saved_model", folder / "model.tar.gz")
    return folder / "model.tar.gz"


@pytest.mark.parametrize("head", ["classifier", "feature_extractor"])
def test_a_model_that_cannot_be_called_is_blocked_by_every_check_that_calls_it(
    head: str, request_for: RequestFor, checkpoint: Arrays, tmp_path: Path
) -> None:
    request = request_for(head, archive=packed_checkpoint(tmp_path))
    report = validate(request, checkpoint)
    assert [check.name for check in report.checks] == ALL
    found = statuses(report)
    assert found["loads_with_hub_load"] == "passed"
    for name in ("interface_is_reusable", "parity_with_float64_reference"):
        assert found[name] == "failed"
    for name in ("loads_as_a_keras_layer", "gradients_are_finite"):
        assert found[name] == "failed"
    assert "no __call__" in report.failure_summary()
    if head == "feature_extractor":
        assert request.features is not None
        assert load_features(request.features) == {}


def test_a_layer_is_held_to_the_model_whatever_was_checked_before(
    request_for: RequestFor, checkpoint: Arrays
) -> None:
    report = checked(request_for(), checkpoint, [checks.loads_as_a_keras_layer])
    assert report.passed, report.failure_summary()


def test_a_layer_that_cannot_be_made_fails_its_own_check_only(
    request_for: RequestFor, checkpoint: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_to_load(*arguments: Any, **settings: Any) -> None:
        raise ValueError("this is no layer\nand never was")

    monkeypatch.setattr(hub, "KerasLayer", refuse_to_load)
    looking = [checks.loads_as_a_keras_layer, checks.signature_is_as_documented, passing]
    report = checked(request_for(), checkpoint, looking)
    assert report.failure_summary() == "loads_as_a_keras_layer: ValueError: this is no layer"
    assert [check.status for check in report.checks[len(BEFORE) :]] == [
        "failed",
        "passed",
        "passed",
    ]


def test_a_truth_that_is_not_there_is_not_the_fault_of_the_archive(
    request_for: RequestFor, checkpoint: Arrays, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        checked(request_for(expected=tmp_path / "nowhere.npz"), checkpoint, [refuse])

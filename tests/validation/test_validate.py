import io
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from publisher.files import json_bytes
from publisher.package import pack
from publisher.validation import checks
from publisher.validation.checks import CHECKS, Subject
from publisher.validation.report import Check, Report, ValidationError
from publisher.validation.request import Request
from publisher.validation.validate import validate

Arrays = dict[str, npt.NDArray[np.float32]]
RequestFor = Callable[..., Request]

BEFORE = ["weights_fit_the_architecture", "archive_is_a_plain_saved_model", "loads_with_hub_load"]
HEAD_BIAS = "resnet/head/conv2d/bias"


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
    assert report.passed, report.complaint()
    assert [check.name for check in report.checks] == BEFORE + [c.__name__ for c in CHECKS]
    assert json_bytes(report.as_json())


def test_the_check_of_the_weights_comes_from_the_request(
    request_for: RequestFor, arrays: Arrays
) -> None:
    weights = Check("weights_fit_the_architecture", "failed", "2 arrays are constant")
    report = validate(request_for(weights_check=weights), arrays, [passing])
    assert not report.passed
    assert report.complaint() == "weights_fit_the_architecture: 2 arrays are constant"


def test_a_request_travels_to_a_worker(request_for: RequestFor) -> None:
    request = request_for()
    assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301  our own bytes


def test_an_archive_of_another_checkpoint_is_blocked_in_one_line(
    request_for: RequestFor, arrays: Arrays
) -> None:
    bias = arrays[HEAD_BIAS].copy()
    bias[4] += 0.5
    request = request_for(parity_resolutions=(32,))
    report = validate(
        request,
        {**arrays, HEAD_BIAS: bias},
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
    assert report.complaint() == (
        f"variables_equal_the_checkpoint: 1 of 63 variables differ, the first is {HEAD_BIAS}"
        " (failed as well: parity_with_float64_reference)"
    )
    with np.load(request.failures / "parity_with_float64_reference.npz") as kept:
        error = np.abs(kept["32px_measured"] - kept["32px_expected"])
        assert error.argmax() == 4
        assert kept["32px_images"].shape == (1, 32, 32, 3)


def test_a_check_that_raises_has_failed_and_the_rest_still_run(
    request_for: RequestFor, arrays: Arrays
) -> None:
    report = validate(request_for(), arrays, [raising, misshapen, passing])
    assert [(c.name, c.status, c.summary) for c in report.checks[len(BEFORE) :]] == [
        ("raising", "failed", "RuntimeError: no such thing"),
        ("misshapen", "failed", "shape [1] where [2] is expected"),
        ("passing", "passed", "classifier"),
    ]


def test_tensors_of_a_failing_check_are_kept_and_those_of_an_earlier_run_are_not(
    request_for: RequestFor, arrays: Arrays
) -> None:
    request = request_for()
    report = validate(request, arrays, [failing, passing, raising])
    assert [path.name for path in request.failures.iterdir()] == ["failing.npz"]
    with np.load(request.failures / "failing.npz") as kept:
        assert kept["images"].shape == (1, 32, 32, 3)
    assert b'"error": "inf"' in json_bytes(report.as_json())
    validate(request, arrays, [passing])
    assert not request.failures.exists()


def test_the_client_s_copy_is_removed(request_for: RequestFor, arrays: Arrays) -> None:
    seen: list[Path] = []

    def look(subject: Subject) -> Check:
        seen.append(subject.directory)
        assert (subject.directory / "saved_model.pb").is_file()
        return Check("look", "passed", "")

    request = request_for()
    assert validate(request, arrays, [look]).passed
    assert seen[0].is_relative_to(request.scratch)
    assert not request.scratch.exists()


def test_checks_look_at_the_archive_and_not_at_the_build_folder(
    classifier: Path, request_for: RequestFor, arrays: Arrays, tmp_path: Path
) -> None:
    copy = tmp_path / "saved_model"
    shutil.copytree(classifier, copy)
    archive = tmp_path / "model.tar.gz"
    pack(copy, archive)
    shutil.rmtree(copy)
    report = validate(
        request_for(archive=archive, feature_extractor=None),
        arrays,
        [checks.variables_equal_the_checkpoint, checks.graph_holds_only_allowed_operations],
    )
    assert report.passed, report.complaint()


def refuse(subject: Subject) -> Check:
    raise AssertionError("checked what could not be loaded")


def test_an_archive_that_is_none_fails_with_one_plain_line(
    request_for: RequestFor, arrays: Arrays, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(b"not an archive")
    request = request_for(archive=archive)
    report = validate(request, arrays, [refuse])
    assert statuses(report) == {BEFORE[0]: "passed", BEFORE[1]: "failed"}
    assert report.complaint().startswith(
        "archive_is_a_plain_saved_model: cannot be read as a compressed tar"
    )
    assert "\n" not in report.complaint()


def test_an_archive_that_is_not_plain_is_not_unpacked(
    classifier_archive: Path, request_for: RequestFor, arrays: Arrays, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(classifier_archive) as source, tarfile.open(archive, "w:gz") as target:
        for member in source:
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
        stray = tarfile.TarInfo("._saved_model.pb")
        stray.size = 3
        target.addfile(stray, io.BytesIO(b"mac"))
    request = request_for(archive=archive)
    report = validate(request, arrays, [refuse])
    assert not report.passed
    assert "'._saved_model.pb' is not part of a SavedModel" in report.complaint()
    assert not request.scratch.exists()


def test_an_archive_that_cannot_be_loaded_fails_with_one_plain_line(
    classifier: Path, request_for: RequestFor, arrays: Arrays, tmp_path: Path
) -> None:
    copy = tmp_path / "saved_model"
    shutil.copytree(classifier, copy)
    (copy / "saved_model.pb").write_bytes(b"\xff" * 100)
    archive = tmp_path / "model.tar.gz"
    pack(copy, archive)
    request = request_for(archive=archive)
    report = validate(request, arrays, [refuse])
    assert statuses(report) == {**dict.fromkeys(BEFORE[:2], "passed"), BEFORE[2]: "failed"}
    assert report.complaint().startswith("loads_with_hub_load: ")
    assert "saved_model.pb" in report.complaint()
    assert "\n" not in report.complaint()
    assert not request.scratch.exists()


def test_a_feature_extractor_that_cannot_be_loaded_fails_its_own_check_only(
    request_for: RequestFor, arrays: Arrays, tmp_path: Path
) -> None:
    extractor = tmp_path / "feature_extractor.tar.gz"
    extractor.write_bytes(b"not an archive")
    report = validate(
        request_for(feature_extractor=extractor),
        arrays,
        [checks.logits_follow_from_the_features, passing],
    )
    assert statuses(report) == {
        **dict.fromkeys(BEFORE, "passed"),
        "logits_follow_from_the_features": "failed",
        "passing": "passed",
    }
    assert "\n" not in report.complaint()

"""What was found of a graph is kept for other archives that hold it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from publisher.documents.report import Tolerance
from publisher.validation.checks import Subject
from publisher.validation.graph import GRAPH
from publisher.validation.graph_cache import GraphCheckCache
from publisher.validation.graph_checks import GraphSubject
from publisher.validation.report import Check
from publisher.validation.request import Request
from publisher.validation.validate import validate
from publisher.weights import Arrays

PASSED = Check("one", "passed", "good", {"count": 3})
SKIPPED = Check("two", "skipped", "not asked for")


def test_checks_that_passed_are_known_again(subject: Subject, tmp_path: Path) -> None:
    GraphCheckCache(tmp_path / "graphs", subject).store([PASSED, SKIPPED])
    assert GraphCheckCache(tmp_path / "graphs", subject).load() == {"one": PASSED, "two": SKIPPED}


def test_nothing_is_kept_where_one_failed(subject: Subject, tmp_path: Path) -> None:
    GraphCheckCache(tmp_path, subject).store([PASSED, Check("three", "failed", "bad")])
    assert GraphCheckCache(tmp_path, subject).load() == {}


def test_two_do_not_try_one_graph_at_a_time(subject: Subject, tmp_path: Path) -> None:
    with GraphCheckCache(tmp_path, subject).locked():
        (lock,) = tmp_path.glob("*.lock")
        with pytest.raises(Timeout):
            FileLock(lock, timeout=0).acquire()
        with GraphCheckCache(tmp_path, replace(subject, folded=True)).locked():
            pass
    FileLock(lock, timeout=0).acquire()


def test_nothing_is_kept_without_a_folder(subject: Subject) -> None:
    GraphCheckCache(None, subject).store([PASSED])
    assert GraphCheckCache(None, subject).load() == {}


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"name": "one"}]', b"\xff"])
def test_a_file_that_cannot_be_read_tells_nothing(
    content: bytes, subject: Subject, tmp_path: Path
) -> None:
    GraphCheckCache(tmp_path, subject).store([PASSED])
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert GraphCheckCache(tmp_path, subject).load() == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"tolerance": Tolerance(absolute=1e-3, relative=1e-4)},
        {"folded": True},
        {"input_range": (0.0, 1.0)},
    ],
)
def test_what_was_asked_otherwise_is_not_known(
    changes: dict[str, object], subject: Subject, tmp_path: Path
) -> None:
    GraphCheckCache(tmp_path, subject).store([PASSED])
    assert GraphCheckCache(tmp_path, replace(subject, **changes)).load() == {}  # type: ignore[arg-type]


def test_another_graph_is_not_known(subject: Subject, tmp_path: Path) -> None:
    GraphCheckCache(tmp_path / "graphs", subject).store([PASSED])
    (tmp_path / GRAPH).write_bytes((subject.directory / GRAPH).read_bytes() + b"\0")
    assert GraphCheckCache(tmp_path / "graphs", replace(subject, directory=tmp_path)).load() == {}


def test_a_graph_is_tried_once_and_another_graph_again(
    request_for: Callable[..., Request], checkpoint: Arrays, tmp_path: Path
) -> None:
    tried: list[str] = []

    def tried_once(unpacked: GraphSubject) -> Check:
        tried.append(unpacked.head)
        return Check("tried_once", "passed", "")

    for head in ("classifier", "feature_extractor", "classifier"):
        request = request_for(head, graph_cache=tmp_path / "graphs")
        report = validate(request, checkpoint, (), [tried_once], ())
        assert report.checks[-1] == Check("tried_once", "passed", "")
    assert tried == ["classifier", "feature_extractor"]

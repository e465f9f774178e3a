import pytest

from publisher.verify.findings import Finding, counted, proved_unless


def test_no_problem_is_a_proof() -> None:
    assert proved_unless("digest", [], "as stated") == Finding("proved", "digest", "as stated")


def test_problems_are_a_failure_that_names_them() -> None:
    found = proved_unless("digest", iter(["a: other", "b: other"]), "as stated")
    assert found == Finding("failed", "digest", "a: other; b: other")


def test_of_many_problems_the_first_are_named_and_the_others_counted() -> None:
    found = proved_unless("digest", [f"p{number}" for number in range(7)], "as stated")
    assert found.detail == "p0; p1; p2; p3; p4; and 2 more"


def test_a_finding_is_there_for_machines() -> None:
    assert proved_unless("digest", ["a"], "").as_json() == {
        "status": "failed",
        "what": "digest",
        "detail": "a",
    }


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1234, "1,234 files")]
)
def test_what_is_counted_agrees_with_the_number(count: int, words: str) -> None:
    assert counted(count, "file") == words

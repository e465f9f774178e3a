"""A saved plan: what it says, and what is none."""

from pathlib import Path

import pytest

from publisher.documents.errors import DocumentError
from publisher.documents.plan import Change, Plan, SavedPlans, Write, read_plans
from tests.releases import CLASSIFIER, EXTRACTOR, OTHER

A, B, C = "a" * 64, "b" * 64, "c" * 64


def plan(*changes: Change, writes: tuple[Write, ...] = ()) -> Plan:
    return Plan(destination="bucket", changes=changes, writes=writes)


NEW = Change(handle=CLASSIFIER, status="new", offered=A)
SAME = Change(handle=EXTRACTOR, status="unchanged", offered=B, there=B)
REFUSED = Change(handle=OTHER, status="changed", message=f"{OTHER}: other bytes", there=C)
INDEX = Write(path="index.json", sha256=C)


@pytest.mark.parametrize(
    ("found", "empty"),
    [
        (plan(), True),
        (plan(SAME), True),
        (plan(SAME, REFUSED), True),
        (plan(Change(handle=OTHER, status="left over", there=A)), True),
        (plan(Change(handle=OTHER, status="withdrawn")), True),
        (plan(NEW), False),
        (plan(Change(handle=OTHER, status="page")), False),
        (plan(Change(handle=OTHER, status="withdraw")), False),
        (plan(SAME, writes=(INDEX,)), False),
    ],
)
def test_a_plan_is_empty_if_nothing_would_be_written(found: Plan, empty: bool) -> None:
    assert found.empty is empty


def test_refused_changes_are_told_apart() -> None:
    assert plan(NEW, SAME, REFUSED).refused == [REFUSED]


def test_a_saved_plan_is_read_back(tmp_path: Path) -> None:
    saved = SavedPlans(
        registry=A, handles=(CLASSIFIER,), plans=(plan(NEW, SAME, REFUSED, writes=(INDEX,)),)
    )
    path = tmp_path / "plan.json"
    path.write_bytes(saved.as_bytes())
    assert read_plans(path) == saved


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file: Invalid JSON"),
        (b"[]", "the file: "),
        (b"{}", "registry: Field required"),
        (b'{"schema_version": 2, "registry": "", "handles": [], "plans": []}', "schema_version"),
        (b'{"registry": "x", "handles": [], "plans": []}', "registry: "),
        (b'{"registry": "", "handles": [], "plans": [], "run": "rm"}', "run: Extra"),
        (b" " * ((1 << 24) + 1), "it is too large"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        read_plans(path)
    assert str(caught.value).startswith(f"{path}: is no plan (")
    assert why in str(caught.value)
    assert "make it again with: publisher plan --to NAME --save FILE" in str(caught.value)


def test_a_plan_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"plan.json: cannot be read \(No such file"):
        read_plans(tmp_path / "plan.json")

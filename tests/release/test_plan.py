"""Plans: what they say, and when a saved one may still be carried out."""

import json
from pathlib import Path

import pytest

from publisher.release.plan import (
    Change,
    Plan,
    PlanError,
    SavedPlans,
    Write,
    as_json,
    as_markdown,
    read_plans,
    require_same,
)
from publisher.release.publish import prepare
from publisher.util.files import json_bytes
from tests.release.test_publish import TEMPLATES
from tests.releases import CLASSIFIER, EXTRACTOR, OTHER, build, registry_of
from tests.shelves import Shelf

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


def saved(folder: Path, *plans: Plan) -> Path:
    path = folder / "plan.json"
    handles = (CLASSIFIER, EXTRACTOR)
    path.write_bytes(json_bytes(as_json(SavedPlans(registry=A, handles=handles, plans=plans))))
    return path


def test_a_saved_plan_is_read_back(tmp_path: Path) -> None:
    made = plan(NEW, SAME, REFUSED, writes=(INDEX,))
    found = read_plans(saved(tmp_path, made))
    assert found.plans == (made,)
    assert found.handles == (CLASSIFIER, EXTRACTOR)
    require_same(made, found.plans[0])


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
    with pytest.raises(PlanError) as caught:
        read_plans(path)
    assert str(caught.value).startswith(f"{path}: is no plan (")
    assert why in str(caught.value)
    assert "make it again with: publisher plan --to NAME --output FILE" in str(caught.value)


def test_a_plan_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"plan.json: cannot be read \(No such file"):
        read_plans(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (plan(SAME), f"{CLASSIFIER} is gone from the plan"),
        (plan(NEW, SAME, REFUSED), f"{OTHER} is new in the plan"),
        (
            plan(NEW.model_copy(update={"status": "unchanged"}), SAME),
            f"{CLASSIFIER} was 'new' and is 'unchanged'",
        ),
        (
            plan(NEW.model_copy(update={"offered": B}), SAME),
            f"{CLASSIFIER}: the archive that is offered is another",
        ),
        (
            plan(NEW, SAME.model_copy(update={"there": C})),
            f"{EXTRACTOR}: the archive that is there is another",
        ),
        (plan(NEW, SAME, writes=(INDEX,)), "index.json would be written"),
    ],
)
def test_a_plan_is_refused_once_the_world_has_moved(now: Plan, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        require_same(plan(NEW, SAME), now)
    assert str(caught.value).startswith("bucket: is no longer as the plan has it (")
    assert said in str(caught.value)
    assert "nothing was published" in str(caught.value)


def test_what_moved_is_said_in_short() -> None:
    handles = [f"sayakpaul/model_{number}/1" for number in range(5)]
    now = plan(*(Change(handle=handle, status="new") for handle in handles))
    with pytest.raises(PlanError, match=r"model_2/1 is new in the plan; and 2 more\)"):
        require_same(plan(), now)


def test_markdown_has_a_row_for_each_version_and_names_the_files() -> None:
    text = as_markdown([plan(NEW, REFUSED, writes=(INDEX,)), plan(SAME)], [EXTRACTOR])
    assert "### bucket" in text
    assert f"| `{CLASSIFIER}` | new: archive, manifest and page are put there |" in text
    assert f"| `{OTHER}` | {OTHER}: other bytes |" in text
    assert f"| `{EXTRACTOR}` | decided once it is built |" in text
    assert "- `index.json`" in text


def test_markdown_says_when_there_is_nothing_to_do() -> None:
    assert as_markdown([plan(SAME)]).splitlines() == ["### bucket", "", "Nothing to do."]


def test_no_message_can_end_its_cell() -> None:
    nasty = Change(handle=OTHER, status="changed", message="a | b\n\n<script> [x](y) `z`")
    [row] = [line for line in as_markdown([plan(nasty)]).splitlines() if OTHER in line]
    assert row.endswith(r"a \| b \<script\> \[x\](y) \`z\` |")


def test_the_same_registry_and_destination_give_the_same_plan(tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "project")
    built = build(registry, tmp_path / "build")
    shelf = Shelf()

    def made() -> Plan:
        return prepare(registry, built, shelf, TEMPLATES, allow_synthetic=True).plan

    first = made()
    assert made() == first
    assert Plan.model_validate_json(json.dumps(first.model_dump(mode="json"))) == first

"""Plans: what they say, and when a saved one may still be carried out."""

from pathlib import Path

import pytest

from publisher.documents.plan import Change, Plan, Write
from publisher.release.plan import PlanError, as_markdown, require_same
from tests.releases import CLASSIFIER, EXTRACTOR, OTHER, build, prepare, registry_of
from tests.shelves import Shelf

A, B, C = "a" * 64, "b" * 64, "c" * 64


def plan(*changes: Change, writes: tuple[Write, ...] = ()) -> Plan:
    return Plan(destination="bucket", changes=changes, writes=writes)


NEW = Change(handle=CLASSIFIER, status="new", offered=A)
SAME = Change(handle=EXTRACTOR, status="unchanged", offered=B, there=B)
REFUSED = Change(handle=OTHER, status="changed", message=f"{OTHER}: other bytes", there=C)
INDEX = Write(path="index.json", sha256=C)


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
            f"{CLASSIFIER}: the archive that is offered changed",
        ),
        (
            plan(NEW, SAME.model_copy(update={"there": C})),
            f"{EXTRACTOR}: the archive that is there changed",
        ),
        (plan(NEW, SAME, writes=(INDEX,)), "index.json would be written"),
    ],
)
def test_a_plan_is_refused_once_the_world_has_moved(now: Plan, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        require_same(plan(NEW, SAME), now)
    assert str(caught.value).startswith("bucket: the saved plan no longer applies (")
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
        return prepare(registry, built, shelf, allow_synthetic=True).plan

    first = made()
    assert made() == first

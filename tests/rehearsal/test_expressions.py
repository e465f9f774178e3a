"""What stands in `${{ }}`."""

from typing import Any

import pytest

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Scope, Settable, Text, filled_in, holds, value_of

SCOPE = Scope(
    {
        "inputs": {"dry-run": False, "globs": "*_224_*", "none": None},
        "matrix": {"part": {"name": "1 of 2", "checkpoints": [{"name": "a"}]}, "number": 3},
        "needs": {"matrix": {"result": "success", "outputs": {"parts": '[{"name": "a"}]'}}},
        "vars": Settable(DESTINATIONS="bucket"),
        "github": {"repository": "nobody/rehearsal"},
    },
    {"success": True, "failure": False, "cancelled": False, "always": True},
)


def text(words: str) -> Text:
    return Text(words, "release.yml:7")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("inputs.globs", "*_224_*"),
        ("matrix.part.name", "1 of 2"),
        ("needs.matrix.outputs.parts", '[{"name": "a"}]'),
        ("fromJSON(needs.matrix.outputs.parts)", [{"name": "a"}]),
        ("fromJSON(toJSON(matrix.part.checkpoints))", [{"name": "a"}]),
        ("vars.DESTINATIONS", "bucket"),
        ("vars.UNSET", ""),
        ("vars.UNSET || vars.DESTINATIONS", "bucket"),
        ("inputs.dry-run && 'yes' || 'no'", "no"),
        ("!inputs.dry-run && 'yes' || 'no'", "yes"),
        ("!inputs.none", True),
        ("inputs.none || 'x'", "x"),
        ("'it''s'", "it's"),
        ("matrix.number", 3),
        ("matrix.number == 3", True),
        ("matrix.number == '3'", True),
        ("'A' == 'a'", True),
        ("'a' != 'b'", True),
        ("inputs.none == ''", True),
        ("(false || true) && 1", 1),
        ("true || false && false", True),
        ("success() && !cancelled()", True),
        ("null", None),
        ("-1.5", -1.5),
        # What && and || leave out is not asked for.
        ("false && needs.matrix.outputs.absent", False),
        ("'x' || fromJSON('no JSON')", "x"),
    ],
)
def test_an_expression_has_the_value_that_it_has_on_github(expression: str, value: Any) -> None:
    found = value_of(text(f"${{{{ {expression} }}}}"), SCOPE)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("needs.matrix.outputs.part", "needs.matrix.outputs does not know part; there is parts"),
        ("needs.build.result", "needs does not know build"),
        ("inputs.dryrun", "inputs does not know dryrun; there is dry-run, globs, none"),
        ("steps.x.outputs.y", "does not know steps"),
        ("github.repository.name", "github.repository has no parts"),
        ("hashFiles('x')", "the function hashFiles is not known here"),
        ("fromJSON()", "fromJSON has another number of arguments"),
        ("fromJSON('[')", "is no JSON"),
        ("matrix['part']", "cannot be evaluated here"),
        ("a > b", "cannot be evaluated here"),
        ("inputs.globs inputs.globs", "'inputs' is not expected"),
        ("(true", "')' is missing"),
        ("inputs.", "a name has to follow the last point"),
        ("", "it ends too early"),
    ],
)
def test_what_is_not_known_is_an_error_with_file_and_line(expression: str, said: str) -> None:
    with pytest.raises(RehearsalError, match=r"^release\.yml:7: ") as raised:
        value_of(text(f"${{{{ {expression} }}}}"), SCOPE)
    assert said in str(raised.value)


def test_expressions_are_filled_into_a_text() -> None:
    words = text("part-${{ matrix.part.name }} of ${{ inputs.none }}${{ inputs.dry-run }}")
    assert filled_in(words, SCOPE) == "part-1 of 2 of false"


def test_a_list_is_not_filled_into_a_text() -> None:
    with pytest.raises(RehearsalError, match=r"release\.yml:7: a list or mapping"):
        filled_in(text("x${{ matrix.part.checkpoints }}"), SCOPE)


@pytest.mark.parametrize(
    ("condition", "after_success", "after_failure"),
    [
        (None, True, False),
        ("inputs.globs != ''", True, False),
        ("${{ !inputs.dry-run }}", True, False),
        ("${{ !cancelled() }}", True, True),
        ("always()", True, True),
        ("failure()", False, True),
        ("${{ !cancelled() && inputs.dry-run }}", False, False),
        ("needs.matrix.result == 'success'", True, False),
    ],
)
def test_a_condition_waits_for_success_unless_it_asks_for_a_status(
    condition: str | None, after_success: bool, after_failure: bool
) -> None:
    words = None if condition is None else text(condition)
    failed = {"success": False, "failure": True, "cancelled": False, "always": True}
    assert holds(words, SCOPE) is after_success
    assert holds(words, SCOPE.asking(failed)) is after_failure

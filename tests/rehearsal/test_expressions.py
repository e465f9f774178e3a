"""The text inside `${{ }}`."""

import pytest

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Scope, Value, filled_in, holds, value_of
from publisher.rehearsal.workflow import Text

SCOPE: Scope = {
    "inputs": {"dry-run": False, "globs": "*_224_*", "none": ""},
    "matrix": {"part": {"name": "1 of 2", "checkpoints": [{"name": "a"}]}},
    "needs": {"matrix": {"result": "success", "outputs": {"parts": '[{"name": "a"}]'}}},
    "status": "success",
}


def text(words: str) -> Text:
    return Text(words, "release.yml:7")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("matrix.part.name", "1 of 2"),
        ("fromJSON(needs.matrix.outputs.parts)", [{"name": "a"}]),
        ("fromJSON(toJSON(matrix.part.checkpoints))", [{"name": "a"}]),
        ("inputs.none || inputs.globs", "*_224_*"),
        ("inputs.dry-run && 'yes' || 'no'", "no"),
        ("!inputs.dry-run && 'yes' || 'no'", "yes"),
        ("'it''s'", "it's"),
        ("'A' == 'a'", True),
        ("'a' != 'b' && !('a' == 'b')", True),
        ("inputs.globs && matrix.part.checkpoints", [{"name": "a"}]),
        ("success() && !cancelled()", True),
        # What && and || leave out is not asked for.
        ("inputs.dry-run && needs.matrix.outputs.absent", False),
        ("'x' || fromJSON('no JSON')", "x"),
    ],
)
def test_an_expression_has_the_value_that_it_has_on_github(expression: str, value: Value) -> None:
    assert value_of(text(f"${{{{ {expression} }}}}"), SCOPE) == value


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("needs.matrix.outputs.part", "part is not defined; defined: parts"),
        ("inputs.dryrun", "dryrun is not defined; defined: dry-run, globs, none"),
        ("inputs.globs.name", "name is not defined; defined: nothing"),
        ("hashFiles('x')", "hashFiles('x') is not supported here"),
        ("fromJSON('[')", "is not JSON"),
        ("matrix['part']", "is not supported here"),
        ("inputs.globs > '1'", "is not supported here"),
        ("inputs.dry-run == ''", "a rehearsal only compares texts"),
        ("!inputs.globs == 'x'", "a rehearsal only compares texts"),
        ("inputs.globs inputs.globs", "is not supported here"),
        ("(inputs.globs", "is not supported here"),
        ("", "is not supported here"),
    ],
)
def test_what_is_not_known_is_an_error_with_file_and_line(expression: str, said: str) -> None:
    with pytest.raises(RehearsalError, match=r"^release\.yml:7: ") as raised:
        value_of(text(f"${{{{ {expression} }}}}"), SCOPE)
    assert said in str(raised.value)


def test_expressions_are_filled_into_a_text() -> None:
    words = text("part-${{ matrix.part.name }}${{ inputs.none }} ${{ inputs.dry-run }}")
    assert filled_in(words, SCOPE) == "part-1 of 2 false"
    assert value_of(words, SCOPE) == "part-1 of 2 false"
    with pytest.raises(RehearsalError, match=r"release\.yml:7: .* is not a text"):
        filled_in(text("x${{ matrix.part.checkpoints }}"), SCOPE)


@pytest.mark.parametrize(
    ("condition", "after_success", "after_failure"),
    [
        (None, True, False),
        ("inputs.globs != ''", True, False),
        ("${{ !cancelled() }}", True, True),
        ("${{ always() }}", True, True),
        ("${{ failure() }}", False, True),
        ("${{ !cancelled() && inputs.dry-run }}", False, False),
    ],
)
def test_a_condition_waits_for_success_unless_it_asks_for_a_status(
    condition: str | None, after_success: bool, after_failure: bool
) -> None:
    words = None if condition is None else text(condition)
    assert holds(words, SCOPE) is after_success
    assert holds(words, {**SCOPE, "status": "failure"}) is after_failure

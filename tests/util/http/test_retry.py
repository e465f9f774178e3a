"""What is tried again, how often, and after which pauses."""

import dataclasses
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from publisher.util.http import HttpError, Retry, TransientError, is_transient, retry_after


class Step:
    """Fails with each of `errors` in turn, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_pauses_grow_up_to_a_limit(retry: Retry, pauses: list[float]) -> None:
    step = Step(*[TransientError(500, "")] * 6)
    assert dataclasses.replace(retry, attempts=7).run(step) == "done"
    for pause, base in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True):
        assert min(base, 8) <= pause <= min(base + 1, 8)


def test_the_last_failure_is_raised_and_says_how_often_it_was_tried(
    retry: Retry, pauses: list[float]
) -> None:
    step = Step(*[TransientError(503, "busy")] * 9)
    with pytest.raises(TransientError) as caught:
        retry.run(step)
    assert str(caught.value) == "the server answered 503 (busy, 4 attempts)"
    assert (step.calls, len(pauses)) == (4, 3)


def test_one_attempt_is_not_counted(retry: Retry) -> None:
    with pytest.raises(TransientError, match=r"answered 503 \(busy\)$"):
        dataclasses.replace(retry, attempts=1).run(Step(TransientError(503, "busy")))


def test_what_is_not_transient_is_not_tried_again(retry: Retry) -> None:
    step = Step(HttpError(404, ""))
    with pytest.raises(HttpError):
        retry.run(step)
    assert step.calls == 1


def test_before_each_pause_one_line_says_why(retry: Retry) -> None:
    told: list[str] = []
    retry.run(Step(TransientError(503, "busy", pause=17.0)), told.append)
    assert told == ["the server answered 503 (busy); attempt 2 of 4 in 17 s"]


@pytest.mark.parametrize(("asked", "pause"), [(17.0, 17.0), (86_400.0, 120.0)])
def test_a_server_may_ask_for_a_pause_within_bounds(
    asked: float, pause: float, retry: Retry, pauses: list[float]
) -> None:
    retry.run(Step(TransientError(429, "", pause=asked)))
    assert pauses == [pause]


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("17", 17, 17),
        ("0", 0, 0),
        ("99999999999999999999999", 1e22, 1e24),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0, 0),
        ("soon", 0, 0),
        ("-5", 0, 0),
        ("", 0, 0),
    ],
    ids=["seconds", "none", "absurd", "long past", "word", "negative", "empty"],
)
def test_retry_after_is_seconds_or_a_date(value: str, low: float, high: float) -> None:
    assert low <= retry_after({"Retry-After": value}) <= high


def test_retry_after_counts_from_now() -> None:
    before = datetime.now(UTC)
    wait = retry_after({"Retry-After": format_datetime(before + timedelta(days=1), usegmt=True)})
    passed = (datetime.now(UTC) - before).total_seconds()
    assert 86_399 - passed <= wait <= 86_400  # a date of HTTP has whole seconds


def test_which_statuses_are_transient() -> None:
    statuses = [*range(100, 600)]
    found = {status for status in statuses if is_transient(status)}
    assert {408, 429, 500, 502, 503, 504} <= found
    assert not found & {*range(100, 408), *range(430, 500), 409, 501, 505, 507}

import numpy as np
import pytest

from tests.clients.agreement import agrees

TRUTH = np.array([[1.0, -3.0], [2.0, 0.5]])
BOUND = 1e-4 + 2e-4 * 3


def test_answers_agree_within_the_bound() -> None:
    agrees("client", TRUTH.astype(np.float32) + 0.9 * BOUND, float64=TRUTH)


@pytest.mark.parametrize(
    "answer", [TRUTH + 1.1 * BOUND, TRUTH[:1], TRUTH * [[1, 1], [np.nan, 1]], TRUTH[:, ::-1]]
)
def test_other_answers_do_not(answer: object) -> None:
    with pytest.raises(AssertionError):
        agrees("client", answer, float64=TRUTH)


def test_nothing_is_proved_by_a_truth_that_is_the_same_for_every_image() -> None:
    with pytest.raises(AssertionError):
        agrees("client", TRUTH[:1].repeat(2, axis=0), float64=TRUTH[:1].repeat(2, axis=0))

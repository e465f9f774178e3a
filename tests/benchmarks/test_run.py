import pytest

from benchmarks import run
from benchmarks.figures import FIGURES
from benchmarks.measure import BenchmarkError


def test_every_figure_comes_of_a_step() -> None:
    measured = {key for step in run.STEPS for key in step.figures}
    assert measured == {figure.key for figure in FIGURES}


def test_turns_change_the_order_from_pair_to_pair() -> None:
    assert list(run.turns(3)) == [
        (0, "baseline"),
        (0, "ours"),
        (1, "ours"),
        (1, "baseline"),
        (2, "baseline"),
        (2, "ours"),
    ]


def test_globs_choose_steps() -> None:
    assert run.chosen([]) == list(run.STEPS)
    chosen = run.chosen(["convert-*", "nothing"])
    assert [step.figures[0] for step in chosen] == ["convert-R50x1", "convert-R152x2", "all"]


def test_glob_without_a_figure_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="convrt: no figure's name"):
        run.chosen(["convrt"])

"""The checks of a training step, which is taken with noise for weights: of the graph alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from publisher.validation.graph_checks import Unpacked
from publisher.validation.report import Check, compare
from publisher.validation.training import TrainingStep


@dataclass(frozen=True)
class Trained(Unpacked):
    """What these checks look at: a training step or what it raised, and what it left.

    `untrained` are the variables that the step left out (see `shorten`). `left_behind` counts
    what TensorFlow kept of the model when it was let go.
    """

    step: TrainingStep | Exception
    untrained: frozenset[str]
    left_behind: int

    def taken(self) -> TrainingStep:
        """Return the training step, or raise what it raised."""
        if isinstance(self.step, Exception):
            raise self.step
        return self.step


def gradients_are_finite(subject: Trained) -> Check:
    """Take the gradients of a training step: one for every trainable variable, all finite.

    The step is taken with noise for weights, and calls units that are alike once (see
    `validate`): what their variables would get is what those of the first get.
    """
    name = "gradients_are_finite"
    if subject.folded:
        return Check(name, "skipped", "weight standardization is folded; nothing is trainable")
    step = subject.taken()
    missing: list[str] = []
    infinite: list[str] = []
    largest = 0.0
    for variable, norm in step.norms.items():
        if norm is None and variable in subject.untrained:
            continue
        if norm is None:
            missing.append(variable)
        elif not np.isfinite(norm):
            infinite.append(variable)
        else:
            largest = max(largest, norm)
    figures = {
        "trainable_variables": len(step.norms),
        "trained": len(step.norms) - len(subject.untrained),
        "without_gradient": len(missing),
        "not_finite": len(infinite),
        "largest_gradient_norm": largest,
    }
    if sorted(step.norms) != sorted(subject.names()) or missing or infinite:
        first = f", the first {(missing + infinite)[0]}" if missing or infinite else ""
        return Check(
            name,
            "failed",
            f"{len(step.norms)} trainable variables of {len(subject.names())}; {len(missing)} "
            f"without a gradient, {len(infinite)} with one that is not finite{first}",
            figures,
        )
    return Check(
        name,
        "passed",
        f"{len(step.norms)} variables, all with a finite one; with noise for weights, and alike"
        f" units called once ({figures['trained']} variables); largest norm {largest:.1e}",
        figures,
    )


def training_argument_changes_nothing(subject: Trained) -> Check:
    """Hold the result of a training step to that of a plain call; the two are the same."""
    step = subject.taken()
    training, inference = step.result, step.inference
    comparison = compare(training, inference, subject.tolerance)
    return Check(
        "training_argument_changes_nothing",
        "passed" if comparison.within else "failed",
        comparison.describe(),
        comparison.figures(),
        {"images": subject.small_image(), "measured": training, "expected": inference},
    )


def loading_leaves_nothing_behind(subject: Trained) -> Check:
    """Load the model, let it go, and look for what TensorFlow still holds of it."""
    count = subject.left_behind
    return Check(
        "loading_leaves_nothing_behind",
        "failed" if count else "passed",
        f"{count} objects stay in memory" if count else "loaded, let go, and gone",
        {"left_behind": count},
    )


TRAINING_CHECKS: tuple[Callable[[Trained], Check], ...] = (
    gradients_are_finite,
    training_argument_changes_nothing,
    loading_leaves_nothing_behind,
)

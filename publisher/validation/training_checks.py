"""The checks of a training step. Its weights are noise, so they concern the graph alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from publisher.validation.graph_checks import GraphSubject
from publisher.validation.report import Check, compare
from publisher.validation.training import TrainingStep


@dataclass(frozen=True)
class TrainingSubject(GraphSubject):
    """A graph, and the outcome of its training step.

    `step` is the training step, or the exception that it raised. `unused` names the variables
    that the shortened model does not use (see `shorten`). `leaked_objects` is the number of
    objects that TensorFlow still held after the model was released.
    """

    step: TrainingStep | Exception
    unused: frozenset[str]
    leaked_objects: int

    def require_step(self) -> TrainingStep:
        """Return the training step, or raise the exception that it raised."""
        if isinstance(self.step, Exception):
            raise self.step
        return self.step


def gradients_are_finite(subject: TrainingSubject) -> Check:
    """Check that a training step gives every trainable variable a finite gradient.

    The step runs the shortened model, which calls each repeated unit once (see `shorten`). The
    variables of a repeated unit would get the same kind of gradient as those of the first, so
    they may lack one.
    """
    name = "gradients_are_finite"
    if subject.folded:
        return Check(name, "skipped", "weight standardization is folded; nothing is trainable")
    step = subject.require_step()
    missing: list[str] = []
    infinite: list[str] = []
    largest = 0.0
    for variable, norm in step.norms.items():
        if norm is None and variable in subject.unused:
            continue
        if norm is None:
            missing.append(variable)
        elif not np.isfinite(norm):
            infinite.append(variable)
        else:
            largest = max(largest, norm)
    figures = {
        "trainable_variables": len(step.norms),
        "trained": len(step.norms) - len(subject.unused),
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


def training_argument_changes_nothing(subject: TrainingSubject) -> Check:
    """Compare the result of a training step with that of a plain call. They must agree."""
    step = subject.require_step()
    training, inference = step.result, step.inference
    comparison = compare(training, inference, subject.tolerance)
    return Check(
        "training_argument_changes_nothing",
        "passed" if comparison.within else "failed",
        comparison.describe(),
        comparison.figures(),
        {"images": subject.small_image(), "measured": training, "expected": inference},
    )


def loading_leaves_nothing_behind(subject: TrainingSubject) -> Check:
    """Check that TensorFlow holds no object of a model that was loaded and released."""
    count = subject.leaked_objects
    return Check(
        "loading_leaves_nothing_behind",
        "failed" if count else "passed",
        f"{count} objects stay in memory" if count else "loaded, let go, and gone",
        {"left_behind": count},
    )


TRAINING_CHECKS: tuple[Callable[[TrainingSubject], Check], ...] = (
    gradients_are_finite,
    training_argument_changes_nothing,
    loading_leaves_nothing_behind,
)

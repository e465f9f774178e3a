"""The checks of a graph: what is read from it, and what its parts do without the weights."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from publisher.documents.report import Figure
from publisher.validation.conversion import conversion_obstacles
from publisher.validation.expected import noise
from publisher.validation.graph import GRAPH, Subgraph, parts_of, read_graph, untried_operations
from publisher.validation.operations import forbidden_operations
from publisher.validation.report import Check
from publisher.validation.request import Facts
from publisher.validation.trials import differentiated, lite_operations, onnx_operations

Array = npt.NDArray[np.float32]
SMALL = 64  # pixels
# Of the largest magnitude of each result or gradient, by XLA and without it.
XLA_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Unpacked(Facts):
    """What the checks of the graph look at: `directory`, where the archive was unpacked."""

    directory: Path

    @cached_property
    def graph(self) -> SavedModel:
        """The graph in that directory."""
        return read_graph(self.directory)

    @cached_property
    def parts(self) -> list[Subgraph]:
        """One part of each structure (see `parts_of`)."""
        return parts_of(self.graph)

    @property
    def network(self) -> Any:
        """The module with the TensorFlow form."""
        return importlib.import_module(f"{self.architecture.package}.network")

    def names(self) -> list[str]:
        """Return the arrays that this head keeps, in the order of the checkpoint."""
        kept = list(self.architecture.arrays(1))
        return kept if self.head == "classifier" else self.architecture.backbone(kept)

    def trainable_names(self) -> list[str]:
        """Return those of `names()` that must be trainable: all, or none in a folded variant."""
        return [] if self.folded else self.names()

    def small_image(self) -> npt.NDArray[np.float32]:
        """Return one seeded image, (1, size, size, 3) float32, for trials of the graph alone."""
        size = max(SMALL, self.architecture.smallest_image)
        return noise(self.input_range, 1, size, size, seed=0)


def graph_holds_only_allowed_operations(subject: Unpacked) -> Check:
    """Look for operations that read files, open connections or call back into Python.

    In a folded variant also for those that would standardize its kernels once more.
    """
    network = subject.network
    allowed = network.FOLDED_NETWORK_OPERATIONS if subject.folded else network.NETWORK_OPERATIONS
    count, found = forbidden_operations(subject.directory / GRAPH, allowed)
    return Check(
        "graph_holds_only_allowed_operations",
        "failed" if found else "passed",
        f"not allowed: {', '.join(found[:5])}" if found else f"{count:,} operations",
        {"operations": count, "forbidden": len(found)},
    )


def kernels_are_constant_once_frozen(subject: Unpacked) -> Check:
    """Look for what would keep converters from the kernels as they are used.

    No kernel of a convolution may follow from an image, or a converted model would standardize
    it at every call; and no function may refuse to be inlined, because converters keep none.
    """
    name = "kernels_are_constant_once_frozen"
    found = conversion_obstacles(subject.graph)
    line = f"{found.convolutions} convolutions, and every kernel follows from the weights alone"
    if found.obstacles:
        line = "; ".join(found.obstacles[:3])
    return Check(
        name,
        "failed" if found.obstacles or not found.convolutions else "passed",
        line if found.convolutions else "the graph has no convolution",
        {"convolutions": found.convolutions, "obstacles": len(found.obstacles)},
    )


def compiles_with_xla(subject: Unpacked) -> Check:
    """Compile each part of the graph and its gradient, and compare with what it gives otherwise.

    Nothing may be computed outside of the parts. A folded variant has no gradient to compile.
    """
    name = "compiles_with_xla"
    parts = subject.parts
    outside = untried_operations(subject.graph)
    figures: dict[str, Figure] = {"parts": len(parts), "outside": len(outside)}
    if outside or not parts:
        line = f"outside of functions of an image and weights: {', '.join(outside[:5])}"
        line = line if outside else "the graph has no function of an image and weights"
        return Check(name, "failed", line, figures)
    order = 0 if subject.folded else 1
    largest, where = 0.0, parts[0].name
    for part in parts:
        plain = differentiated(part, order)
        compiled = differentiated(part, order, jit_compile=True)
        for kind, measured, expected in zip(("result", "gradient"), compiled, plain, strict=False):
            for one, other in zip(measured, expected, strict=True):
                error = _relative_error(one, other)
                if error >= largest:
                    largest, where = error, f"{kind} of {part.name}"
    what = "results" if subject.folded else "results and gradients"
    return Check(
        name,
        "passed" if largest <= XLA_TOLERANCE else "failed",
        f"{what} of {len(parts)} parts: largest relative error {largest:.1e}, bound"
        f" {XLA_TOLERANCE:.1e} ({where})",
        figures | {"largest_relative_error": largest, "bound": XLA_TOLERANCE},
    )


def _relative_error(measured: Array, expected: Array) -> float:
    """Return the largest difference by the largest magnitude expected; infinite if not finite.

    In float32 and in place: the head of a network with many classes is large.
    """
    magnitude = max(float(expected.max()), -float(expected.min()), 1e-30)
    difference = measured - expected
    np.abs(difference, out=difference)
    error = float(difference.max()) / magnitude
    return error if np.isfinite(error) else float("inf")


def second_derivatives_are_finite(subject: Unpacked) -> Check:
    """Differentiate each part of the graph twice: all arguments have a finite derivative."""
    name = "second_derivatives_are_finite"
    if subject.folded:
        return Check(name, "skipped", "weight standardization is folded; nothing is trainable")
    count, missing, infinite = 0, 0, 0
    for part in subject.parts:
        _, _, second = differentiated(part, 2)
        count += len(part.arguments)
        missing += len(part.arguments) - len(second)
        infinite += sum(not np.isfinite(tensor).all() for tensor in second)
    line = f"of {count} images and weights: {missing} without one, {infinite} not finite"
    bad = missing or infinite or not count
    return Check(
        name,
        "failed" if bad else "passed",
        line if bad else f"of {count} images and weights of {len(subject.parts)} parts, all finite",
        {"arguments": count, "without": missing, "not_finite": infinite},
    )


def converts_to_few_operations(subject: Unpacked) -> Check:
    """Convert each part of the graph, and count what a convolution costs in other formats.

    Half as many again would be there if kernels were standardized whenever a model runs.
    """
    parts = [part for part in subject.parts if part.convolutions]
    most = {
        form: max((operations(part) / part.convolutions for part in parts), default=0.0)
        for form, operations in (("TensorFlow Lite", lite_operations), ("ONNX", onnx_operations))
    }
    allowed = subject.network.OPERATIONS_OF_A_CONVOLUTION
    found = [f"{figure:.1f} in {form} (at most {allowed[form]})" for form, figure in most.items()]
    good = parts and all(figure <= allowed[form] for form, figure in most.items())
    return Check(
        "converts_to_few_operations",
        "passed" if good else "failed",
        f"operations for a convolution: {', '.join(found)}" if parts else "no part convolves",
        {form: round(figure, 2) for form, figure in most.items()},
    )


GRAPH_CHECKS: tuple[Callable[[Unpacked], Check], ...] = (
    graph_holds_only_allowed_operations,
    kernels_are_constant_once_frozen,
    compiles_with_xla,
    second_derivatives_are_finite,
    converts_to_few_operations,
)

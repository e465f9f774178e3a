"""The checks of a graph, which need none of the model's weights."""

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
from publisher.validation.graph import (
    GRAPH,
    Subgraph,
    distinct_subgraphs,
    operations_outside,
    read_graph,
)
from publisher.validation.operations import forbidden_operations
from publisher.validation.report import Check
from publisher.validation.request import Facts
from publisher.validation.subgraphs import (
    count_onnx_operations,
    count_tflite_operations,
    derivatives,
)

Array = npt.NDArray[np.float32]
SMALL = 64  # pixels
# Relative to the largest magnitude of each result or gradient.
XLA_TOLERANCE = 1e-4


@dataclass(frozen=True)
class GraphSubject(Facts):
    """The graph to check. `directory` holds the unpacked archive."""

    directory: Path

    @cached_property
    def graph(self) -> SavedModel:
        """The graph in that directory."""
        return read_graph(self.directory)

    @cached_property
    def subgraphs(self) -> list[Subgraph]:
        """One subgraph of each structure (see `distinct_subgraphs`)."""
        return distinct_subgraphs(self.graph)

    @property
    def network(self) -> Any:
        """The module with the TensorFlow form."""
        return importlib.import_module(f"{self.architecture.package}.network")

    def names(self) -> list[str]:
        """Return the arrays that this head keeps, in the order of the checkpoint."""
        kept = list(self.architecture.arrays(1))
        return kept if self.head == "classifier" else self.architecture.backbone(kept)

    def trainable_names(self) -> list[str]:
        """Return the arrays that must be trainable: all, or none in a folded variant."""
        return [] if self.folded else self.names()

    def small_image(self) -> npt.NDArray[np.float32]:
        """Return one small seeded image, (1, size, size, 3) float32."""
        size = max(SMALL, self.architecture.smallest_image)
        return noise(self.input_range, 1, size, size, seed=0)


def graph_holds_only_allowed_operations(subject: GraphSubject) -> Check:
    """Check that no operation reads files, opens connections or calls back into Python.

    In a folded variant, no operation may standardize the kernels again either.
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


def kernels_are_constant_once_frozen(subject: GraphSubject) -> Check:
    """Check that converters can fold every kernel into a constant.

    No kernel may depend on an image, or a converted model would standardize it at every call.
    No function may refuse inlining, because converters inline all functions.
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


def compiles_with_xla(subject: GraphSubject) -> Check:
    """Compile each subgraph and its gradient with XLA; compare the results with those without.

    No operation may compute anything outside of the subgraphs. A folded variant has no gradient
    to compile.
    """
    name = "compiles_with_xla"
    subgraphs = subject.subgraphs
    outside = operations_outside(subject.graph)
    figures: dict[str, Figure] = {"parts": len(subgraphs), "outside": len(outside)}
    if outside or not subgraphs:
        line = f"outside of functions of an image and weights: {', '.join(outside[:5])}"
        line = line if outside else "the graph has no function of an image and weights"
        return Check(name, "failed", line, figures)
    order = 0 if subject.folded else 1
    largest, where = 0.0, subgraphs[0].name
    for subgraph in subgraphs:
        plain = derivatives(subgraph, order)
        compiled = derivatives(subgraph, order, jit_compile=True)
        for kind, measured, expected in zip(("result", "gradient"), compiled, plain, strict=False):
            for one, other in zip(measured, expected, strict=True):
                error = _relative_error(one, other)
                if error >= largest:
                    largest, where = error, f"{kind} of {subgraph.name}"
    what = "results" if subject.folded else "results and gradients"
    return Check(
        name,
        "passed" if largest <= XLA_TOLERANCE else "failed",
        f"{what} of {len(subgraphs)} parts: largest relative error {largest:.1e}, bound"
        f" {XLA_TOLERANCE:.1e} ({where})",
        figures | {"largest_relative_error": largest, "bound": XLA_TOLERANCE},
    )


def _relative_error(measured: Array, expected: Array) -> float:
    """Return the largest difference divided by the largest expected magnitude.

    Returns infinity if that is not finite. Computes in float32 and in place, because the head
    of a network with many classes is large.
    """
    magnitude = max(float(expected.max()), -float(expected.min()), 1e-30)
    difference = measured - expected
    np.abs(difference, out=difference)
    error = float(difference.max()) / magnitude
    return error if np.isfinite(error) else float("inf")


def second_derivatives_are_finite(subject: GraphSubject) -> Check:
    """Differentiate each subgraph twice. Every argument must have a finite second derivative."""
    name = "second_derivatives_are_finite"
    if subject.folded:
        return Check(name, "skipped", "weight standardization is folded; nothing is trainable")
    count, missing, infinite = 0, 0, 0
    for subgraph in subject.subgraphs:
        _, _, second = derivatives(subgraph, 2)
        count += len(subgraph.arguments)
        missing += len(subgraph.arguments) - len(second)
        infinite += sum(not np.isfinite(tensor).all() for tensor in second)
    line = f"of {count} images and weights: {missing} without one, {infinite} not finite"
    bad = missing or infinite or not count
    return Check(
        name,
        "failed" if bad else "passed",
        line
        if bad
        else f"of {count} images and weights of {len(subject.subgraphs)} parts, all finite",
        {"arguments": count, "without": missing, "not_finite": infinite},
    )


def converts_to_few_operations(subject: GraphSubject) -> Check:
    """Convert each subgraph, and count its operations per convolution in other formats.

    The limits leave no margin for a conversion that standardizes kernels at run time, which takes
    half as many operations again.
    """
    subgraphs = [subgraph for subgraph in subject.subgraphs if subgraph.convolutions]
    most = {
        form: max(
            (operations(subgraph) / subgraph.convolutions for subgraph in subgraphs), default=0.0
        )
        for form, operations in (
            ("TensorFlow Lite", count_tflite_operations),
            ("ONNX", count_onnx_operations),
        )
    }
    allowed = subject.network.OPERATIONS_OF_A_CONVOLUTION
    found = [f"{figure:.1f} in {form} (at most {allowed[form]})" for form, figure in most.items()]
    good = subgraphs and all(figure <= allowed[form] for form, figure in most.items())
    return Check(
        "converts_to_few_operations",
        "passed" if good else "failed",
        f"operations for a convolution: {', '.join(found)}" if subgraphs else "no part convolves",
        {form: round(figure, 2) for form, figure in most.items()},
    )


GRAPH_CHECKS: tuple[Callable[[GraphSubject], Check], ...] = (
    graph_holds_only_allowed_operations,
    kernels_are_constant_once_frozen,
    compiles_with_xla,
    second_derivatives_are_finite,
    converts_to_few_operations,
)

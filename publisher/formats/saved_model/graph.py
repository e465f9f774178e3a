"""The graph of a SavedModel, traced and saved without the weights.

The variables are hollow: they have names, types and shapes, and all of them are views of the
same zeros, which take no memory. What they should hold is written by `bundle`, and what saves
and restores them by `saver`.
"""

import importlib
import math
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2
from tensorflow.python.saved_model import save_context

from publisher.families import Architecture
from publisher.formats.saved_model import saver
from publisher.formats.saved_model.bundle import OBJECT_GRAPH


def save_hollow(
    architecture: Architecture,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    output: str,
    input_range: tuple[float, float],
    assets: Sequence[Path],
    folded: bool,
    directory: Path,
) -> tuple[dict[str, str], dict[str, Any]]:
    """Write a SavedModel of a network with arrays of these shapes, without their values.

    Returns the checkpoint's key for each array, and all else that belongs into the checkpoint,
    by key: NumPy arrays, and a string as bytes.
    """
    network = importlib.import_module(f"{architecture.package}.network")
    hollow = _hollow(shapes)
    without = _Without()
    options = tf.saved_model.SaveOptions(experimental_sharding_callback=without)
    # TensorFlow would trace anew, when it saves, what was traced outside of this.
    with save_context.save_context(options):
        model, signature = network.build(architecture, hollow, input_range, output, folded=folded)
    model.assets = [tf.saved_model.Asset(str(path)) for path in assets]
    without.leave_out(model.variables)
    with saver.without_saver():
        tf.saved_model.save(model, str(directory), signatures=signature, options=options)
    keys = _keys(without.others[OBJECT_GRAPH])
    of_arrays = {name: keys[name] for name in shapes}
    strings = {key: value for key, value in without.others.items() if isinstance(value, bytes)}
    saver.add_saver(directory, {**of_arrays, **keys}, strings)
    return of_arrays, without.others


def _hollow(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tf.Tensor]:
    largest = max(math.prod(shape) for shape in shapes.values())
    zeros = np.frombuffer(mmap.mmap(-1, 4 * largest), np.float32)
    return {
        name: tf.experimental.dlpack.from_dlpack(
            zeros[: math.prod(shape)].reshape(shape).__dlpack__()
        )
        for name, shape in shapes.items()
    }


class _Without(tf.train.experimental.ShardingCallback):  # type: ignore[misc]
    """Leaves some variables out of the checkpoint, and remembers the values of the others."""

    def __init__(self) -> None:
        self._left_out: set[int] = set()
        self.others: dict[str, Any] = {}

    def leave_out(self, variables: Sequence[tf.Variable]) -> None:
        """Leave these variables out from now on."""
        self._left_out.update(map(id, variables))

    @property
    def description(self) -> str:
        """What TensorFlow may show of it."""
        return "Leaves out variables whose values are written elsewhere."

    def __call__(self, shardable_tensors: Sequence[Any]) -> Sequence[dict[str, dict[str, Any]]]:
        """Return the tensors of the only shard."""
        shard: dict[str, dict[str, Any]] = {}
        for item in shardable_tensors:
            if id(item.trackable) not in self._left_out:
                shard[item.checkpoint_key] = {item.slice_spec: item.tensor}
                self.others[item.checkpoint_key] = item.tensor.numpy()
        return [shard]


def _keys(object_graph: bytes) -> dict[str, str]:
    """Return the checkpoint's key of each variable, by the name of the variable."""
    message = trackable_object_graph_pb2.TrackableObjectGraph.FromString(object_graph)
    return {
        attribute.full_name: attribute.checkpoint_key
        for node in message.nodes
        for attribute in node.attributes
    }

"""Traces and saves the graph of a SavedModel without the weights.

The variables have their names, types and shapes, but all of them are views of one buffer of
zeros, which takes no memory. `bundle` writes their real values, and `saver` adds the nodes that
save and restore them.
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


def save_without_weights(
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

    Returns the arrays' keys in TensorFlow's checkpoint, by name, and the checkpoint's other
    entries by key: NumPy arrays, or bytes for a string.
    """
    network = importlib.import_module(f"{architecture.package}.network")
    zeros = _shared_zeros(shapes)
    omitting = _OmittingCallback()
    options = tf.saved_model.SaveOptions(experimental_sharding_callback=omitting)
    # Outside of a save context, TensorFlow would trace the functions a second time to save them.
    with save_context.save_context(options):
        model, signature = network.build(architecture, zeros, input_range, output, folded=folded)
    model.assets = [tf.saved_model.Asset(str(path)) for path in assets]
    omitting.omit(model.variables)
    with saver.without_saver():
        tf.saved_model.save(model, str(directory), signatures=signature, options=options)
    keys = _keys(omitting.others[OBJECT_GRAPH])
    array_keys = {name: keys[name] for name in shapes}
    strings = {key: value for key, value in omitting.others.items() if isinstance(value, bytes)}
    saver.add_saver(directory, {**array_keys, **keys}, strings)
    return array_keys, omitting.others


def _shared_zeros(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tf.Tensor]:
    """Return zeros of these shapes. All of them share one buffer that is never touched."""
    largest = max(math.prod(shape) for shape in shapes.values())
    zeros = np.frombuffer(mmap.mmap(-1, 4 * largest), np.float32)
    return {
        name: tf.experimental.dlpack.from_dlpack(
            zeros[: math.prod(shape)].reshape(shape).__dlpack__()
        )
        for name, shape in shapes.items()
    }


class _OmittingCallback(tf.train.experimental.ShardingCallback):  # type: ignore[misc]
    """A sharding callback that omits some variables, and keeps the values of the others."""

    def __init__(self) -> None:
        self._omitted: set[int] = set()
        self.others: dict[str, Any] = {}

    def omit(self, variables: Sequence[tf.Variable]) -> None:
        """Omit these variables from now on."""
        self._omitted.update(map(id, variables))

    @property
    def description(self) -> str:
        """The description that TensorFlow requires."""
        return "Leaves out variables whose values are written elsewhere."

    def __call__(self, shardable_tensors: Sequence[Any]) -> Sequence[dict[str, dict[str, Any]]]:
        """Return the tensors of the only shard."""
        shard: dict[str, dict[str, Any]] = {}
        for item in shardable_tensors:
            if id(item.trackable) not in self._omitted:
                shard[item.checkpoint_key] = {item.slice_spec: item.tensor}
                self.others[item.checkpoint_key] = item.tensor.numpy()
        return [shard]


def _keys(object_graph: bytes) -> dict[str, str]:
    """Return each variable's key in the checkpoint, by the variable's name."""
    message = trackable_object_graph_pb2.TrackableObjectGraph.FromString(object_graph)
    return {
        attribute.full_name: attribute.checkpoint_key
        for node in message.nodes
        for attribute in node.attributes
    }

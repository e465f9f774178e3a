"""A graph is taken apart, and shortened, without a change of what is left."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from publisher.validation.graph import distinct_subgraphs, operations_outside, read_graph, shorten
from tests.validation.layers import convolved, function_of, saved

REPEATED = "resnet/block1/unit03/"


def test_a_network_is_a_stem_kinds_of_units_and_a_head(classifier: Path) -> None:
    """Of the units: with a projection, with none, and with a projection and a stride."""
    graph = read_graph(classifier)
    assert operations_outside(graph) == []
    parts = distinct_subgraphs(graph)
    kinds = [part.name.rpartition("_")[0] for part in parts]
    assert kinds == ["stem", *["residual_unit"] * 3, "head"]
    assert sorted(part.convolutions for part in parts) == [0, 1, 3, 4, 4]


def test_a_part_computes_what_its_function_does(tmp_path: Path) -> None:
    layer = function_of(lambda x, kernel: tf.nn.relu(convolved(x, kernel) - 1.0))
    saved(layer, tmp_path)
    (part,) = distinct_subgraphs(read_graph(tmp_path))
    (found,) = tf.function(lambda *given: part.compute(given))(*map(tf.constant, part.noise()))
    np.testing.assert_array_equal(found.numpy(), layer(*map(tf.constant, part.noise())).numpy())


def test_of_functions_with_one_structure_the_smallest_is_a_part(tmp_path: Path) -> None:
    def layer(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        small, another = function_of(convolved), function_of(convolved)
        wide = tf.function(
            lambda x, kernel: convolved(x, kernel),
            input_signature=[
                tf.TensorSpec((None, None, None, 3), tf.float32),
                tf.TensorSpec((3, 3, 3, 8), tf.float32),
            ],
            autograph=False,
        )
        wider = wide(x, tf.concat([kernel, kernel], 3))[..., :4]
        return wider + small(x, kernel) + another(x, kernel)

    saved(layer, tmp_path)
    (part,) = distinct_subgraphs(read_graph(tmp_path))
    assert dict(part.arguments)["kernel"] == (3, 3, 3, 4)


def test_what_is_computed_outside_of_parts_is_said(tmp_path: Path) -> None:
    saved(convolved, tmp_path)
    assert operations_outside(read_graph(tmp_path)) == ["Conv2D"]


@pytest.mark.parametrize("return_endpoints", [False, True])
def test_without_repetitions_a_network_is_as_if_those_did_nothing(
    return_endpoints: bool, classifier: Path, tmp_path: Path
) -> None:
    unused = shorten(classifier, tmp_path / "shortened")
    model, shortened = hub.load(str(classifier)), hub.load(str(tmp_path / "shortened"))
    names = {variable.name.partition(":")[0] for variable in model.variables}
    assert unused == {name for name in names if name.startswith(REPEATED)}
    assert unused
    for variable in model.variables:  # then a unit returns what it is given
        if variable.name.startswith(f"{REPEATED}c/group_norm"):
            variable.assign(tf.zeros_like(variable))
    images = tf.constant(np.random.default_rng(0).uniform(-1, 1, (2, 64, 48, 3)), tf.float32)
    expected: Any = model(images, return_endpoints=return_endpoints)
    found: Any = shortened(images, return_endpoints=return_endpoints)
    tf.nest.map_structure(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=0, atol=1e-4),
        found,
        expected,
    )


def test_the_variables_of_what_is_left_out_get_no_gradient(
    classifier: Path, tmp_path: Path
) -> None:
    unused = shorten(classifier, tmp_path / "shortened")
    model = hub.load(str(tmp_path / "shortened"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(tf.ones((1, 32, 32, 3))))
    gradients = tape.gradient(loss, model.trainable_variables)
    without = {
        variable.name.partition(":")[0]
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None
    }
    assert without == unused

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_hub as hub
from tensorflow.core.protobuf import saved_model_pb2

from publisher.architectures import Architecture
from publisher.bit import BitArchitecture, layers, network, reference
from publisher.weights import synthetic_array

Array = npt.NDArray[Any]
Weights = dict[str, npt.NDArray[np.float32]]


def images(*shape: int, low: float = -1, high: float = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(low, high, (*shape, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(classifier: Path) -> Any:
    """The classifier as a client has it."""
    return tf.saved_model.load(str(classifier))


@pytest.fixture(scope="module")
def built(architecture: BitArchitecture, arrays: Weights) -> Any:
    """The classifier before it is saved."""
    model, _ = network.build(architecture, arrays, (-1.0, 1.0), "logits")
    return model


# --- the pieces, against their formulas in float64 ---


def test_standardize_follows_its_formula() -> None:
    kernel = (np.random.default_rng(1).normal(size=(3, 3, 8, 5)) + 2).astype(np.float32)
    kernel[..., 4] = 0.25  # a constant output channel: nothing to divide by but the epsilon
    wide = kernel.astype(np.float64)
    mean = wide.mean((0, 1, 2))
    expected = (wide - mean) / np.sqrt(((wide - mean) ** 2).mean((0, 1, 2)) + 1e-10)
    centred, scale = layers.centre(tf.constant(kernel), layers.averaging(kernel))
    result = (centred * scale).numpy()
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_standardize_adds_its_epsilon_under_the_root() -> None:
    kernel = tf.constant([-1e-5, 1e-5], shape=(1, 1, 2, 1))
    centred, scale = layers.centre(kernel, layers.averaging(kernel))
    result = (centred * scale).numpy().ravel()
    np.testing.assert_allclose(result, [-math.sqrt(0.5), math.sqrt(0.5)], rtol=1e-5)


@pytest.mark.parametrize("channels", [32, 64, 256])
def test_group_norm_relu_follows_its_formula(channels: int) -> None:
    random = np.random.default_rng(2)
    x = (random.normal(size=(3, 4, 6, channels)) * 3 + random.normal(size=channels)).astype("f4")
    gamma, beta = (random.normal(size=channels).astype("f4") for _ in "gb")
    expected = np.empty(x.shape)
    for group in np.arange(channels).reshape(32, -1):
        part = x[..., group].astype(np.float64)
        mean = part.mean((1, 2, 3), keepdims=True)
        variance = ((part - mean) ** 2).mean((1, 2, 3), keepdims=True)
        expected[..., group] = (part - mean) / np.sqrt(variance + 1e-5) * gamma[group] + beta[group]
    result = layers.group_norm_relu(tf.constant(x), tf.constant(gamma), tf.constant(beta))[0]
    np.testing.assert_allclose(result.numpy(), np.maximum(expected, 0), rtol=1e-5, atol=1e-5)


def test_group_norm_adds_its_epsilon_under_the_root() -> None:
    x = tf.constant([math.sqrt(1e-5), -math.sqrt(1e-5)], shape=(1, 1, 2, 1))
    x = tf.repeat(x, 32, axis=3)
    result = layers.group_norm_relu(x, tf.ones(32), tf.zeros(32))[0].numpy()
    np.testing.assert_allclose(result[0, 0, 0], math.sqrt(0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)]
)
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_convolution_pads_all_four_sides(
    kernel_size: int, stride: int, padding: int, size: tuple[int, int]
) -> None:
    """TensorFlow's own SAME would pad an even image at the bottom and the right only."""
    random = np.random.default_rng(3)
    x = random.normal(size=(2, *size, 4)).astype(np.float32)
    kernel = random.normal(size=(kernel_size, kernel_size, 4, 5)).astype(np.float32)
    result = layers.Layers().convolve(tf.constant(x), tf.constant(kernel), stride, padding).numpy()

    wide = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = (size[0] + 2 * padding - kernel_size) // stride + 1
    columns = (size[1] + 2 * padding - kernel_size) // stride + 1
    weights = kernel.astype(np.float64) - kernel.mean((0, 1, 2), dtype=np.float64)
    weights /= np.sqrt((weights**2).mean((0, 1, 2)) + 1e-10)
    assert result.shape == (2, rows, columns, 5)
    for row, column in np.ndindex(rows, columns):
        window = wide[:, row * stride :, column * stride :][:, :kernel_size, :kernel_size]
        expected = np.einsum("bhwi,hwio->bo", window.astype(np.float64), weights)
        np.testing.assert_allclose(result[:, row, column], expected, rtol=1e-4, atol=1e-5)


def test_the_root_pools_with_zeros_and_not_minus_infinity(
    architecture: BitArchitecture, arrays: Weights
) -> None:
    """Where the root answers below zero everywhere, the zeros at the border win."""
    root = "resnet/root_block/standardized_conv2d/kernel"
    kernel = np.random.default_rng(4).uniform(0, 0.1, (7, 7, 3, 32)).astype(np.float32)
    kernel[3, 3] = 10  # the pixel itself less the mean of its neighbours
    changed = arrays | {root: kernel}
    dark_where_it_looks = np.ones((1, 32, 32, 3), np.float32)
    dark_where_it_looks[:, ::2, ::2] = -1
    answers = reference.convolve(
        dark_where_it_looks.astype(np.float64), reference.standardize(kernel), 2, 3
    )
    assert answers.max() < 0

    names = architecture.backbone(changed)
    model, _ = network.build(
        architecture, {name: changed[name] for name in names}, (-1.0, 1.0), "features"
    )
    result = model.__call__(tf.constant(dark_where_it_looks)).numpy()
    expected = reference.features(changed, dark_where_it_looks)
    # Loosely: it is far from here to what minus infinity would give.
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


# --- the whole network, against the float64 reference ---


def expected_logits(arrays: Weights, batch: Array) -> Array:
    return reference.logits(arrays, reference.features(arrays, batch))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 64), (96, 48), (160, 160)])
def test_agrees_with_the_float64_reference(
    size: tuple[int, int], model: Any, arrays: Weights
) -> None:
    batch = images(1, *size)
    result = model(batch).numpy()
    assert result.shape == (1, 10)
    assert result.dtype == np.float32
    expected = expected_logits(arrays, batch)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_feature_extractor_stops_before_the_head(
    feature_extractor: Path, architecture: Architecture, arrays: Weights
) -> None:
    loaded = tf.saved_model.load(str(feature_extractor))
    batch = images(2, 64, 40)
    result = loaded(batch).numpy()
    assert result.shape == (2, architecture.features)
    expected = reference.features(arrays, batch)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    names = [variable.name.removesuffix(":0") for variable in loaded.variables]
    assert names == architecture.backbone(arrays)
    assert loaded.signatures["serving_default"].structured_outputs == {
        "features": tf.TensorSpec((None, architecture.features), tf.float32, "features")
    }


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (-2.0, 6.0)])
def test_takes_another_range_of_inputs(
    low: float, high: float, architecture: BitArchitecture, arrays: Weights
) -> None:
    model, _ = network.build(architecture, arrays, (low, high), "logits")
    batch = images(2, 40, 40, low=low, high=high)
    scaled = (batch.astype(np.float64) - low) / (high - low) * 2 - 1
    assert scaled.min() < -0.9
    assert scaled.max() > 0.9
    expected = expected_logits(arrays, scaled)
    result = model.__call__(tf.constant(batch)).numpy()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("batch", [1, 3])
def test_an_images_result_does_not_depend_on_its_batch(batch: int, model: Any) -> None:
    together = model(images(4, 48, 48)[:batch]).numpy()
    alone = np.concatenate([model(image[None]).numpy() for image in images(4, 48, 48)[:batch]])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


# --- what a reusable SavedModel offers ---


@pytest.mark.parametrize("load", [tf.saved_model.load, hub.load])
def test_offers_what_tensorflow_hub_asks_for(load: Any, classifier: Path, arrays: Weights) -> None:
    loaded = load(str(classifier))
    for offered in (loaded.variables, loaded.trainable_variables):
        found = {variable.name.removesuffix(":0"): variable for variable in offered}
        assert list(found) == list(arrays)
        assert all(variable.trainable for variable in offered)
        for name, variable in found.items():
            np.testing.assert_array_equal(variable.numpy(), arrays[name])
    assert list(loaded.regularization_losses) == []


def test_training_may_be_left_out_or_given_either_way(model: Any) -> None:
    batch = images(1, 32, 32)
    expected = model(batch).numpy()
    for training in (False, True):
        np.testing.assert_array_equal(model(batch, training).numpy(), expected)
        np.testing.assert_array_equal(model(batch, training=training).numpy(), expected)
        np.testing.assert_array_equal(model(images=batch, training=training).numpy(), expected)


def test_has_one_signature_with_named_input_and_output(model: Any) -> None:
    assert list(model.signatures) == ["serving_default"]
    signature = model.signatures["serving_default"]
    _, named = signature.structured_input_signature
    assert named == {"images": tf.TensorSpec((None, None, None, 3), tf.float32, "images")}
    assert signature.structured_outputs == {
        "logits": tf.TensorSpec((None, 10), tf.float32, "logits")
    }
    batch = images(2, 32, 48)
    result = signature(images=tf.constant(batch))
    # Two forms of the same network, which sum in another order.
    np.testing.assert_allclose(result["logits"].numpy(), model(batch).numpy(), rtol=0, atol=1e-5)


def test_refuses_images_without_three_channels(model: Any) -> None:
    with pytest.raises(ValueError, match="matching"):
        model(np.zeros((1, 32, 32, 4), np.float32))


def test_every_variable_learns(model: Any) -> None:
    batch = tf.constant(images(2, 64, 64))
    with tf.GradientTape() as tape:
        logits = model(batch, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([1, 2], logits))
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        values = gradient.numpy()
        assert np.isfinite(values).all(), variable.name
        assert values.any(), variable.name


def test_gradients_follow_the_float64_reference(model: Any, arrays: Weights) -> None:
    """Central differences through the reference, for one number of each kind of array."""
    batch = images(1, 40, 32)
    with tf.GradientTape() as tape:
        logit = model(batch, training=True)[0, 3]
    variables = {variable.name.removesuffix(":0"): variable for variable in model.variables}
    probed = {
        "resnet/root_block/standardized_conv2d/kernel": (3, 2, 1, 5),
        "resnet/block1/unit02/b/group_norm/gamma": (7,),
        "resnet/block1/unit03/b/standardized_conv2d/kernel": (1, 0, 4, 9),
        "resnet/block2/unit01/a/proj/standardized_conv2d/kernel": (0, 0, 8, 11),
        "resnet/group_norm/beta": (100,),
        "resnet/head/conv2d/kernel": (0, 0, 17, 3),
    }
    gradients = tape.gradient(logit, {name: variables[name] for name in probed})
    for name, index in probed.items():
        step = 1e-5
        shifted = []
        for sign in (1, -1):
            wide = arrays[name].astype(np.float64)
            wide[index] += sign * step
            shifted.append(expected_logits({**arrays, name: wide}, batch)[0, 3])  # type: ignore[dict-item]
        expected = (shifted[0] - shifted[1]) / (2 * step)
        assert gradients[name].numpy()[index] == pytest.approx(expected, rel=1e-2, abs=1e-4), name


# --- the graph ---


def library(saved_model: Path) -> list[Any]:
    message = saved_model_pb2.SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    return list(message.meta_graphs[0].graph_def.library.function)


def test_the_graph_does_not_grow_with_repeated_units() -> None:
    """The second and every later unit of a block call one function."""
    found = {}
    for depth in (2, 6):
        architecture = BitArchitecture("small", (depth, 1, 1, 1), 32)
        weights = {
            name: synthetic_array(name, shape) for name, shape in architecture.arrays(10).items()
        }
        model, _ = network.build(architecture, weights, (-1.0, 1.0), "logits")
        graph = model.__call__.get_concrete_function(tf.TensorSpec((None, None, None, 3)), False)
        functions = graph.graph.as_graph_def().library.function
        units = [f for f in functions if "residual_unit" in f.signature.name]
        found[depth] = (len(functions), len(units))
    # One that projects, one that does so with a stride, and the one that is repeated.
    assert found[2] == found[6]
    assert found[6][1] == 3


def test_the_published_graph_has_each_kind_of_unit_twice(classifier: Path) -> None:
    """Once to be inlined by converters, for its numbers of channels; and once as a function that
    stays one when it runs, for any: those of a kind but for the channels are the same."""
    units = [f for f in library(classifier) if "residual_unit" in f.signature.name]
    staying = [f for f in units if "_noinline" in f.attr and f.attr["_noinline"].b]
    # Of six units, the second and the third of block 1 are of a kind.
    assert (len(units), len(staying)) == (5 + 3, 3)
    norms = [f for f in library(classifier) if "group_norm_relu" in f.signature.name]
    # One and its gradient, for any number of channels, each without a factor and with it.
    assert len(norms) == 4


def called_by(function_name: str, functions: dict[str, Any]) -> set[str]:
    found = {function_name}
    for node in functions[function_name].node_def:
        if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
            found |= called_by(node.attr["f"].func.name, functions)
    return found


def test_converters_can_inline_all_of_the_signature(classifier: Path) -> None:
    functions = {f.signature.name: f for f in library(classifier)}
    (signature,) = [name for name in functions if "signature_wrapper" in name]
    names = called_by(signature, functions)
    assert len(names) > 5
    assert not any("_noinline" in functions[name].attr for name in names)
    assert not any(node.op == "IdentityN" for name in names for node in functions[name].node_def)


def standardizations(function: Any) -> list[set[str]]:
    """Return what the shapes in each call of `centre` come from: operations, arguments."""
    made = {node.name: node for node in function.node_def}

    def sources(reference: str) -> set[str]:
        name = reference.partition(":")[0]
        if name not in made:
            return {name}
        return {made[name].op}.union(*(sources(given) for given in made[name].input))

    return [
        set().union(*(sources(given) for given in node.input[1:]))  # after the kernel
        for node in function.node_def
        if "centre" in node.attr["f"].func.name
    ]


def test_inlined_kernels_are_standardized_when_their_unit_has_its_input(classifier: Path) -> None:
    """Else all would be at once, and be in memory together. The root's waits for the images."""
    functions = {f.signature.name: f for f in library(classifier)}
    (signature,) = [name for name in functions if "signature_wrapper" in name]
    of_units: list[set[str]] = []
    of_the_root: list[set[str]] = []
    for name in called_by(signature, functions):
        place = of_units if "residual_unit" in name else of_the_root
        place += standardizations(functions[name])
    assert len(of_units) == 4 * 4 + 3  # four kinds of units with a projection, one without
    assert all(sources >= {"Maximum", "Shape", "x"} for sources in of_units)
    (sources,) = of_the_root
    assert sources >= {"Maximum", "Shape", "images"}


def test_the_gradient_written_by_hand_is_tensorflows_own(model: Any) -> None:
    """Through `__call__` by hand, through the signature by TensorFlow, for every variable."""
    batch = tf.constant(images(2, 48, 40))
    weight = tf.constant(np.random.default_rng(5).normal(size=(2, 10)).astype("f4"))
    variables = model.trainable_variables
    # Not one persistent tape: with it, TensorFlow would trace gradients of the gradients.
    with tf.GradientTape() as tape:
        result = tf.reduce_sum(model(batch, training=True) * weight)
    by_hand = tape.gradient(result, variables)
    with tf.GradientTape() as tape:
        result = tf.reduce_sum(model.signatures["serving_default"](images=batch)["logits"] * weight)
    own = tape.gradient(result, variables)
    for variable, measured, expected in zip(variables, by_hand, own, strict=True):
        largest = float(np.abs(expected).max())
        np.testing.assert_allclose(
            measured, expected, rtol=0, atol=2e-4 * largest, err_msg=variable.name
        )


def test_needs_no_keras(classifier: Path, weights_file: Path, tmp_path: Path) -> None:
    """Neither to build and export nor to load and call, with Keras made impossible to import."""
    program = """
import sys
sys.modules["keras"] = sys.modules["tf_keras"] = None
from pathlib import Path
import numpy as np
import tensorflow as tf
from publisher.architectures import ARCHITECTURES
from publisher.pipeline.workers import convert
convert(
    Path(sys.argv[1]), ARCHITECTURES["R20x0.5"], classes=10, head="classifier", output="logits",
    input_range=(-1.0, 1.0), assets=[], directory=Path(sys.argv[2]),
)
print(tf.saved_model.load(sys.argv[2])(np.zeros((1, 32, 32, 3), np.float32)).shape)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, weights_file, tmp_path / "saved_model"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "(1, 10)\n"
    assert b"keras" not in (classifier / "saved_model.pb").read_bytes().lower()


def test_building_leaves_the_arrays_alone(built: Any, arrays: Weights) -> None:
    assert len(built.variables) == len(arrays)
    built.variables[0].assign_add(tf.ones_like(built.variables[0]))
    name = next(iter(arrays))
    np.testing.assert_array_equal(arrays[name], synthetic_array(name, arrays[name].shape))

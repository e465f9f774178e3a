import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_hub as hub
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.lite.python.util import get_grappler_config, run_graph_optimizations
from tensorflow.python.framework import ops
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from publisher.families import Architecture
from publisher.families.bit import BitArchitecture, network, reference
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


# --- the whole network, against the float64 reference ---


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


def expected_logits(arrays: Weights, batch: Array) -> Array:
    return reference.logits(arrays, reference.features(arrays, batch))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (160, 96)])
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


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-2.0, 6.0)])
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


def test_endpoints_are_named_and_shaped_as_described(
    feature_extractor: Path, architecture: BitArchitecture
) -> None:
    loaded = hub.load(str(feature_extractor))
    batch = images(2, 64, 96)
    endpoints = loaded(batch, return_endpoints=True)
    width = architecture.stem_channels
    assert {name: tuple(endpoint.shape) for name, endpoint in endpoints.items()} == {
        "default": (2, 32 * width),
        "block1": (2, 16, 24, 4 * width),
        "block2": (2, 8, 12, 8 * width),
        "block3": (2, 4, 6, 16 * width),
        "block4": (2, 2, 3, 32 * width),
        "pre_pooling": (2, 2, 3, 32 * width),
    }
    assert all(endpoint.dtype == tf.float32 for endpoint in endpoints.values())
    plain = loaded(batch).numpy()
    pooled = endpoints["pre_pooling"].numpy().mean((1, 2), dtype=np.float64)
    np.testing.assert_allclose(pooled, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(endpoints["default"].numpy(), plain, rtol=1e-6, atol=1e-7)
    assert (endpoints["pre_pooling"].numpy() >= 0).all()


@pytest.mark.parametrize("training", [False, True])
def test_a_classifiers_default_endpoint_is_the_plain_call(training: bool, model: Any) -> None:
    batch = images(1, 48, 48)
    endpoints = model(batch, training=training, return_endpoints=True)
    assert endpoints["default"].shape == (1, 10)
    plain = model(batch, training=training, return_endpoints=False)
    np.testing.assert_allclose(endpoints["default"].numpy(), plain.numpy(), rtol=1e-5, atol=1e-6)


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
    np.testing.assert_allclose(result["logits"].numpy(), model(batch).numpy(), rtol=0, atol=1e-5)


def test_refuses_images_without_three_channels(model: Any) -> None:
    with pytest.raises(ValueError, match="matching"):
        model(np.zeros((1, 32, 32, 4), np.float32))


def test_every_variable_learns_and_as_the_float64_reference_says(
    model: Any, arrays: Weights
) -> None:
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
    gradients = tape.gradient(logit, variables)
    for name, gradient in gradients.items():
        assert gradient is not None, name
        assert np.isfinite(gradient.numpy()).all(), name
        assert gradient.numpy().any(), name
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
    # The first of each block, and the one that is repeated.
    assert found[2] == found[6]
    assert found[6][1] == 5


def called_by(function_name: str, functions: dict[str, Any]) -> set[str]:
    found = {function_name}
    for node in functions[function_name].node_def:
        if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
            found |= called_by(node.attr["f"].func.name, functions)
    return found


def test_the_published_graph_has_each_kind_of_unit_once(classifier: Path) -> None:
    """Of six units, the second and the third of block 1 are of a kind."""
    units = [f for f in library(classifier) if "residual_unit" in f.signature.name]
    assert len(units) == 5


def test_the_call_its_endpoints_and_the_signature_share_their_units(classifier: Path) -> None:
    functions = {f.signature.name: f for f in library(classifier)}
    units = {name for name in functions if "residual_unit" in name}
    entries = [name for name in functions if "_call_" in name or "signature_wrapper" in name]
    assert len(entries) >= 3
    assert [units & called_by(name, functions) for name in entries] == [units] * len(entries)


def test_nothing_in_the_graph_hinders_inlining_or_brings_its_own_gradient(
    classifier: Path,
) -> None:
    message = saved_model_pb2.SavedModel.FromString((classifier / "saved_model.pb").read_bytes())
    assert not message.meta_graphs[0].graph_def.library.registered_gradients
    for function in library(classifier):
        assert "_noinline" not in function.attr
        for node in function.node_def:
            assert node.op != "IdentityN"
            assert "_gradient_op_type" not in node.attr


def test_kernels_are_standardized_when_their_unit_has_its_input(classifier: Path) -> None:
    """Else all would be at once, and be in memory together."""
    for unit in (f for f in library(classifier) if "residual_unit" in f.signature.name):
        made = {node.name: node for node in unit.node_def}
        awaiting = {
            source.partition(":")[0]
            for node in unit.node_def
            for source in node.input
            if any(given.startswith("^") for given in node.input) and not source.startswith("^")
        }
        kernels = [one.name for one in unit.signature.input_arg[1:] if len(shape(unit, one)) == 4]
        assert awaiting == set(kernels)
        for node in unit.node_def:
            for source in node.input:
                if source in kernels:
                    (waits_for,) = [given[1:] for given in node.input if given.startswith("^")]
                    assert made[waits_for].input == ["x"]


def shape(function: Any, argument: Any) -> list[int]:
    index = [one.name for one in function.signature.input_arg].index(argument.name)
    shapes = function.arg_attr[index].attr["_output_shapes"].list.shape
    return [dimension.size for dimension in shapes[0].dim]


# --- what converters make of it ---


def frozen(function: Any) -> Any:
    """Return the graph with weights as constants, as converters fold and inline it."""
    made = convert_variables_to_constants_v2(function, lower_control_flow=False)
    return run_graph_optimizations(
        made.graph.as_graph_def(),
        made.inputs,
        made.outputs,
        get_grappler_config(["constfold", "function"]),
        graph=made.graph,
    )


def entry(model: Any, way: str) -> Any:
    if way == "signature":
        return model.signatures["serving_default"]
    images = tf.TensorSpec((None, None, None, 3), tf.float32, "images")
    return tf.function(lambda images: model(images)).get_concrete_function(images)


@pytest.mark.parametrize("way", ["call", "signature"])
def test_a_frozen_graph_calls_no_function_and_standardizes_nothing(way: str, model: Any) -> None:
    graph = frozen(entry(model, way))
    assert not graph.library.function
    made = {node.name: node for node in graph.node}

    def source(name: str) -> Any:
        node = made[name.partition(":")[0]]
        return source(node.input[0]) if node.op == "Identity" else node

    convolutions = [node for node in graph.node if node.op == "Conv2D"]
    assert len(convolutions) == 1 + 6 * 3 + 4
    assert {source(node.input[1]).op for node in convolutions} == {"Const"}


# --- gradients of gradients ---

STEP = 3e-2
SHALLOW = BitArchitecture("R14x0.5", (1, 1, 1, 1), 32)
WATCHED = (
    "resnet/block1/unit01/b/group_norm/gamma",
    "resnet/block2/unit01/b/standardized_conv2d/kernel",
)


@pytest.fixture(scope="module")
def shallow() -> Weights:
    """The arrays of a network that is traced in little time, even for second derivatives."""
    return {name: synthetic_array(name, shape) for name, shape in SHALLOW.arrays(10).items()}


def squared_norm(model: Any, batch: tf.Tensor, watched: list[tf.Variable]) -> tf.Tensor:
    """Return the squared norm of a logit's gradient with respect to all of these."""
    with tf.GradientTape() as tape:
        tape.watch(batch)
        logit = model.__call__(batch)[0, 3]
    gradients = tape.gradient(logit, [batch, *watched])
    return tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients])


def watched_of(model: Any) -> list[tf.Variable]:
    variables = {variable.name.removesuffix(":0"): variable for variable in model.variables}
    return [variables[name] for name in WATCHED]


def second_derivatives(model: Any, batch: tf.Tensor) -> list[Array]:
    """Return the gradients of `squared_norm`: the tapes are nested."""
    watched = watched_of(model)

    def second(batch: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(batch)
            norm = squared_norm(model, batch, watched)
        gradients: list[tf.Tensor] = tape.gradient(norm, [batch, *watched])
        return gradients

    return [gradient.numpy() for gradient in tf.function(second, autograph=False)(batch)]


@pytest.fixture
def untraced() -> Iterator[None]:
    """Functions run operation by operation: tracing second derivatives takes half a minute."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.usefixtures("untraced")
def test_second_derivatives_are_finite(shallow: Weights) -> None:
    model, _ = network.build(SHALLOW, shallow, (-1.0, 1.0), "logits")
    for gradient in second_derivatives(model, tf.constant(images(1, 32, 32))):
        assert np.isfinite(gradient).all()
        assert gradient.any()


@pytest.mark.usefixtures("untraced")
def test_second_derivatives_follow_differences_of_the_first(
    shallow: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Along a random direction of the images and of each variable.

    A network of ReLU and maxima has a first derivative that jumps, and no differences of it
    are of use. Here smooth functions take their places; all else is the network's.
    """
    monkeypatch.setattr(tf.nn, "relu", tf.nn.softplus)
    monkeypatch.setattr(tf.nn, "max_pool2d", tf.nn.avg_pool2d)
    batch = tf.constant(images(1, 32, 32))
    model, _ = network.build(SHALLOW, shallow, (-1.0, 1.0), "logits")
    watched, gradients = watched_of(model), second_derivatives(model, batch)
    random = np.random.default_rng(1)
    for index, gradient in enumerate(gradients):
        direction = random.normal(size=gradient.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        ends = []
        for step in (STEP, -STEP):
            if index == 0:
                ends.append(float(squared_norm(model, batch + step * direction, watched)))
                continue
            variable = watched[index - 1]
            before = variable.numpy()
            variable.assign(before + step * direction)
            ends.append(float(squared_norm(model, batch, watched)))
            variable.assign(before)
        expected = (ends[0] - ends[1]) / (2 * STEP)
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-2), index


# --- XLA ---


def test_xla_takes_the_call_and_its_gradient(shallow: Weights) -> None:
    """Down to XLA's own operations; tests/clients lets it compile and run them."""
    model, _ = network.build(SHALLOW, shallow, (-1.0, 1.0), "logits")

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def learn(batch: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(batch)
            logits = model.__call__(batch, training=True)
        gradients: list[tf.Tensor] = tape.gradient(logits, [batch, *model.trainable_variables])
        return gradients

    text = learn.experimental_get_compiler_ir(tf.constant(images(1, 32, 32)))(stage="hlo")
    kernels = sum("standardized_conv2d" in name for name in shallow)
    assert text.count(" convolution(") > 2 * kernels  # forward, and the gradient of each


# --- what a client's process keeps ---


def test_a_model_that_is_loaded_and_dropped_leaves_nothing(classifier: Path) -> None:
    known = len(ops.gradient_registry._registry)
    for _ in range(2):
        loaded = hub.load(str(classifier))
        loaded(images(1, 32, 32))
        root = weakref.ref(loaded)
        handles = [weakref.ref(variable.handle) for variable in loaded.variables]
        del loaded
        gc.collect()
        assert root() is None
        assert len(handles) == 63
        assert all(handle() is None for handle in handles)
        assert len(ops.gradient_registry._registry) == known


def test_needs_no_keras(classifier: Path, weights_file: Path, tmp_path: Path) -> None:
    """Neither to build and export nor to load and call, with Keras made impossible to import."""
    program = """
import sys
sys.modules["keras"] = sys.modules["tf_keras"] = None
from pathlib import Path
import numpy as np
import tensorflow as tf
from publisher.families import ARCHITECTURES
from publisher.build.workers import convert
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

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import function_pb2
from tensorflow.core.protobuf import saved_model_pb2

from publisher.formats.saved_model.canonical import make_canonical

PAIRS = tf.TensorSpec((None, 2), tf.float32)


def read(directory: Path) -> Any:
    content = (directory / "saved_model.pb").read_bytes()
    return saved_model_pb2.SavedModel.FromString(content)


def functions(directory: Path) -> dict[str, Any]:
    library = read(directory).meta_graphs[0].graph_def.library
    return {function.signature.name: function for function in library.function}


def constants(function: Any) -> list[str]:
    return [node.name for node in function.node_def if node.op == "Const"]


# --- graphs made by hand ---


def graph(directory: Path, function: function_pb2.FunctionDef) -> Any:
    """Write a SavedModel of this one function, make it canonical, and return the function."""
    message = saved_model_pb2.SavedModel()
    message.meta_graphs.add().graph_def.library.function.append(function)
    (directory / "saved_model.pb").write_bytes(message.SerializeToString())
    make_canonical(directory)
    (found,) = functions(directory).values()
    return found


def constant(
    function: Any, name: str, value: Any, *inputs: str, device: str = "", dtype: Any = None
) -> None:
    tensor = tf.make_tensor_proto(value, dtype)
    node = function.node_def.add(name=name, op="Const", input=inputs, device=device)
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)


@pytest.fixture
def function() -> Any:
    """A function without nodes."""
    made = function_pb2.FunctionDef()
    made.signature.name = "__inference_made_7"
    return made


def test_equal_constants_become_the_first_of_them(function: Any, tmp_path: Path) -> None:
    constant(function, "two", 2.0)
    constant(function, "three", 3.0)
    constant(function, "again", 2.0)
    function.node_def.add(name="sum", op="AddV2", input=["again:output:0", "two:output:0"])
    found = graph(tmp_path, function)
    assert [node.name for node in found.node_def] == ["two", "three", "sum"]
    assert list(found.node_def[2].input) == ["two:output:0", "two:output:0"]


def test_results_that_were_merged_are_found_under_the_new_name(
    function: Any, tmp_path: Path
) -> None:
    constant(function, "two", 2.0)
    constant(function, "again", 2.0)
    for name in ("result", "other"):
        function.signature.output_arg.add(name=name, type=tf.float32.as_datatype_enum)
    function.signature.control_output.append("done")
    function.ret.update({"result": "again:output:0", "other": "two:output:0"})
    function.control_ret["done"] = "again"
    found = graph(tmp_path, function)
    assert dict(found.ret) == {"result": "two:output:0", "other": "two:output:0"}
    assert dict(found.control_ret) == {"done": "two"}


def test_who_waits_for_merged_constants_waits_for_one_once(function: Any, tmp_path: Path) -> None:
    constant(function, "two", 2.0)
    constant(function, "again", 2.0)
    waits = ["two:output:0", "two:output:0", "^two", "^again", "^other"]
    function.node_def.add(name="other", op="NoOp", input=["^again"])
    function.node_def.add(name="sum", op="AddV2", input=waits)
    found = {node.name: list(node.input) for node in graph(tmp_path, function).node_def}
    assert found == {
        "two": [],
        "other": ["^two"],
        "sum": ["two:output:0", "two:output:0", "^two", "^other"],
    }


@pytest.mark.parametrize(
    "other",
    [
        {"value": 3.0},
        {"value": -2.0},
        {"value": [2.0]},
        {"value": [[2.0]]},
        {"value": 2, "dtype": tf.int32},
        {"value": 2.0, "dtype": tf.float64},
        {"value": b"2.0"},
        {"value": 2.0, "device": "/device:GPU:0"},
    ],
    ids=str,
)
def test_other_constants_are_not_merged(
    other: dict[str, Any], function: Any, tmp_path: Path
) -> None:
    constant(function, "two", 2.0)
    constant(function, "other", **other)
    assert constants(graph(tmp_path, function)) == ["two", "other"]


def test_zeros_of_either_sign_are_not_merged(function: Any, tmp_path: Path) -> None:
    constant(function, "positive", 0.0)
    constant(function, "negative", -0.0)
    assert len(constants(graph(tmp_path, function))) == 2


def test_constants_that_wait_for_different_nodes_are_not_merged(
    function: Any, tmp_path: Path
) -> None:
    function.node_def.add(name="first", op="NoOp")
    function.node_def.add(name="second", op="NoOp")
    constant(function, "early", 2.0, "^first")
    constant(function, "late", 2.0, "^second")
    constant(function, "late_too", 2.0, "^second")
    assert constants(graph(tmp_path, function)) == ["early", "late"]


def test_only_constants_are_merged(function: Any, tmp_path: Path) -> None:
    for name in ("random", "another"):
        function.node_def.add(name=name, op="RandomUniform")
    assert len(graph(tmp_path, function).node_def) == 2


def test_each_function_keeps_constants_of_its_own(function: Any, tmp_path: Path) -> None:
    constant(function, "two", 2.0)
    message = saved_model_pb2.SavedModel()
    library = message.meta_graphs.add().graph_def.library
    for number in (7, 9):
        function.signature.name = f"__inference_made_{number}"
        library.function.append(function)
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    make_canonical(tmp_path)
    found = functions(tmp_path)
    assert {name: constants(one) for name, one in found.items()} == {
        "__inference_made_0": ["two"],
        "__inference_made_1": ["two"],
    }


def test_what_a_custom_gradient_takes_by_name_stays(function: Any, tmp_path: Path) -> None:
    for name in ("two", "kept", "again"):
        constant(function, name, 2.0)
    message = saved_model_pb2.SavedModel()
    meta_graph = message.meta_graphs.add()
    meta_graph.graph_def.library.function.append(function)
    captured = meta_graph.object_graph_def.nodes.add().captured_tensor
    captured.name, captured.concrete_function = "kept:0", function.signature.name
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    make_canonical(tmp_path)
    (found,) = functions(tmp_path).values()
    assert constants(found) == ["two", "kept"]
    captured = read(tmp_path).meta_graphs[0].object_graph_def.nodes[0].captured_tensor
    assert (captured.name, captured.concrete_function) == ("kept:0", "__inference_made_0")


def test_functions_stand_and_are_numbered_in_the_order_in_which_they_were_made(
    tmp_path: Path,
) -> None:
    message = saved_model_pb2.SavedModel()
    library = message.meta_graphs.add().graph_def.library
    names = ["__inference_b_110", "__inference_a_9", "__inference_c_110", "plain", "d_21"]
    for name in names:
        library.function.add().signature.name = name
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    make_canonical(tmp_path)
    assert list(functions(tmp_path)) == [
        "plain",
        "__inference_a_0",
        "d_1",
        "__inference_b_2",
        "__inference_c_2",
    ]


# --- models of other makers ---


class Line(tf.Module):  # type: ignore[misc]
    """A function that calls another, twice with one constant."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = tf.Variable([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], name="slope")

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def doubled(x: tf.Tensor) -> tf.Tensor:
            return x * 2.0 + 2.0

        self.doubled = doubled

    @tf.function(input_signature=[PAIRS], autograph=False)  # type: ignore[untyped-decorator]
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.doubled(x) @ self.slope + 2.0


class Branches(Line):
    """Loops and branches name functions too, in other places than calls do."""

    @tf.function(input_signature=[PAIRS], autograph=False)  # type: ignore[untyped-decorator]
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        y = self.doubled(x) @ self.slope
        _, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2.0 + 1.0), [0, y])
        y = tf.cond(tf.reduce_sum(y) > 0.0, lambda: y + 3.0, lambda: y - 3.0)
        cases: list[Callable[[], tf.Tensor]] = [lambda: y, lambda: y + 1.0, lambda: y * 2.0]
        return tf.switch_case(tf.shape(x)[0] % 3, cases)


class Cubed(Line):
    """A custom gradient, other than the true one so that it is seen, with captured values."""

    @tf.function(input_signature=[PAIRS], autograph=False)  # type: ignore[untyped-decorator]
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def cube(value: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            seven = tf.constant(7.0)
            squared = value * value * tf.constant(7.0)
            return squared * value * seven, lambda upstream: upstream * squared * seven

        return cube(self.doubled(x) @ self.slope)


MODELS = pytest.mark.parametrize("model", [Line, Branches, Cubed])


def saved(model: type[Line], directory: Path, *, canonical: bool = True) -> Path:
    made = model()
    options = tf.saved_model.SaveOptions(
        experimental_custom_gradients=True, function_aliases={"called": made.__call__}
    )
    tf.saved_model.save(made, str(directory), made.__call__, options)
    if canonical:
        make_canonical(directory)
    return directory


def behaviour(directory: Path) -> list[np.ndarray[Any, Any]]:
    """Return what a model computes, its signature too, and its gradient."""
    model = tf.saved_model.load(str(directory))
    results = []
    for rows in (1, 2, 3):
        x = tf.constant(np.random.default_rng(rows).normal(size=(rows, 2)), tf.float32)
        with tf.GradientTape() as tape:
            result = model(x)
        signature = model.signatures["serving_default"](x)["output_0"]
        results += [result, signature, tape.gradient(result, model.slope)]
    return [tensor.numpy() for tensor in results]


@MODELS
def test_another_maker_s_model_computes_what_it_did(model: type[Line], tmp_path: Path) -> None:
    saved(model, tmp_path, canonical=False)
    before = behaviour(tmp_path)
    size = (tmp_path / "saved_model.pb").stat().st_size
    make_canonical(tmp_path)
    assert (tmp_path / "saved_model.pb").stat().st_size < size
    for expected, measured in zip(before, behaviour(tmp_path), strict=True):
        np.testing.assert_array_equal(measured, expected)


@MODELS
def test_what_the_process_did_before_leaves_no_trace(model: type[Line], tmp_path: Path) -> None:
    first = saved(model, tmp_path / "first")
    for offset in range(7):  # TensorFlow's counters go on
        tf.function(lambda x, offset=offset: x + offset, autograph=False)(tf.constant(1.0))
    second = saved(model, tmp_path / "second")
    assert list(functions(first)) == list(functions(second))
    assert (first / "saved_model.pb").read_bytes() == (second / "saved_model.pb").read_bytes()


@MODELS
def test_to_do_it_again_changes_nothing(model: type[Line], tmp_path: Path) -> None:
    saved(model, tmp_path)
    once = (tmp_path / "saved_model.pb").read_bytes()
    make_canonical(tmp_path)
    assert (tmp_path / "saved_model.pb").read_bytes() == once


@MODELS
def test_all_names_of_functions_are_those_in_the_graph(model: type[Line], tmp_path: Path) -> None:
    meta_graph = read(saved(model, tmp_path)).meta_graphs[0]
    known = set(functions(tmp_path))
    named = {*meta_graph.object_graph_def.concrete_functions}
    named.update(meta_graph.meta_info_def.function_aliases)
    library = meta_graph.graph_def.library
    named.update(item.gradient_func for item in library.registered_gradients)
    for nodes in (meta_graph.graph_def.node, *(one.node_def for one in library.function)):
        for node in nodes:
            for value in node.attr.values():
                named.update(one.name for one in (value.func, *value.list.func) if one.name)
    assert named <= known
    numbers = {int(match[1]) for name in known if (match := re.search(r"_(\d+)$", name))}
    assert numbers == set(range(len(numbers)))


def test_a_gradient_is_still_the_one_that_was_registered(tmp_path: Path) -> None:
    """The wrong one of `Cubed` says that it was not made anew from the operations."""
    model = tf.saved_model.load(str(saved(Cubed, tmp_path)))
    x = tf.constant([[1.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = model.__call__(x)
    y = 2.0 * x.numpy() + 2.0
    y = y @ model.slope.numpy()
    np.testing.assert_allclose(result.numpy(), 49.0 * y**3, rtol=1e-5)
    expected = (49.0 * y**2) @ model.slope.numpy().T * 2.0
    np.testing.assert_allclose(tape.gradient(result, x).numpy(), expected, rtol=1e-5)


@MODELS
def test_another_maker_s_model_is_still_saved_and_restored_whole(
    model: type[Line], tmp_path: Path
) -> None:
    saved(model, tmp_path / "model")
    prefix = str(tmp_path / "again")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        saver = v1.saved_model.loader.load(session, ["serve"], str(tmp_path / "model")).saver_def
        session.run(saver.save_tensor_name, {saver.filename_tensor_name: prefix})
    before = tf.train.load_checkpoint(str(tmp_path / "model" / "variables" / "variables"))
    after = tf.train.load_checkpoint(prefix)
    assert after.get_variable_to_shape_map() == before.get_variable_to_shape_map()
    for key in before.get_variable_to_shape_map():
        np.testing.assert_array_equal(after.get_tensor(key), before.get_tensor(key))


# --- what is published ---


@pytest.mark.parametrize("head", ["classifier", "feature_extractor"])
def test_a_published_graph_is_canonical(head: str, request: pytest.FixtureRequest) -> None:
    directory = request.getfixturevalue(head)
    found = functions(directory)
    numbers = [int(match[1]) for name in found if (match := re.search(r"_(\d+)$", name))]
    assert numbers == list(range(len(found)))
    assert not read(directory).meta_graphs[0].graph_def.library.registered_gradients

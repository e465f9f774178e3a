import os
import sys
import tempfile
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_hub as hub
from tensorflow.python.framework import ops

from publisher.pages.snippets import Snippet, SnippetProblem
from publisher.validation.snippets import run_snippet

LINE = 10  # of the block's fence
ADDRESS = "https://storage.example/models/anna/net/1/model.tar.gz"
LOADING = f"""
import tensorflow as tf
import tensorflow_hub as hub

model = hub.load("{ADDRESS}")
assert model(tf.zeros((1, 32, 32, 3))).shape == (1, 10)
"""
LAYER = f"""
import os
<before>
import tensorflow as tf
import tensorflow_hub as hub
<after>
model = tf.keras.Sequential(
    [
        tf.keras.layers.InputLayer(input_shape=(32, 32, 3)),
        hub.KerasLayer("{ADDRESS}", trainable=True),
    ]
)
assert len(model.trainable_weights) == 63
"""
LEGACY = 'os.environ["TF_USE_LEGACY_KERAS"] = "1"'
BRANCHING = """
import tensorflow as tf

@tf.function
def halved(number):
    if number > 2:
        return number // 2
    return number

assert halved(tf.constant(6)) == 3
"""
NAMING = """
import tensorflow as tf

model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
assert model.get_layer("dense") is model.layers[0]
"""


@pytest.fixture
def archives(classifier_archive: Path) -> dict[str, Path]:
    """What lies at the address that a block may name."""
    return {ADDRESS: classifier_archive}


def layer(*, before: str = "", after: str = "") -> str:
    return LAYER.replace("<before>", before).replace("<after>", after)


@pytest.mark.parametrize(
    "code",
    [
        LOADING,
        f"import tensorflow_hub as hub\nhub.resolve('{ADDRESS}')",
        BRANCHING,
        "if __name__ == '__main__':\n    done = True\nassert done",
        "import sys\nsys.exit(len(sys.argv) - 1)",
        "import pickle\nclass Net:\n    pass\npickle.dumps(Net())",
        "print('käse')",
        "# https://example.org/comment",
    ],
    ids=range(8),
)
def test_what_runs_for_a_reader_runs_here(code: str, archives: dict[str, Path]) -> None:
    assert run_snippet(Snippet(LINE, code), archives) is None


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        ("\nprint(1 / 0)", 2, "ZeroDivisionError: division by zero"),
        ("def f():\n    raise KeyError\n\nf()", 2, "KeyError"),
        ("import json\n\njson.loads('?')", 3, "JSONDecodeError: Expecting value: line 1 column 1"),
        ("raise ValueError('first\\nsecond')", 1, "ValueError: first;"),
        ("open('nowhere')", 1, "FileNotFoundError: [Errno 2] No such file or directory"),
        ("import sys\nsys.exit('nothing to do')", 2, "SystemExit: nothing to do"),
        ("input()", 1, "Error: "),
        (f"raise ValueError('not at {ADDRESS}')", 1, f"ValueError: not at {ADDRESS};"),
        (f"{LOADING}model('text')", 7, "Error: "),
    ],
    ids=range(9),
)
def test_what_fails_is_named_with_its_line(
    code: str, line: int, said: str, archives: dict[str, Path]
) -> None:
    fault = run_snippet(Snippet(LINE, code), archives)
    assert fault is not None
    assert fault.line == LINE + line
    assert fault.message.startswith("this Python fails: ")
    assert said in fault.message
    assert fault.message.endswith("; correct the template")
    assert "\n" not in fault.message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "load('https://example.org/model.tar.gz')",
            "this Python names https://example.org/model.tar.gz, which is not where this page's"
            f" model is; allowed: {ADDRESS}; correct the template",
        ),
        ("load(f'gs://{bucket}')", "this Python names gs://, which "),
        (f"load('{ADDRESS}.txt')", f"this Python names {ADDRESS}.txt, which "),
        ("size = = 3", "this Python does not compile: invalid syntax"),
    ],
)
def test_what_must_not_be_run_is_not_run(
    code: str, message: str, archives: dict[str, Path], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    fault = run_snippet(Snippet(LINE, f"open({str(ran)!r}, 'w')\n{code}"), archives)
    assert fault is not None
    assert fault.line == LINE + 2
    assert fault.message.startswith(message)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("before", "after", "good"),
    [("", "", False), ("", LEGACY, False), (LEGACY, "", True)],
    ids=["not asked for", "asked for too late", "asked for"],
)
def test_keras_2_is_there_for_those_who_ask_for_it_in_time(
    before: str, after: str, good: bool, archives: dict[str, Path]
) -> None:
    keras = tf.keras
    fault = run_snippet(Snippet(LINE, layer(before=before, after=after)), archives)
    assert (fault is None) == good
    assert good or "Only instances of `keras.Layer`" in str(fault)
    assert tf.keras is keras
    assert sys.modules["tensorflow_hub"] is hub


@pytest.mark.parametrize("asked", ["", f"import os\n{LEGACY}\n"])
def test_layers_have_the_names_that_a_new_process_gives_them(asked: str) -> None:
    for _ in range(2):
        assert run_snippet(Snippet(LINE, asked + NAMING), {}) is None


def test_nothing_of_what_is_printed_gets_to_standard_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = """
import os
import subprocess
import sys
import tensorflow as tf

print("of Python")
os.write(1, b"of a file by its number")
tf.print("of native code", output_stream=sys.stdout)
subprocess.run([sys.executable, "-c", "print('of a child')"], check=True)
"""
    assert run_snippet(Snippet(LINE, code), {}) is None
    os.write(1, b"what comes after")
    assert capfd.readouterr().out == "what comes after"


def test_a_block_leaves_nothing_behind(archives: dict[str, Path], tmp_path: Path) -> None:
    code = f"""
import os
import sys

{LEGACY}
os.environ["ADDED"] = "1"
del os.environ["PATH"]
open("file", "w").write("in the current folder")
os.chdir("/")
sys.argv.append("more")
{LOADING}
raise ValueError
"""
    environment, folder, arguments = dict(os.environ), Path.cwd(), list(sys.argv)
    gradients = set(ops.gradient_registry._registry)
    tempfile.tempdir, before = str(tmp_path), tempfile.tempdir
    try:
        fault = run_snippet(Snippet(LINE, code), archives)
    finally:
        tempfile.tempdir = before
    assert fault is not None
    assert "ValueError" in fault.message
    assert (dict(os.environ), Path.cwd(), sys.argv) == (environment, folder, arguments)
    assert set(ops.gradient_registry._registry) == gradients
    assert list(tmp_path.iterdir()) == []


def test_a_block_knows_nothing_of_the_one_before() -> None:
    assert run_snippet(Snippet(LINE, "size = 3"), {}) is None
    fault = run_snippet(Snippet(LINE, "print(size)"), {})
    assert fault == SnippetProblem(
        LINE + 1,
        "this Python fails: NameError: name 'size' is not defined; correct the template",
    )

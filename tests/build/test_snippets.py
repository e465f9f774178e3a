"""Pages are tried with stand-ins, in a worker process with TensorFlow."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from publisher.build.snippets import StandIn, Tried, make_stand_in, smallest, try_page
from publisher.build.workers import Workers
from publisher.families import ARCHITECTURES
from publisher.pages.snippets import SnippetProblem
from publisher.util.files import sha256_file
from tests.releases import times, tree

ADDRESS = "https://storage.example/models/anna/net/1/model.tar.gz"
INPUTS = {"code": "a" * 64}
FEATURES = """
import tensorflow as tf
import tensorflow_hub as hub

model = hub.load("https://storage.example/models/anna/net/1/model.tar.gz")
images = tf.zeros((2, 32, 32, 3))
assert list(model.signatures["serving_default"](images)) == ["features"]
assert model(images).shape[0] == 2
assert len(model.trainable_variables) > 0
"""
FOLDED_LOGITS = """
from pathlib import Path
import tensorflow as tf
import tensorflow_hub as hub

address = "https://storage.example/models/anna/net/1/model.tar.gz"
model = hub.load(address)
images = tf.zeros((2, 32, 32, 3))
assert list(model.signatures["serving_default"](images)) == ["logits"]
assert model(images).shape == (2, 7)
assert len(model.trainable_variables) == 0
names = Path(hub.resolve(address), "assets", "names.txt").read_text()
assert len(names.splitlines()) == 10
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    """One process for all tests that leave it as it is."""
    running = Workers(1)
    yield running
    running.close()


@pytest.fixture(scope="module")
def stand_in() -> StandIn:
    """That of a feature extractor."""
    return StandIn(
        architecture=ARCHITECTURES["R20x0.5"],
        classes=7,
        head="feature_extractor",
        output="features",
        input_range=(-1.0, 1.0),
        assets=(),
        folded=False,
    )


@pytest.fixture(scope="module")
def archive(stand_in: StandIn, pool: Workers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stand_in(stand_in, tmp_path_factory.mktemp("features"), pool, INPUTS)


def page(*blocks: str) -> str:
    return "# Net\n" + "".join(f"\n```python\n{block.strip()}\n```\n" for block in blocks)


def appending(path: Path, letter: str = "x") -> str:
    """A block that says that it ran."""
    return f"with open({str(path)!r}, 'a') as file:\n    file.write({letter!r})"


def test_the_stand_in_is_of_the_smallest_network_of_the_family() -> None:
    assert {smallest(one).name for one in ARCHITECTURES.values()} == {"R20x0.5"}


def test_a_stand_in_has_the_interface_of_its_variant(
    stand_in: StandIn, archive: Path, pool: Workers, class_names_file: Path, tmp_path: Path
) -> None:
    classifier = replace(
        stand_in, head="classifier", output="logits", assets=(class_names_file,), folded=True
    )
    other = make_stand_in(classifier, tmp_path / "logits", pool, INPUTS)
    for block, one in ((FEATURES, archive), (FOLDED_LOGITS, other)):
        tried = try_page(page(block), {ADDRESS: one}, tmp_path, pool, INPUTS)
        assert tried == Tried(1, 1, ())


def test_settings_tell_stand_ins_apart(stand_in: StandIn, class_names_file: Path) -> None:
    others = [
        replace(stand_in, architecture=ARCHITECTURES["R50x1"]),
        replace(stand_in, classes=8),
        replace(stand_in, head="classifier"),
        replace(stand_in, output="logits"),
        replace(stand_in, input_range=(0.0, 1.0)),
        replace(stand_in, assets=(class_names_file,)),
        replace(stand_in, folded=True),
    ]
    settings = [str(one.settings()) for one in (stand_in, *others)]
    assert len(set(settings)) == len(settings)


def test_a_stand_in_is_made_once_and_again_where_it_is_not_as_it_was(
    stand_in: StandIn, pool: Workers, tmp_path: Path
) -> None:
    target = make_stand_in(stand_in, tmp_path, pool, INPUTS)
    before, digest = times(tmp_path), sha256_file(target)
    assert set(tree(tmp_path)) == {"model.tar.gz", "records/stand-in.json"}
    assert make_stand_in(stand_in, tmp_path, pool, INPUTS) == target
    assert times(tmp_path) == before
    target.write_bytes(b"damaged")
    make_stand_in(stand_in, tmp_path, pool, INPUTS)
    assert sha256_file(target) == digest
    before = times(tmp_path)
    make_stand_in(stand_in, tmp_path, pool, {"code": "b" * 64})
    assert times(tmp_path) != before


def test_a_block_runs_once_and_again_when_it_or_what_it_follows_from_is_another(
    archive: Path, pool: Workers, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    one, two = appending(counter, "1"), appending(counter, "2")
    archives = {ADDRESS: archive}
    tried = [
        try_page(page(one), archives, tmp_path, pool, INPUTS),
        try_page(page(one), archives, tmp_path, pool, INPUTS),
        try_page(page("never = 'run'", two, one), archives, tmp_path, pool, INPUTS),
        try_page(page(one), archives, tmp_path, pool, {"code": "b" * 64}),
    ]
    assert tried == [Tried(1, 1, ()), Tried(1, 0, ()), Tried(3, 2, ()), Tried(1, 1, ())]
    assert counter.read_text() == "121"


def test_a_block_that_is_another_only_in_the_size_of_its_images_runs_once(
    archive: Path, pool: Workers, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"

    def tried(resolution: int, shape: str, other: str = "0") -> int:
        block = f"{appending(counter)}\nshape, other = {shape}, {other}"
        return try_page(
            page(block), {ADDRESS: archive}, tmp_path, pool, INPUTS, resolution=resolution
        ).ran

    assert tried(224, "(1, 224, 224, 3)") == 1
    assert tried(160, "(1, 160, 160, 3)") == 0
    assert tried(160, "(1, 224, 224, 3)") == 1  # not the size of this one's images
    assert tried(224, "(1, 224, 224, 3)", "2.224") == 1  # the digits of another number
    assert tried(160, "(1, 160, 160, 3)", "2.160") == 1
    assert counter.read_text() == "xxxx"


def test_a_block_that_failed_is_run_again_and_the_others_are_run_all_the_same(
    archive: Path, pool: Workers, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    text = page("print(1 / 0)", appending(counter))
    fault = SnippetProblem(
        4, "this Python fails: ZeroDivisionError: division by zero; correct the template"
    )
    tried = [try_page(text, {ADDRESS: archive}, tmp_path, pool, INPUTS) for _ in range(2)]
    assert tried == [Tried(2, 2, (fault,)), Tried(2, 1, (fault,))]
    assert text.splitlines()[fault.line - 1] == "print(1 / 0)"
    assert counter.read_text() == "x"


def test_a_block_that_does_not_end_is_stopped_and_the_next_is_run(
    archive: Path, pool: Workers, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    text = page("while True:\n    pass")
    archives = {ADDRESS: archive}
    tried = try_page(text, archives, tmp_path, pool, INPUTS, timeout=1)
    [fault] = tried.faults
    assert fault == SnippetProblem(3, "this Python was not done after 1 s; correct the template")
    assert try_page(page(appending(counter)), archives, tmp_path, pool, INPUTS).faults == ()
    assert counter.read_text() == "x"

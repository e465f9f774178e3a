import importlib
import importlib.util
import pickle
import subprocess
import sys

import pytest

from publisher.families import ARCHITECTURES

# What a run with nothing to do may import.
LIGHT_MODULES = (
    *(
        "publisher.families",
        "publisher.families.bit",
        "publisher.util.files",
        "publisher.formats.archive",
    ),
    *("publisher.build.workers", "publisher.weights"),
)


def test_knows_the_six_of_the_bit_family() -> None:
    assert set(ARCHITECTURES) >= {"R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_keeps_what_the_program_relies_on(name: str) -> None:
    architecture = ARCHITECTURES[name]
    assert architecture.name == name
    assert architecture.smallest_image == 32
    shapes = architecture.arrays(10)
    kept = architecture.backbone(shapes)
    assert set(kept) < set(shapes)
    assert kept == [name for name in shapes if name in kept]
    for part in ("network", "reference"):
        assert importlib.util.find_spec(f"{architecture.package}.{part}")
    # Only the head depends on the number of classes.
    other = architecture.arrays(21_843)
    assert {key for key in shapes if shapes[key] != other[key]} == set(shapes) - set(kept)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_survives_the_way_to_a_worker_process(name: str) -> None:
    assert pickle.loads(pickle.dumps(ARCHITECTURES[name])) == ARCHITECTURES[name]  # noqa: S301


def test_knowing_them_does_not_cost_tensorflow() -> None:
    program = (
        f"import importlib, sys\n"
        f"for name in {LIGHT_MODULES!r}: importlib.import_module(name)\n"
        "print(*(name for name in ('tensorflow', 'keras', 'tf_keras') if name in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""

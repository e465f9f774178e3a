import io
import math
from collections import Counter

import numpy as np
import pytest

from publisher.families.bit import ARCHITECTURES, BitArchitecture
from publisher.families.bit.layout import HEAD_BIAS, HEAD_KERNEL


def parameters(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def npz_size(shapes: dict[str, tuple[int, ...]]) -> int:
    """The size in bytes of what `numpy.savez` writes, without writing it."""
    size = 22  # end of central directory
    for name, shape in shapes.items():
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        member = f"{name}.npy"
        local = 30 + len(member) + 20  # NumPy asks for the zip64 field, 20 bytes
        central = 46 + len(member)
        size += local + len(header.getvalue()) + 4 * math.prod(shape) + central
    return size


def test_has_the_six_of_the_family_and_two_stand_ins() -> None:
    assert set(ARCHITECTURES) == {
        *("R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4"),
        *("R20x0.5", "R20x1"),
    }
    assert all(architecture.name == name for name, architecture in ARCHITECTURES.items())


@pytest.mark.parametrize(
    ("name", "parameter_count", "array_count", "features"),
    [
        ("R50x1", 25_549_352, 153, 2048),
        ("R152x2", 236_335_208, 459, 4096),
    ],
)
def test_counts_what_upstream_publishes(
    name: str, parameter_count: int, array_count: int, features: int
) -> None:
    architecture = ARCHITECTURES[name]
    shapes = architecture.arrays(1000)
    assert parameters(shapes) == parameter_count
    assert len(shapes) == array_count
    assert architecture.features == features


@pytest.mark.parametrize(
    ("name", "units", "channels"),
    [
        ("R50x1", (3, 4, 6, 3), 64),
        ("R50x3", (3, 4, 6, 3), 192),
        ("R101x1", (3, 4, 23, 3), 64),
        ("R101x3", (3, 4, 23, 3), 192),
        ("R152x2", (3, 8, 36, 3), 128),
        ("R152x4", (3, 8, 36, 3), 256),
        ("R20x0.5", (3, 1, 1, 1), 32),
        ("R20x1", (3, 1, 1, 1), 64),
    ],
)
def test_depth_and_width_follow_the_name(name: str, units: tuple[int, ...], channels: int) -> None:
    architecture = ARCHITECTURES[name]
    assert architecture.units == units
    assert architecture.stem_channels == channels
    # 1 root array, 9 a unit, 1 a projection, 4 at the end.
    assert len(architecture.arrays(7)) == 1 + 9 * sum(units) + 4 + 4
    shapes = architecture.arrays(7)
    assert shapes["resnet/root_block/standardized_conv2d/kernel"] == (7, 7, 3, channels)
    assert shapes[HEAD_KERNEL] == (1, 1, 32 * channels, 7)
    assert shapes[HEAD_BIAS] == (7,)


def test_a_file_of_r152x2_has_the_size_of_upstreams() -> None:
    assert npz_size(ARCHITECTURES["R152x2"].arrays(1000)) == 945_485_848


def test_writes_out_the_smallest_checkpoint_in_order() -> None:
    """By hand from the description of the files, with three units less to keep it short."""
    shapes = BitArchitecture("tiny", (2, 1, 0, 0), 32).arrays(10)
    assert list(shapes.items()) == [
        ("resnet/root_block/standardized_conv2d/kernel", (7, 7, 3, 32)),
        ("resnet/block1/unit01/a/group_norm/gamma", (32,)),
        ("resnet/block1/unit01/a/group_norm/beta", (32,)),
        ("resnet/block1/unit01/a/standardized_conv2d/kernel", (1, 1, 32, 32)),
        ("resnet/block1/unit01/a/proj/standardized_conv2d/kernel", (1, 1, 32, 128)),
        ("resnet/block1/unit01/b/group_norm/gamma", (32,)),
        ("resnet/block1/unit01/b/group_norm/beta", (32,)),
        ("resnet/block1/unit01/b/standardized_conv2d/kernel", (3, 3, 32, 32)),
        ("resnet/block1/unit01/c/group_norm/gamma", (32,)),
        ("resnet/block1/unit01/c/group_norm/beta", (32,)),
        ("resnet/block1/unit01/c/standardized_conv2d/kernel", (1, 1, 32, 128)),
        ("resnet/block1/unit02/a/group_norm/gamma", (128,)),
        ("resnet/block1/unit02/a/group_norm/beta", (128,)),
        ("resnet/block1/unit02/a/standardized_conv2d/kernel", (1, 1, 128, 32)),
        ("resnet/block1/unit02/b/group_norm/gamma", (32,)),
        ("resnet/block1/unit02/b/group_norm/beta", (32,)),
        ("resnet/block1/unit02/b/standardized_conv2d/kernel", (3, 3, 32, 32)),
        ("resnet/block1/unit02/c/group_norm/gamma", (32,)),
        ("resnet/block1/unit02/c/group_norm/beta", (32,)),
        ("resnet/block1/unit02/c/standardized_conv2d/kernel", (1, 1, 32, 128)),
        ("resnet/block2/unit01/a/group_norm/gamma", (128,)),
        ("resnet/block2/unit01/a/group_norm/beta", (128,)),
        ("resnet/block2/unit01/a/standardized_conv2d/kernel", (1, 1, 128, 64)),
        ("resnet/block2/unit01/a/proj/standardized_conv2d/kernel", (1, 1, 128, 256)),
        ("resnet/block2/unit01/b/group_norm/gamma", (64,)),
        ("resnet/block2/unit01/b/group_norm/beta", (64,)),
        ("resnet/block2/unit01/b/standardized_conv2d/kernel", (3, 3, 64, 64)),
        ("resnet/block2/unit01/c/group_norm/gamma", (64,)),
        ("resnet/block2/unit01/c/group_norm/beta", (64,)),
        ("resnet/block2/unit01/c/standardized_conv2d/kernel", (1, 1, 64, 256)),
        ("resnet/group_norm/gamma", (1024,)),
        ("resnet/group_norm/beta", (1024,)),
        ("resnet/head/conv2d/kernel", (1, 1, 1024, 10)),
        ("resnet/head/conv2d/bias", (10,)),
    ]


def test_only_the_first_unit_of_the_later_blocks_halves_the_image() -> None:
    units = {unit.name: unit for unit in ARCHITECTURES["R50x1"].residual_units()}
    assert len(units) == 16
    strided = [name for name, unit in units.items() if unit.stride == 2]
    assert strided == [f"resnet/block{block}/unit01" for block in (2, 3, 4)]
    projected = [name for name, unit in units.items() if unit.projected]
    assert projected == ["resnet/block1/unit01", *strided]


def test_the_kind_of_a_unit_is_all_but_its_name() -> None:
    """Of R50x1, the first unit of each block is alone; those after it are of one kind."""
    kinds = Counter(unit.kind for unit in ARCHITECTURES["R50x1"].residual_units())
    assert list(kinds.values()) == [1, 2, 1, 3, 1, 5, 1, 2]
    assert list(kinds)[:2] == [(64, 64, 256, 1, True), (256, 64, 256, 1, False)]


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_units_know_their_block(architecture: BitArchitecture) -> None:
    blocks = Counter(unit.block for unit in architecture.residual_units())
    assert list(blocks) == ["block1", "block2", "block3", "block4"]
    assert tuple(blocks.values()) == architecture.units


def test_units_fit_one_another() -> None:
    for architecture in ARCHITECTURES.values():
        channels = architecture.stem_channels
        for unit in architecture.residual_units():
            assert unit.inputs == channels
            assert unit.projected or unit.inputs == unit.outputs
            channels = unit.outputs
        assert channels == architecture.features


def test_unit_numbers_have_two_digits() -> None:
    shapes = ARCHITECTURES["R152x2"].arrays(1000)
    assert "resnet/block3/unit36/c/standardized_conv2d/kernel" in shapes
    assert "resnet/block3/unit09/c/standardized_conv2d/kernel" in shapes


def test_the_backbone_is_all_but_the_head_in_the_same_order() -> None:
    names = list(ARCHITECTURES["R20x0.5"].arrays(10))
    assert ARCHITECTURES["R20x0.5"].backbone(names) == names[:-2]
    assert {HEAD_KERNEL, HEAD_BIAS} == set(names[-2:])

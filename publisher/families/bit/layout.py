"""Names and shapes of the arrays in a BiT checkpoint.

Source: the `.npz` files of google-research/big_transfer. The order is that of the
published files, so that a file written in it has their exact size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEAD_KERNEL = "resnet/head/conv2d/kernel"
HEAD_BIAS = "resnet/head/conv2d/bias"
STANDARDIZED_KERNEL = "/standardized_conv2d/kernel"  # what the names of such kernels end in
# Pixels a side. The network halves an image five times; a smaller one would reach the last
# block as a single position that has seen mostly padding.
SMALLEST_IMAGE = 32


@dataclass(frozen=True)
class Unit:
    """One residual unit (bottleneck).

    `inputs`, `middle` and `outputs` are channel counts; `projected` says whether
    the shortcut has a 1x1 convolution of its own.
    """

    name: str
    inputs: int
    middle: int
    outputs: int
    stride: int
    projected: bool

    @property
    def kind(self) -> tuple[int, int, int, int, bool]:
        """All but the name: units of one kind differ in their weights only."""
        return self.inputs, self.middle, self.outputs, self.stride, self.projected

    @property
    def block(self) -> str:
        """The block that it is in: `block1` to `block4`."""
        return self.name.split("/")[1]


@dataclass(frozen=True)
class BitArchitecture:
    """One member of the BiT family: `R50x1` is 50 layers at width 1.

    `units` counts the residual units of blocks 1 to 4; `stem_channels` is 64 times
    the width factor.
    """

    name: str
    units: tuple[int, int, int, int]
    stem_channels: int

    @property
    def package(self) -> str:
        """Import path of the folder that holds this family's `network` and `reference`."""
        return "publisher.families.bit"

    @property
    def features(self) -> int:
        """Length of the pooled feature vector."""
        return 32 * self.stem_channels

    @property
    def smallest_image(self) -> int:
        """Smallest height or width, in pixels, that the network is published for."""
        return SMALLEST_IMAGE

    def residual_units(self) -> Iterator[Unit]:
        """Yield the units in the order in which an image passes them."""
        channels = self.stem_channels
        for block, count in enumerate(self.units, start=1):
            middle = self.stem_channels * 2 ** (block - 1)
            for index in range(1, count + 1):
                first = index == 1
                yield Unit(
                    name=f"resnet/block{block}/unit{index:02d}",
                    inputs=channels,
                    middle=middle,
                    outputs=4 * middle,
                    stride=2 if first and block > 1 else 1,
                    projected=first,
                )
                channels = 4 * middle

    def arrays(self, classes: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array of a checkpoint with `classes` classes.

        All arrays are float32; kernels are (height, width, inputs, outputs).
        """
        shapes: dict[str, tuple[int, ...]] = {
            "resnet/root_block/standardized_conv2d/kernel": (7, 7, 3, self.stem_channels)
        }

        def group_norm(prefix: str, channels: int) -> None:
            shapes[f"{prefix}/group_norm/gamma"] = (channels,)
            shapes[f"{prefix}/group_norm/beta"] = (channels,)

        for unit in self.residual_units():
            a, b, c = (f"{unit.name}/{step}" for step in "abc")
            group_norm(a, unit.inputs)
            shapes[f"{a}/standardized_conv2d/kernel"] = (1, 1, unit.inputs, unit.middle)
            if unit.projected:
                shapes[f"{a}/proj/standardized_conv2d/kernel"] = (
                    1,
                    1,
                    unit.inputs,
                    unit.outputs,
                )
            group_norm(b, unit.middle)
            shapes[f"{b}/standardized_conv2d/kernel"] = (3, 3, unit.middle, unit.middle)
            group_norm(c, unit.middle)
            shapes[f"{c}/standardized_conv2d/kernel"] = (1, 1, unit.middle, unit.outputs)
        group_norm("resnet", self.features)
        shapes[HEAD_KERNEL] = (1, 1, self.features, classes)
        shapes[HEAD_BIAS] = (classes,)
        return shapes

    def backbone(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that a feature extractor keeps: all but the head."""
        return [name for name in names if name not in (HEAD_KERNEL, HEAD_BIAS)]


_UNITS: dict[int, tuple[int, int, int, int]] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

ARCHITECTURES: dict[str, BitArchitecture] = {
    f"R{depth}x{width}": BitArchitecture(f"R{depth}x{width}", _UNITS[depth], 64 * width)
    for depth, width in ((50, 1), (50, 3), (101, 1), (101, 3), (152, 2), (152, 4))
}
# No upstream file has these. They take every branch of the code (projected, strided, repeated
# units): stand-ins for tests and rehearsals. The first has a hundredth of the size, but groups of
# one channel, unlike any published network; the other, the groups of a true one of its width.
ARCHITECTURES["R20x0.5"] = BitArchitecture("R20x0.5", (3, 1, 1, 1), 32)
ARCHITECTURES["R20x1"] = BitArchitecture("R20x1", (3, 1, 1, 1), 64)

"""Names and shapes of the arrays in a BiT checkpoint.

Source: the `.npz` files of google-research/big_transfer. The arrays are in the order of the
published files, so a file written from them has exactly the published size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEAD_KERNEL = "resnet/head/conv2d/kernel"
HEAD_BIAS = "resnet/head/conv2d/bias"
STANDARDIZED_KERNEL = "/standardized_conv2d/kernel"  # suffix of their names
# Pixels per side. The network halves an image five times. A smaller image would reach the last
# block as a single position that depends mostly on padding.
SMALLEST_IMAGE = 32


@dataclass(frozen=True)
class Unit:
    """One residual unit (bottleneck).

    `inputs`, `middle` and `outputs` are channel counts. If `projected`, the shortcut has a 1x1
    convolution.
    """

    name: str
    inputs: int
    middle: int
    outputs: int
    stride: int
    projected: bool

    @property
    def kind(self) -> tuple[int, int, int, int, bool]:
        """All fields but the name. Units of the same kind differ only in their weights."""
        return self.inputs, self.middle, self.outputs, self.stride, self.projected

    @property
    def block(self) -> str:
        """The unit's block: `block1` to `block4`."""
        return self.name.split("/")[1]


@dataclass(frozen=True)
class BitArchitecture:
    """One member of the BiT family; `R50x1`, for example, has 50 layers and width factor 1.

    `units` are the numbers of residual units in blocks 1 to 4. `stem_channels` is 64 times the
    width factor.
    """

    name: str
    units: tuple[int, int, int, int]
    stem_channels: int

    @property
    def package(self) -> str:
        """The import path of the family's package, which has `network` and `reference`."""
        return "publisher.families.bit"

    @property
    def features(self) -> int:
        """The length of the pooled feature vector."""
        return 32 * self.stem_channels

    @property
    def smallest_image(self) -> int:
        """The smallest height or width of an image, in pixels."""
        return SMALLEST_IMAGE

    def residual_units(self) -> Iterator[Unit]:
        """Yield the units in the order of the forward pass."""
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
        """Return the arrays in `names` that a feature extractor keeps: all but the head's."""
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
# Stand-ins for tests and rehearsals, which no upstream file has. They cover every branch of the
# code: projected, strided and repeated units. The first has a hundredth of the size of R50x1,
# but its groups have one channel, unlike those of any published network. The second has groups
# of the same size as R50x1.
ARCHITECTURES["R20x0.5"] = BitArchitecture("R20x0.5", (3, 1, 1, 1), 32)
ARCHITECTURES["R20x1"] = BitArchitecture("R20x1", (3, 1, 1, 1), 64)

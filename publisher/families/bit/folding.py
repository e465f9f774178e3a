"""Folds weight standardization into the kernels before an export writes them."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from publisher.families.bit.layout import STANDARDIZED_KERNEL

STANDARDIZATION_EPSILON = 1e-10


def fold(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Standardize a (height, width, inputs, outputs) kernel per output channel.

    Computes in float64 and rounds once to float32. Sums in C order regardless of the memory
    order of `kernel`, so that equal kernels give equal bits.
    Source: Qiao et al., "Weight Standardization", arXiv:1903.10520.
    """
    wide = kernel.astype(np.float64, order="C")
    wide -= wide.mean(axis=(0, 1, 2), keepdims=True)
    variance = np.square(wide).mean(axis=(0, 1, 2), keepdims=True)
    wide /= np.sqrt(variance + STANDARDIZATION_EPSILON)
    return wide.astype(np.float32)


class Folded(Mapping[str, npt.NDArray[np.float32]]):
    """The arrays of a checkpoint with folded kernels. Each lookup folds the kernel anew."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        """Return one array; fold it if it is the kernel of a standardized convolution."""
        array = self._arrays[name]
        return fold(array) if name.endswith(STANDARDIZED_KERNEL) else array

    def __iter__(self) -> Iterator[str]:
        """Yield the names in the checkpoint's order."""
        return iter(self._arrays)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._arrays)

"""Measures the work that no implementation can avoid, such as reading and hashing the bytes."""

import hashlib
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import google_crc32c
from isal import igzip_threaded

from publisher.families.bit.layout import BitArchitecture
from publisher.formats.archive import COMPRESSION_LEVEL, THREADS

BLOCK = 1 << 20
CLIENT_BLOCK = 10 * 1024  # bytes that Python's tarfile reads from a stream at a time


def of_bytes(path: Path) -> dict[str, float]:
    """Return the seconds to read, checksum, hash, write, deflate and inflate the file `path`."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy, packed = Path(folder, "copy"), Path(folder, "packed.gz")
        return {
            "read": _timed(lambda: _each_block(path, lambda block: None)),
            "crc32c": _timed(lambda: _each_block(path, google_crc32c.value)),
            "sha256": _timed(lambda: _each_block(path, hashlib.sha256().update)),
            "write": _timed(lambda: _copy(path, copy)),
            "deflate": _timed(lambda: _deflate(path, packed)),
            "inflate": _timed(lambda: _inflate(packed)),
        }


def convolutions(architecture: BitArchitecture, resolution: int) -> Callable[[], float]:
    """Return a function that computes all convolutions for one image, and nothing else."""
    import tensorflow as tf

    from publisher.families.bit import layers

    kernels = {
        name: tf.Variable(tf.random.stateless_uniform(shape, (0, 0), -0.01, 0.01))
        for name, shape in architecture.arrays(1).items()
        if name.endswith("standardized_conv2d/kernel")
    }

    def convolve(x: tf.Tensor, name: str, stride: int = 1) -> tf.Tensor:
        kernel = tf.convert_to_tensor(kernels[f"{name}/standardized_conv2d/kernel"])
        return layers.convolve(x, kernel, stride)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def forward(x: tf.Tensor) -> tf.Tensor:
        x = convolve(x, "resnet/root_block", 2)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for unit in architecture.residual_units():
            if unit.projected:
                # Use the result below, or the runtime would prune the convolution.
                shortcut = convolve(x, f"{unit.name}/a/proj", unit.stride)
            hidden = convolve(x, f"{unit.name}/a")
            hidden = convolve(hidden, f"{unit.name}/b", unit.stride)
            x = convolve(hidden, f"{unit.name}/c")
            if unit.projected:
                x += shortcut
        return tf.reduce_mean(x)

    image = tf.zeros((1, resolution, resolution, 3))
    return lambda: float(forward(image))


def _timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _each_block(path: Path, action: Callable[[bytes], object], size: int = BLOCK) -> None:
    with path.open("rb") as file:
        while block := file.read(size):
            action(block)


def _copy(source: Path, target: Path) -> None:
    with target.open("wb") as file:
        _each_block(source, file.write)


def _deflate(source: Path, target: Path) -> None:
    with igzip_threaded.open(  # type: ignore[no-untyped-call]
        target, "wb", compresslevel=COMPRESSION_LEVEL, threads=THREADS, block_size=BLOCK
    ) as file:
        _each_block(source, file.write)


def _inflate(packed: Path) -> None:
    """Inflate as a client does: with zlib, and in small blocks."""
    inflater = zlib.decompressobj(31)
    _each_block(packed, inflater.decompress, CLIENT_BLOCK)

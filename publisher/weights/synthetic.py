"""Generates synthetic weights from a seed: the same bytes on every machine.

They have the names, shapes and size of a real checkpoint, and keep activations in the range of
a trained network. Everything except predictions can thus be rehearsed with them. The generator
uses only raw random words, exact conversions and single IEEE operations, because anything else
may round differently on another machine.
"""

import hashlib
import json
import math
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

SEED = 0
CHUNK = 1 << 15  # 64-bit words at a time: as many as fit the second-level cache
SAMPLE = 32  # arrays that `is_synthetic` generates again
CHANCE = 8  # elements; a longer array does not equal a generated one by chance

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip archive can hold


def synthetic_array(name: str, shape: tuple[int, ...], seed: int = SEED) -> npt.NDArray[np.float32]:
    """Return the float32 array that `name`, `shape` and `seed` determine.

    Elements are uniform on a grid of 2**24 steps. Kernels have variance 2 / fan-in,
    the head's kernel 1 / fan-in, where the fan-in is the product of all axes but the
    last; gamma is in [0.5, 1.5), beta in [-0.2, 0.2), everything else in [-0.1, 0.1).
    """
    centre, half_width = _spread(name, shape)
    key = hashlib.sha256(json.dumps([seed, name, list(shape)]).encode()).digest()
    words = np.random.SFC64(int.from_bytes(key, "little"))
    count = math.prod(shape)
    flat = np.empty(count, np.dtype("<f4"))
    step = np.float32(half_width / 2**23)
    for start in range(0, count, 2 * CHUNK):
        piece = flat[start : start + 2 * CHUNK]
        raw = words.random_raw((piece.size + 1) // 2)
        bits = raw.astype("<u8", copy=False).view("<i4")[: piece.size]
        bits >>= 8  # 24 bits with the sign, which float32 represents exactly
        piece[:] = bits
        piece *= step
        if centre:
            piece += np.float32(centre)
    return flat.reshape(shape)


def _spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the centre and the half width of an array's uniform distribution."""
    *_, last = parts = name.split("/")
    if last == "kernel":
        # A uniform distribution of half width h has variance h**2 / 3.
        gain = 1 if "head" in parts else 2
        return 0.0, math.sqrt(3 * gain / max(math.prod(shape[:-1]), 1))
    return {"gamma": (1.0, 0.5), "beta": (0.0, 0.2)}.get(last, (0.0, 0.1))


def write_synthetic(path: Path, expected: Mapping[str, tuple[int, ...]], seed: int = SEED) -> None:
    """Write an `.npz` with the `expected` arrays to `path`, one array at a time.

    The file has exactly the size of one that `numpy.savez` writes from the same arrays in the
    same order. It appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            _write(file, expected, seed)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(file: BinaryIO, expected: Mapping[str, tuple[int, ...]], seed: int) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, shape in expected.items():
            info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            info.create_system = 3  # Unix; the default depends on the machine
            info.external_attr = 0o600 << 16
            array = synthetic_array(name, shape, seed)
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def is_synthetic(arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Return whether `write_synthetic` made `arrays`, whatever file they came from.

    Generates the smallest arrays of more than `CHANCE` elements again with `SEED`, and compares.
    One equal array suffices.
    """
    candidates = sorted((array.size, name) for name, array in arrays.items() if array.size > CHANCE)
    return any(
        np.array_equal(arrays[name], synthetic_array(name, arrays[name].shape))
        for _, name in candidates[:SAMPLE]
    )

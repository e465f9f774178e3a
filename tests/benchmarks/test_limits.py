from pathlib import Path

import numpy as np

from benchmarks import limits
from publisher.families.bit import ARCHITECTURES


def test_bytes_are_handled_in_each_way_and_nothing_is_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(np.random.default_rng(0).normal(size=300_000).astype(np.float32).tobytes())
    measured = limits.of_bytes(file)
    assert measured.keys() == {"read", "crc32c", "sha256", "write", "deflate", "inflate"}
    assert all(seconds > 0 for seconds in measured.values())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_convolutions_alone_run_through_the_whole_network() -> None:
    convolve = limits.convolutions(ARCHITECTURES["R20x0.5"], 64)
    assert [convolve(), convolve()] == [0.0, 0.0]  # of an image of zeros

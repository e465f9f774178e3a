"""The network families this project can publish, by the names `models.yaml` uses.

A new family is one new folder beside `bit/` and one line in `ARCHITECTURES`.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from publisher.families import bit


class Architecture(Protocol):
    """What the rest of the program knows of a network without importing TensorFlow."""

    @property
    def name(self) -> str:
        """The name in `models.yaml`, for example `R50x1`."""

    @property
    def package(self) -> str:
        """Import path of the family's folder, which holds `network` and `reference`."""

    @property
    def features(self) -> int:
        """Length of the pooled feature vector."""

    @property
    def smallest_image(self) -> int:
        """Smallest height or width of an image, in pixels."""

    def arrays(self, classes: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a checkpoint's float32 arrays, in the order of the file."""

    def backbone(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that a feature extractor keeps."""


ARCHITECTURES: Mapping[str, Architecture] = {**bit.ARCHITECTURES}

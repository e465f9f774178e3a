"""The architectures that this project can publish, by their names in `models.yaml`.

A new family is one new folder beside `bit/` and one line in `ARCHITECTURES`.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from publisher.families import bit


class Architecture(Protocol):
    """A network as the rest of the program sees it, without TensorFlow."""

    @property
    def name(self) -> str:
        """The name in `models.yaml`, for example `R50x1`."""

    @property
    def package(self) -> str:
        """The import path of the family's package, which has `network` and `reference`."""

    @property
    def features(self) -> int:
        """The length of the pooled feature vector."""

    @property
    def smallest_image(self) -> int:
        """The smallest height or width of an image, in pixels."""

    def arrays(self, classes: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a checkpoint's float32 arrays, in the order of the file."""

    def backbone(self, names: Iterable[str]) -> list[str]:
        """Return the arrays in `names` that a feature extractor keeps."""


ARCHITECTURES: Mapping[str, Architecture] = {**bit.ARCHITECTURES}

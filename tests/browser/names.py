"""The models of the release, and where their pages are."""

from dataclasses import dataclass

CLASSIFIER = "sayakpaul/distill_bit_resnet50x1_224_classification/1"
EXTRACTOR = "sayakpaul/distill_bit_r50x1_224_feature_extraction/1"
TEACHER = "sayakpaul/bit_resnet152x2_384_classification/1"
HANDLES = (TEACHER, CLASSIFIER, EXTRACTOR)


@dataclass(frozen=True)
class Place:
    """A form of the release: `tail` ends its addresses, and `loaded` is what snippets name."""

    base: str
    tail: str
    loaded: str

    @property
    def catalogue(self) -> str:
        """The address of the catalogue."""
        return f"{self.base}{self.tail or '/'}"

    def page(self, handle: str) -> str:
        """Return the address of a model's page."""
        return f"{self.base}/{handle}{self.tail}"

    @property
    def lost(self) -> str:
        """An address at which there is nothing but a page that says so."""
        return f"{self.base}/{'404.html' if self.tail else CLASSIFIER.replace('class', 'clas')}"

    def snippet(self, handle: str) -> str:
        """Return what loads a model."""
        address = self.loaded.format(handle=handle)
        return f'import tensorflow_hub as hub\n\nmodel = hub.load("{address}")'

"""What a release consists of besides its versions."""

from pathlib import Path

import pytest

from publisher.documents.errors import DocumentError
from publisher.release.contents import index_of
from tests.releases import edited, registry_of


def test_a_text_that_an_index_cannot_hold_is_refused(tmp_path: Path) -> None:
    registry = registry_of(tmp_path, edited(("BiT-ResNet", "x" * 201)))
    with pytest.raises(DocumentError, match=r"^index\.json\.title: .*; shorten it in models\.yaml"):
        index_of(registry, {}, {})

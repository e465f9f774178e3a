"""A version that its publisher withdrew is said to be so, whatever else is proved."""

from pathlib import Path

import pytest

from publisher.destinations.local.directory import Directory
from publisher.verify.targets import target_of
from tests.hub.releases import publish_into
from tests.releases import CLASSIFIER, EXTRACTOR, edited, publish, registry_of

HEAD = "    checkpoint: small\n    head: classifier\n"


@pytest.mark.parametrize(
    ("what", "withdrawn"),
    [
        (None, {CLASSIFIER: "Wrong names."}),
        (CLASSIFIER, {CLASSIFIER: "Wrong names."}),
        (EXTRACTOR, {}),
    ],
)
def test_the_reason_is_found(what: str | None, withdrawn: dict[str, str], tmp_path: Path) -> None:
    root = publish_into(tmp_path / "release", tmp_path / "work")
    text = edited((HEAD, f"{HEAD}    withdrawn: Wrong names.\n"))
    registry = registry_of(tmp_path / "withdrawn", text)
    publish(registry, [(registry.variants[0], None, None)], Directory(root))
    target = target_of(what, str(root), {}, tmp_path / "scratch")
    assert target.withdrawn == withdrawn

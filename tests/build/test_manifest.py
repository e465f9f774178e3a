from math import prod
from pathlib import Path
from typing import Any

import pytest

from publisher.build.manifest import class_names_file, kept_arrays, output_of
from publisher.documents.manifest import SYNTHETIC_NOTICE, Manifest, read_manifest
from publisher.families import ARCHITECTURES
from publisher.registry import Registry, Variant, load_registry
from publisher.util.files import sha256
from tests.releases import CLASSIFIER, EXTRACTOR, OTHER, manifest_of, registry_of

ARCHIVE = b"the bytes of an archive"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path)


@pytest.fixture(scope="module")
def published() -> Registry:
    """The registry of the eight models."""
    return load_registry(Path(__file__).parents[2] / "models.yaml")


def variant_of(registry: Registry, handle: str) -> Variant:
    return next(variant for variant in registry.variants if variant.handle == handle)


def written(registry: Registry, handle: str = CLASSIFIER, **facts: Any) -> Manifest:
    return manifest_of(registry, variant_of(registry, handle), ARCHIVE, **facts)


def test_a_classifier_is_described_by_registry_weights_and_archive(registry: Registry) -> None:
    manifest = written(registry, synthetic=False).as_json()
    report = manifest.pop("validation")
    assert report["passed"]
    assert report["checks"][0]["figures"] == {"64px_largest_error": 2.4e-5}
    shapes = ARCHITECTURES["R20x0.5"].arrays(3).values()
    assert manifest == {
        "schema_version": 1,
        "handle": CLASSIFIER,
        "aliases": ["sayakpaul/old_small"],
        "synthetic": False,
        "checkpoint": {
            "name": "small",
            "path": "distill/small.npz",
            "size": 7,
            "sha256": sha256(b"weights"),
            "datasets": ["other"],
            "network_architectures": ["bit"],
        },
        "architecture": "R20x0.5",
        "head": "classifier",
        "weight_standardization": "computed",
        "resolution": 64,
        "input_range": [-1.0, 1.0],
        "smallest_image": 32,
        "classes": 3,
        "parameters": sum(prod(shape) for shape in shapes),
        "variables": len(shapes),
        "signature": {
            "name": "serving_default",
            "input": {"name": "images", "dtype": "float32", "shape": [None, None, None, 3]},
            "output": {"name": "logits", "dtype": "float32", "shape": [None, 3]},
        },
        "assets": ["names.txt"],
        "archive": {
            "file": "model.tar.gz",
            "size": len(ARCHIVE),
            "sha256": sha256(ARCHIVE),
            "unpacked_size": 10 * len(ARCHIVE),
        },
        "toolchain": {"tensorflow": "2.21.0", "numpy": "2.1.0"},
    }


def test_a_feature_extractor_has_no_head_and_no_class_names(registry: Registry) -> None:
    classifier, extractor = written(registry), written(registry, EXTRACTOR)
    features = ARCHITECTURES["R20x0.5"].features
    assert extractor.signature.output.as_json() == {
        "name": "features",
        "dtype": "float32",
        "shape": [None, features],
    }
    assert extractor.assets == ()
    assert extractor.aliases == ()
    assert classifier.parameters - extractor.parameters == 3 * features + 3
    assert classifier.variables - extractor.variables == 2


def test_the_published_architectures_have_the_parameters_that_are_known(
    published: Registry,
) -> None:
    counts = {
        published.checkpoint_of(variant).architecture: sum(
            prod(shape) for shape in kept_arrays(published, variant).values()
        )
        for variant in published.variants
        if variant.head == "classifier"
    }
    assert counts == {"R50x1": 25_549_352, "R152x2": 236_335_208}


def test_an_output_has_the_length_of_the_classes_or_of_the_features(published: Registry) -> None:
    outputs = {
        (published.checkpoint_of(variant).architecture, *output_of(published, variant))
        for variant in published.variants
    }
    assert outputs == {
        ("R50x1", "logits", 1000),
        ("R50x1", "features", 2048),
        ("R152x2", "logits", 1000),
        ("R152x2", "features", 4096),
    }


def test_only_a_classifier_with_a_file_of_class_names_holds_one(registry: Registry) -> None:
    held = [class_names_file(registry, variant) for variant in registry.variants]
    assert held == ["names.txt", None, None]
    assert written(registry, OTHER).assets == ()


def test_class_names_are_named_without_their_folder(published: Registry) -> None:
    [name] = {
        class_names_file(published, variant)
        for variant in published.variants
        if variant.head == "classifier"
    }
    assert name == "ilsvrc2012_wordnet_lemmas.txt"


def test_synthetic_weights_are_the_first_line(registry: Registry) -> None:
    lines = written(registry, synthetic=True).as_bytes().decode().splitlines()
    assert lines[1] == f'  "notice": "{SYNTHETIC_NOTICE}",'
    assert lines[1].startswith('  "notice": "SYNTHETIC WEIGHTS: random numbers')
    assert written(registry, synthetic=True).synthetic is True
    assert b"SYNTHETIC" not in written(registry, synthetic=False).as_bytes()


def test_the_same_facts_give_the_same_bytes_wherever_the_registry_lies(tmp_path: Path) -> None:
    first, second = registry_of(tmp_path / "here"), registry_of(tmp_path / "there" / "deeper")
    for handle in (CLASSIFIER, EXTRACTOR, OTHER):
        content = written(first, handle).as_bytes()
        assert content == written(second, handle).as_bytes()
        assert str(tmp_path).encode() not in content


def test_a_manifest_is_read_as_it_was_made(registry: Registry) -> None:
    for handle in (CLASSIFIER, EXTRACTOR, OTHER):
        for synthetic in (True, False):
            manifest = written(registry, handle, synthetic=synthetic)
            assert read_manifest(manifest.as_bytes()) == manifest

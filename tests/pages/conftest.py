"""Facts for pages: the real registry, and manifests as the pipeline writes them."""

from pathlib import Path
from typing import Any

import pytest

from publisher.documents.manifest import Manifest, read_manifest
from publisher.pages import document_path, render_collection, render_module, render_publisher
from publisher.registry import Registry, Variant, load_registry
from publisher.util.files import json_bytes

ROOT = Path(__file__).parents[2]
NOTICE = "SYNTHETIC WEIGHTS: random numbers"


def manifest_of(
    registry: Registry, variant: Variant, *, synthetic: bool = False, **changes: Any
) -> Manifest:
    """The manifest of a built variant, with made-up sizes and digests, and other facts."""
    checkpoint = registry.checkpoint_of(variant)
    classifier = variant.head == "classifier"
    names = [(checkpoint.class_names or "").rpartition("/")[2]]
    document = {
        **({"notice": NOTICE} if synthetic else {}),
        "schema_version": 1,
        "handle": variant.handle,
        "aliases": list(variant.aliases),
        "synthetic": synthetic,
        "checkpoint": {
            "name": variant.checkpoint,
            "path": checkpoint.path,
            "size": 102_234_567,
            "sha256": "c" * 64,
            "datasets": list(checkpoint.datasets),
            "network_architectures": list(checkpoint.network_architectures),
        },
        "architecture": checkpoint.architecture,
        "head": variant.head,
        "weight_standardization": variant.weight_standardization,
        "resolution": checkpoint.resolution,
        "input_range": [float(bound) for bound in checkpoint.input_range],
        "smallest_image": 32,
        "classes": checkpoint.classes,
        "parameters": 25_549_352 if classifier else 23_500_352,
        "variables": 161 if classifier else 159,
        "signature": {
            "name": "serving_default",
            "input": {"name": "images", "dtype": "float32", "shape": [None, None, None, 3]},
            "output": {
                "name": "logits" if classifier else "features",
                "dtype": "float32",
                "shape": [None, checkpoint.classes if classifier else 2048],
            },
        },
        "assets": names if classifier else [],
        "archive": {
            "file": "model.tar.gz",
            "size": 94_012_345,
            "sha256": "a" * 64,
            "unpacked_size": 102_098_765,
        },
        "validation": {
            "passed": True,
            "tolerance": {"absolute": 1e-4, "relative": 1e-4},
            "checks": [
                {
                    "name": "parity_with_float64_reference",
                    "status": "passed",
                    "summary": "largest error 2.4e-05, bound 1.1e-03 (at 224px)",
                    "figures": {"224px_largest_error": 2.4e-05, "96px_largest_error": 1.1e-05},
                },
                {
                    "name": "logits_follow_from_the_features",
                    "status": "passed" if classifier else "skipped",
                    "summary": "largest error 1.0e-06"
                    if classifier
                    else "a feature extractor has no head",
                    "figures": {},
                },
            ],
        },
        "toolchain": {"tensorflow": "2.21.0", "numpy": "2.1.0"},
    }
    return read_manifest(json_bytes({**document, **changes}))


def tree_of(registry: Registry, templates: Path, *, synthetic: bool = False) -> dict[str, str]:
    """Every page of a release that holds the whole registry."""
    manifests = [
        manifest_of(registry, variant, synthetic=synthetic) for variant in registry.variants
    ]
    pages = {
        document_path(variant.handle): render_module(registry, variant, manifest, templates)
        for variant, manifest in zip(registry.variants, manifests, strict=True)
    }
    pages[document_path(registry.collection.handle)] = render_collection(
        registry, manifests, templates
    )
    pages[document_path(registry.publisher.name)] = render_publisher(registry, manifests, templates)
    return pages


@pytest.fixture(scope="session")
def registry() -> Registry:
    return load_registry(ROOT / "models.yaml")


@pytest.fixture(scope="session")
def templates() -> Path:
    return ROOT / "templates"


@pytest.fixture
def pages(registry: Registry, templates: Path) -> dict[str, str]:
    return tree_of(registry, templates)

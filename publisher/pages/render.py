"""Renders registry and manifests as Markdown, with the templates in `templates/tfhub/`.

Templates see plain facts, never the registry's objects.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from publisher.documents.manifest import Manifest
from publisher.pages.document import ROOT, publisher_path
from publisher.pages.errors import PageError
from publisher.pages.templates import render_template
from publisher.registry import Registry, Variant, select
from publisher.registry.models import Target

MODULE = "tfhub/module.md.j2"
COLLECTION = "tfhub/collection.md.j2"
PUBLISHER = "tfhub/publisher.md.j2"

TASKS = {"classifier": "image-classification", "feature_extractor": "image-feature-vector"}
PARITY_CHECK = "parity_with_float64_reference"
# The share of the resized image's shorter side that the centre crop kept in the evaluation of
# these weights, by resolution in pixels. It is unknown for other resolutions.
EVALUATION_CROPS = {224: 0.95, 384: 1.0}

NOTHING_WITHDRAWN: Mapping[str, str] = {}


def asset_path(registry: Registry, handle: str) -> str:
    """Return the address of a handle's archive."""
    return f"{registry.asset_base.rstrip('/')}/models/{handle}/model.tar.gz"


def document_path(handle: str) -> str:
    """Return the path of a page in the tfhub.dev repository.

    `handle` names a model (`publisher/name/version`), a collection
    (`publisher/collections/name/1`) or a publisher.
    """
    return f"{ROOT}{handle}.md" if "/" in handle else publisher_path(handle)


def render_module(registry: Registry, variant: Variant, manifest: Manifest, templates: Path) -> str:
    """Return the page of one variant.

    Raises `PageError` if the manifest is another variant's, or the template is faulty.
    """
    return render_template(templates, MODULE, module_facts(registry, variant, manifest))


def module_facts(
    registry: Registry,
    variant: Variant,
    manifest: Manifest,
    *,
    target: Target | None = None,
    address: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """Return the facts for the page of one variant, in any style.

    The page links only to models that the destination `target` holds; without it, to all.
    `address` returns the address of a handle's page, by default tfhub.dev's.

    Raises `PageError` if the manifest is another variant's.
    """
    checkpoint = registry.checkpoint_of(variant)
    built = (manifest.handle, manifest.checkpoint.name)
    if built != (variant.handle, variant.checkpoint):
        raise PageError(
            f"{variant.handle}: the manifest is that of {built[0]} from {built[1]},"
            f" expected checkpoint {variant.checkpoint}; build the variant again"
        )
    there = select(registry, target.only) if target else registry.variants

    def pointer(other: Variant | None) -> dict[str, Any] | None:
        if other is None or other not in there:
            return None
        page = address(other.handle) if address else asset_path(registry, other.handle)
        return {"handle": other.handle, "page": page, "folded": other.folded}

    return {
        # Plain values have no methods that a template could call.
        "manifest": manifest.as_json(),
        "variant": {
            "handle": variant.handle,
            "head": variant.head,
            "folded": variant.folded,
            "aliases": list(variant.aliases),
            "withdrawn": variant.withdrawn,
        },
        "checkpoint": checkpoint.model_dump(mode="json"),
        "asset_path": asset_path(registry, variant.handle),
        "task": TASKS[variant.head],
        "sibling": pointer(registry.other_head(variant)),
        "fine_tunable": pointer(registry.fine_tunable(variant)),
        "upstream_file": f"{registry.upstream.rstrip('/')}/{checkpoint.path}",
        "crop": EVALUATION_CROPS.get(checkpoint.resolution),
        "parity_error": parity_error(manifest),
    }


def render_collection(
    registry: Registry,
    manifests: Sequence[Manifest],
    templates: Path,
    withdrawn: Mapping[str, str] = NOTHING_WITHDRAWN,
) -> str:
    """Return the collection's page, which lists the latest version of each model.

    `withdrawn` maps handles to reasons. A withdrawn version is listed, and marked, only if its
    model has no other.

    Raises `PageError` if there is no model to list, or the template is faulty.
    """
    if not manifests:
        raise PageError(
            f"{registry.collection.handle}: a collection needs at least one model; build one first"
        )
    models = listed_models(registry, manifests, withdrawn)
    publisher, _, name = registry.collection.handle.partition("/collections/")
    facts = {
        # The first line leaves out the folder: `# Collection <publisher>/<name>/1`.
        "title": f"{publisher}/{name}" if name else publisher,
        "collection": registry.collection.model_dump(mode="json"),
        "publisher": registry.publisher.model_dump(mode="json"),
        "tasks": [task for task in TASKS.values() if any(m["task"] == task for m in models)],
        "datasets": _union(model["datasets"] for model in models),
        "network_architectures": _union(model["network_architectures"] for model in models),
        "rows": _rows(models),
        "folded": any(model["folded"] for model in models),
        "synthetic": any(model["synthetic"] for model in models),
    }
    return render_template(templates, COLLECTION, facts)


def render_publisher(
    registry: Registry,
    manifests: Sequence[Manifest],
    templates: Path,
    withdrawn: Mapping[str, str] = NOTHING_WITHDRAWN,
) -> str:
    """Return the publisher's page. Raises `PageError` if the template is faulty."""
    models = listed_models(registry, manifests, withdrawn)
    facts = {
        "publisher": registry.publisher.model_dump(mode="json"),
        "collection": registry.collection.model_dump(mode="json"),
        "models": models,
        "synthetic": any(model["synthetic"] for model in models),
    }
    return render_template(templates, PUBLISHER, facts)


def parity_error(manifest: Manifest) -> float | None:
    """Return the largest error of the parity check over all resolutions, if it ran."""
    figures = [
        figure
        for check in manifest.validation.checks
        if check.name == PARITY_CHECK and check.status != "skipped"
        for name, figure in check.figures.items()
        if name.endswith(("largest_error", "max_absolute_error"))
    ]
    try:  # one that is not finite is a text
        return max((float(one) for one in figures if not isinstance(one, list)), default=None)
    except ValueError:
        return None


def listed_models(
    registry: Registry, manifests: Iterable[Manifest], withdrawn: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the latest version of each model, in the order of the registry's checkpoints.

    A withdrawn version is chosen only if its model has no other.

    A model that left the registry is still in the release. Its reported figures are unknown;
    its metadata comes from its manifest.
    """
    latest: dict[str, tuple[tuple[bool, int], Manifest]] = {}
    for manifest in manifests:
        name, _, version = manifest.handle.rpartition("/")
        rank = (manifest.handle not in withdrawn, int(version))
        if name not in latest or rank > latest[name][0]:
            latest[name] = (rank, manifest)
    order = {name: position for position, name in enumerate(registry.checkpoints)}
    chosen = sorted(
        (manifest for _, manifest in latest.values()),
        key=lambda manifest: (
            order.get(manifest.checkpoint.name, len(order)),
            manifest.checkpoint.name,
            manifest.folded,
            list(TASKS).index(manifest.head),
            manifest.handle,
        ),
    )
    models = []
    for manifest in chosen:
        checkpoint = registry.checkpoints.get(manifest.checkpoint.name)
        facts = checkpoint.model_dump(mode="json") if checkpoint else {}
        models.append(
            {
                "handle": manifest.handle,
                "checkpoint": manifest.checkpoint.name,
                "head": manifest.head,
                "folded": manifest.folded,
                "task": TASKS[manifest.head],
                "architecture": manifest.architecture,
                "resolution": manifest.resolution,
                "parameters": manifest.parameters,
                "archive": manifest.archive.as_json(),
                "synthetic": manifest.synthetic,
                "asset_path": asset_path(registry, manifest.handle),
                "datasets": manifest.checkpoint.datasets,
                "network_architectures": manifest.checkpoint.network_architectures,
                "reported": facts.get("reported", []),
                "withdrawn": manifest.handle in withdrawn,
            }
        )
    return models


def _rows(models: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pair the heads of each checkpoint, the folded ones among themselves.

    One that is missing is `None`.
    """
    rows = []
    for kind in dict.fromkeys((model["checkpoint"], model["folded"]) for model in models):
        heads: list[list[dict[str, Any]]] = [
            [
                model
                for model in models
                if (model["checkpoint"], model["folded"], model["head"]) == (*kind, head)
            ]
            for head in TASKS
        ]
        for classifier, extractor in zip_longest(*heads):
            either = classifier or extractor
            rows.append(
                {
                    "classifier": classifier,
                    "feature_extractor": extractor,
                    "models": [model for model in (classifier, extractor) if model],
                    "architecture": either["architecture"],
                    "resolution": either["resolution"],
                    "reported": [
                        figure
                        for figure in either["reported"]
                        if "top-1" in figure["metric"] and not either["synthetic"]
                    ],
                }
            )
    return rows


def _union(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(value for values in lists for value in values))

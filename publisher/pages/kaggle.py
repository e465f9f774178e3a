"""Renders the cards of Kaggle Models, with the templates in `templates/kaggle/`.

A card is JSON: the fields of `model-metadata.json` and `model-instance-metadata.json` of
Kaggle's own client (documentation page "Models Metadata" of Kaggle/kaggle-api). Each handle is
one version of a variation; all versions of a variation share a card.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from publisher.documents.manifest import Manifest
from publisher.pages.errors import PageError
from publisher.pages.render import listed_models, module_facts
from publisher.pages.templates import render_template
from publisher.registry import Registry, Variant
from publisher.registry.models import Target
from publisher.util.files import json_bytes

OVERVIEW = "kaggle/overview.md.j2"
USAGE = "kaggle/usage.md.j2"
DESCRIPTION = "kaggle/description.md.j2"

MODEL_CARD = "model-metadata.json"
FRAMEWORK = "tensorFlow2"
# The fields of a card, in their order.
MODEL_FIELDS = ("ownerSlug", "slug", "title", "isPrivate", "description", "provenanceSources")
VARIATION_FIELDS = (
    "ownerSlug",
    "modelSlug",
    "instanceSlug",
    "framework",
    "licenseName",
    "fineTunable",
    "trainingData",
    "modelInstanceType",
    "externalBaseModelUrl",
    "overview",
    "usage",
)
# tfhub.dev's name of a license -> Kaggle's, of those that "Models Metadata" lists.
LICENSES: Mapping[str, str] = {
    "apache-2.0": "Apache 2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-nc-4.0": "Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)",
    "gpl-2.0": "GPL 2",
    "gpl-3.0": "GPL 3",
    "lgpl-3.0": "GNU Lesser General Public License 3.0",
    "mit": "MIT",
}
# The type of a variation. An external one links to the upstream weights.
EXTERNAL, UNSPECIFIED = "ExternalVariant", "Unspecified"


def variation_of(target: Target, handle: str) -> str:
    """Return the name at Kaggle of a handle's model, whatever its version."""
    publisher, name = handle.split("/")[:2]
    return target.names.get(f"{publisher}/{name}") or name.replace("_", "-")


def address_of(target: Target, handle: str) -> str:
    """Return the argument of `kagglehub.model_download` for the newest version of a variation."""
    return f"{target.to}/{FRAMEWORK}/{variation_of(target, handle)}"


def card_text(fields: Mapping[str, Any], order: Sequence[str]) -> str:
    """Return a card in canonical form, for writing and comparing.

    Line ends and surrounding space are normalized, since the service may change them.
    """
    return json_bytes({name: _plain(fields[name]) for name in order}).decode()


def render_version(
    registry: Registry, target: Target, variant: Variant, manifest: Manifest, templates: Path
) -> str:
    """Return the card of a variation whose newest version this is.

    Raises `PageError` if the manifest is another variant's, the template is faulty, or
    Kaggle has no name for the license.
    """
    checkpoint = registry.checkpoint_of(variant)
    facts = {
        **module_facts(
            registry, variant, manifest, target=target, address=partial(address_of, target)
        ),
        "address": address_of(target, variant.handle),
    }
    synthetic = manifest.synthetic
    upstream = str(facts["upstream_file"])
    external = upstream.startswith("https://") and not synthetic
    owner, _, model = target.to.partition("/")
    fields = {
        "ownerSlug": owner,
        "modelSlug": model,
        "instanceSlug": variation_of(target, variant.handle),
        "framework": FRAMEWORK,
        "licenseName": target.license_name or _license(variant, checkpoint.license),
        "fineTunable": not variant.folded,
        "trainingData": [] if synthetic else [d for d in checkpoint.datasets if d != "other"],
        "modelInstanceType": EXTERNAL if external else UNSPECIFIED,
        "externalBaseModelUrl": upstream if external else "",
        "overview": render_template(templates, OVERVIEW, facts),
        "usage": render_template(templates, USAGE, facts),
    }
    return card_text(fields, VARIATION_FIELDS)


def render_documents(
    registry: Registry, target: Target, manifests: Sequence[Manifest], templates: Path
) -> dict[str, str]:
    """Return the card of the model, which lists all variations.

    Raises `PageError` if there is no variation to list, or the template is faulty.
    """
    if not manifests:
        raise PageError(f"{target.to}: a model needs at least one variation; publish one first")
    withdrawn = {v.handle: v.withdrawn for v in registry.variants if v.withdrawn}
    ranges = {manifest.handle: manifest.input_range for manifest in manifests}
    models = [
        {
            **model,
            "variation": variation_of(target, model["handle"]),
            "address": address_of(target, model["handle"]),
            "input_range": ranges[model["handle"]],
        }
        for model in listed_models(registry, manifests, withdrawn)
    ]
    upstream = registry.upstream.rstrip("/") + "/"
    synthetic = any(model["synthetic"] for model in models)
    facts = {
        "publisher": registry.publisher.model_dump(mode="json"),
        "collection": registry.collection.model_dump(mode="json"),
        "models": models,
        "example": next((m for m in models if not m["withdrawn"]), None),
        "synthetic": synthetic,
        "upstream": upstream,
    }
    owner, _, slug = target.to.partition("/")
    fields = {
        "ownerSlug": owner,
        "slug": slug,
        "title": registry.collection.title,
        "isPrivate": target.visibility == "private",
        "description": render_template(templates, DESCRIPTION, facts),
        "provenanceSources": (
            f"Synthetic weights: random numbers in the shapes of those at {upstream}"
            if synthetic
            else upstream
        ),
    }
    return {MODEL_CARD: card_text(fields, MODEL_FIELDS)}


def _license(variant: Variant, name: str) -> str:
    if name not in LICENSES:
        raise PageError(
            f"{variant.handle}: Kaggle's name for the license {name} is unknown; set license_name"
            " of the destination in models.yaml to the name that Kaggle lists"
        )
    return LICENSES[name]


def _plain(value: Any) -> Any:
    return value.replace("\r\n", "\n").strip() if isinstance(value, str) else value

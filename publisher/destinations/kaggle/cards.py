"""The cards of a model and its variations at Kaggle, as JSON texts."""

import json
from typing import Any

from publisher.destinations.base import DestinationError
from publisher.destinations.kaggle.service import TYPES, Service
from publisher.pages.kaggle import FRAMEWORK, MODEL_FIELDS, UNSPECIFIED, VARIATION_FIELDS, card_text


def model_card(service: Service) -> bytes | None:
    """Return the model's card, or `None` if the model does not exist."""
    model = service.get_model()
    if model is None:
        return None
    fields = {
        "ownerSlug": service.owner,
        "slug": service.model,
        "title": model.title,
        "isPrivate": model.is_private,
        "description": model.description,
        "provenanceSources": model.provenance_sources,
    }
    return card_text(fields, MODEL_FIELDS).encode()


def variation_card(service: Service, slug: str) -> bytes | None:
    """Return a variation's card, or `None` if the variation does not exist."""
    there = service.get_variation(slug)
    if there is None:
        return None
    names = {kind: name for name, kind in TYPES.items()}
    fields = {
        "ownerSlug": service.owner,
        "modelSlug": service.model,
        "instanceSlug": slug,
        "framework": FRAMEWORK,
        "licenseName": there.license_name,
        "fineTunable": there.fine_tunable,
        "trainingData": there.training_data,
        "modelInstanceType": names.get(there.model_instance_type, UNSPECIFIED),
        "externalBaseModelUrl": there.external_base_model_url,
        "overview": there.overview,
        "usage": there.usage,
    }
    return card_text(fields, VARIATION_FIELDS).encode()


def card_of(name: str, path: str, content: bytes, fields: tuple[str, ...]) -> dict[str, Any]:
    """Parse a card to write. Raises `DestinationError`, with the destination's `name`."""
    kinds: dict[str, type] = {"isPrivate": bool, "fineTunable": bool, "trainingData": list}
    try:
        card = json.loads(content)
        good = isinstance(card, dict) and tuple(card) == fields
        good = good and all(isinstance(card[field], kinds.get(field, str)) for field in fields)
        if good and card.get("modelInstanceType", UNSPECIFIED) in TYPES:
            return dict(card)
    except ValueError:
        pass
    raise DestinationError(
        f"{name}: {path} is not a card with the fields {', '.join(fields)}; correct its template"
    )

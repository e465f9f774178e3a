"""A destination's name in models.yaml -> the destination."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from publisher.destinations.base import Destination, DestinationError
from publisher.registry.models import Registry, Target
from publisher.util.wording import suggestion

# Kind -> the module, and the class in it that is made of (name, target, environment, folder).
CLASSES: Mapping[str, tuple[str, str]] = {
    "directory": ("local.directory", "NamedDirectory"),
    "google-cloud-storage": ("bucket.google_cloud_storage", "GoogleCloudStorage"),
    "s3": ("bucket.s3", "S3"),
    "kaggle": ("kaggle.destination", "Kaggle"),
    "huggingface": ("huggingface.destination", "HuggingFace"),
    "github": ("github.destination", "GitHub"),
    "tfhub": ("local.tfhub", "TfhubCheckout"),
}
# Whose client libraries come with an extra of the same name.
EXTRAS = ("google-cloud-storage", "s3", "kaggle", "huggingface")


def target_named(registry: Registry, name: str) -> Target:
    """Return a destination's entry. Raises `DestinationError` for a name that is not there."""
    if name not in registry.destinations:
        known = list(registry.destinations)
        there = suggestion(name, known) if known else "; models.yaml has no `destinations`"
        raise DestinationError(f"{name!r} is no destination in models.yaml{there}")
    return registry.destinations[name]


def open_destination(
    registry: Registry, name: str, environment: Mapping[str, str], folder: Path
) -> Destination:
    """Return the destination that models.yaml calls `name`; nothing is asked of it yet.

    `environment` is where credentials and other addresses of services are looked for.
    `folder` may keep what is needed to go on with an interrupted upload; it need not exist.
    Raises `DestinationError` for an unknown name, or where its client library is missing.
    """
    target = target_named(registry, name)
    module, kind = CLASSES[target.kind]
    try:
        found = getattr(import_module(f"publisher.destinations.{module}"), kind)
    except ModuleNotFoundError as error:
        if target.kind not in EXTRAS or (error.name or "").startswith("publisher"):
            raise
        raise DestinationError(
            f"{name}: {error.name} is missing; install the extra:"
            f" pip install 'bit-publisher[{target.kind}]'"
        ) from error
    destination: Destination = found(name, target, environment, folder / name)
    return destination

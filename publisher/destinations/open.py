"""Opens the destination that models.yaml lists under a name."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from publisher.destinations.base import Destination, DestinationError
from publisher.registry.models import Registry, Target
from publisher.util.wording import suggestion

# Kind -> module and class; the constructor takes (name, target, environment, folder).
CLASSES: Mapping[str, tuple[str, str]] = {
    "directory": ("local.directory", "NamedDirectory"),
    "google-cloud-storage": ("bucket.google_cloud_storage", "GoogleCloudStorage"),
    "s3": ("bucket.s3", "S3"),
    "kaggle": ("kaggle.destination", "Kaggle"),
    "huggingface": ("huggingface.destination", "HuggingFace"),
    "github": ("github.destination", "GitHub"),
    "tfhub": ("local.tfhub", "TfhubCheckout"),
}
# The kinds whose client library is an extra of the same name.
EXTRAS = ("google-cloud-storage", "s3", "kaggle", "huggingface")


def target_named(registry: Registry, name: str) -> Target:
    """Return a destination's entry. Raises `DestinationError` for an unknown name."""
    if name not in registry.destinations:
        known = list(registry.destinations)
        hint = suggestion(name, known) if known else "; models.yaml has no `destinations`"
        raise DestinationError(f"{name!r} is no destination in models.yaml{hint}")
    return registry.destinations[name]


def open_destination(
    registry: Registry, name: str, environment: Mapping[str, str], folder: Path
) -> Destination:
    """Return the destination that models.yaml calls `name`. Send no request yet.

    `environment` supplies credentials and service addresses. `folder` stores unfinished
    upload sessions; it need not exist. Raises `DestinationError` for an unknown name or a
    missing client library.
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

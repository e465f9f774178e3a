"""The registry: what `models.yaml` says is to be published, checked.

    registry = load_registry(Path("models.yaml"))
    for variant in select(registry, ["distill_*"]):
        checkpoint = registry.checkpoint_of(variant)

`models`    the registry's parts, frozen;
`fields`    the kinds of value in it, and what each may be;
`values`    what tfhub.dev allows as dataset, architecture and license;
`document`  YAML that keeps the line and column of every value;
`rules`     what must hold between the parts;
`load`      the way from the file to the registry, or to every problem in it;
`select`    variants by glob;
`edit`      edits of the file that leave its comments and layout alone;
`schema`    the JSON schema for editors;
`wording`   how values are written in messages.
"""

from publisher.registry.errors import RegistryError
from publisher.registry.load import load_registry
from publisher.registry.models import Checkpoint, Registry, Variant
from publisher.registry.select import select

__all__ = [
    "Checkpoint",
    "Registry",
    "RegistryError",
    "Variant",
    "load_registry",
    "select",
]

"""The registry: the parsed and checked content of `models.yaml`.

    registry = load_registry(Path("models.yaml"))
    for variant in select(registry, ["distill_*"]):
        checkpoint = registry.checkpoint_of(variant)

`models`    the registry's parts, as frozen models;
`document`  parses YAML, keeping the line and column of every value;
`rules`     constraints between the parts;
`load`      reads the file, or reports every problem in it;
`select`    selects variants by glob;
`edit`      edits the file and keeps its comments and layout;
`schema`    writes the JSON schema for editors.
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

"""Replaces the networks of a registry by stand-ins of a hundredth of their size.

`publisher ci stand-ins --output build/small` writes such a registry and the files it needs. The
stand-in has every kind of unit, so it exercises all code. Its weights are always synthetic, and
its pages describe a network of no use to anyone.
"""

import shutil
from pathlib import Path
from typing import Any

import yaml

from publisher.registry import load_registry
from publisher.registry.document import Problem, parse
from publisher.registry.errors import RegistryError
from publisher.util.files import write_whole
from publisher.util.resources import TEMPLATES

ARCHITECTURE = "R20x0.5"
RESOLUTION, PARITY = 32, (32, 40)  # pixels


def content_of(registry: Path) -> dict[str, Any]:
    """Return the content of a registry as plain values. Raises `RegistryError` if it is invalid."""
    load_registry(registry)
    document = parse(registry.read_bytes())
    if isinstance(document, Problem):  # only if the file has changed since `load_registry`
        raise RegistryError(f"{registry}:{document.line}: {document.message}")
    found: dict[str, Any] = _plain(document.data)
    return found


def with_stand_ins(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a registry with small networks and small images."""
    checkpoints = {
        name: {
            **entry,
            "architecture": ARCHITECTURE,
            "resolution": RESOLUTION,
            "parity_resolutions": list(PARITY),  # a new list each, or YAML writes an alias
        }
        for name, entry in content["checkpoints"].items()
    }
    return {**content, "checkpoints": checkpoints}


def write_registry(content: dict[str, Any], target: Path) -> None:
    """Write the content of a registry to a file."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    write_whole(target, text.encode())


def write_project(registry: Path, folder: Path) -> Path:
    """Write the registry with stand-ins, and the files beside it, to a folder; return its path.

    The distribution provides class names and templates that the registry's folder does not have.
    """
    content = with_stand_ins(content_of(registry))
    content.pop("destinations", None)
    folder.mkdir(parents=True, exist_ok=True)
    for name in {entry.get("class_names") for entry in content["checkpoints"].values()} - {None}:
        if (registry.parent / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(registry.parent / name, folder / name)
    shutil.rmtree(folder / TEMPLATES, ignore_errors=True)
    if (registry.parent / TEMPLATES).is_dir():
        shutil.copytree(registry.parent / TEMPLATES, folder / TEMPLATES)
    write_registry(content, folder / "models.yaml")
    return folder / "models.yaml"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value

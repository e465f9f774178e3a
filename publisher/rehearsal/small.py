"""The registry with stand-ins for its networks: every variant in a hundredth of the size.

`python -m publisher.rehearsal.small --output build/small` writes it as a folder of its own.
The stand-in has every kind of unit, so that all code is run; its pages describe a network
that nobody wants, and its weights are always synthetic.
"""

import shutil
from pathlib import Path
from typing import Any

import click
import yaml

from publisher.cli.console import print_error, print_line
from publisher.errors import PublisherError
from publisher.registry import load_registry
from publisher.registry.document import Problem, parse
from publisher.registry.errors import RegistryError
from publisher.util.files import write_whole
from publisher.util.resources import TEMPLATES

ARCHITECTURE = "R20x0.5"
RESOLUTION, PARITY = 32, (32, 40)  # pixels


def content_of(registry: Path) -> dict[str, Any]:
    """Return what stands in a registry, as plain values. Raises `RegistryError` if it is wrong."""
    load_registry(registry)
    document = parse(registry.read_bytes())
    if isinstance(document, Problem):  # it was none a moment ago
        raise RegistryError(f"{registry}:{document.line}: {document.message}")
    found: dict[str, Any] = _plain(document.data)
    return found


def with_stand_ins(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a registry with small networks, and images as small."""
    checkpoints = {
        name: {
            **entry,
            "architecture": ARCHITECTURE,
            "resolution": RESOLUTION,
            "parity_resolutions": list(PARITY),  # its own, or YAML would refer to the first
        }
        for name, entry in content["checkpoints"].items()
    }
    return {**content, "checkpoints": checkpoints}


def write_registry(content: dict[str, Any], target: Path) -> None:
    """Write the content of a registry to a file."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    write_whole(target, text.encode())


def write_project(registry: Path, folder: Path) -> Path:
    """Write the registry with stand-ins to a folder, and what it has beside it; return its path.

    What it has not, class names or templates, is the distribution's.
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


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("models.yaml"))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(registry: Path, output: Path) -> None:
    """Write the registry with small stand-ins for its networks."""
    try:
        print_line(f"{write_project(registry.absolute(), output)}: written")
    except PublisherError as error:
        for line in str(error).splitlines():
            print_error(line)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()

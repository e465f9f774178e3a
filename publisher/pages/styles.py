"""The page styles of destinations, and the modules that render them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from publisher.documents.manifest import Manifest
from publisher.registry import Registry, Variant
from publisher.registry.models import Target


@dataclass(frozen=True)
class PageStyle:
    """Renders the pages of one kind of destination.

    `version(registry, target, variant, manifest, templates)` returns the page of one version,
    `documents(registry, target, manifests, templates)` the pages about all of them,
    by path. Both raise `PageError` for a faulty template and for a page that the destination
    would reject or display incorrectly. `target` is the destination's entry in models.yaml.
    """

    version: Callable[[Registry, Target, Variant, Manifest, Path], str]
    documents: Callable[[Registry, Target, Sequence[Manifest], Path], dict[str, str]]


def style_of(name: str) -> PageStyle:
    """Return the style of that name: `kaggle`, `huggingface` or `github`."""
    module = import_module(f"publisher.pages.{name}")
    return PageStyle(module.render_version, module.render_documents)

"""Renders the text of a GitHub release, with `templates/github/`.

Each handle is one release. Its tag names the model and the version, its text is this page.
GitHub shows every line break of the text, so each paragraph of the template is one line
(documentation page "Basic writing and formatting syntax").
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from publisher.documents.manifest import Manifest
from publisher.pages.errors import PageError
from publisher.pages.render import module_facts
from publisher.pages.templates import render_template
from publisher.registry import Registry, Variant
from publisher.registry.models import Target

RELEASE = "github/release.md.j2"
WEB = "https://github.com"
LONGEST = 125_000  # characters; GitHub's limit for the text of a release


def tag_of(target: Target, handle: str) -> str:
    """Return the tag of a version: the model's name at GitHub, and `v1`, `v2`, ..."""
    publisher, name, version = handle.split("/")
    return f"{target.names.get(f'{publisher}/{name}', name)}-v{version}"


def release_address(target: Target, handle: str) -> str:
    """Return the address of a version's release page."""
    return f"{WEB}/{target.to}/releases/tag/{tag_of(target, handle)}"


def asset_address(target: Target, handle: str, file: str) -> str:
    """Return the download address of a version's file."""
    return f"{WEB}/{target.to}/releases/download/{tag_of(target, handle)}/{file}"


def render_version(
    registry: Registry, target: Target, variant: Variant, manifest: Manifest, templates: Path
) -> str:
    """Return the text of the release of one version.

    Raises `PageError` if the manifest is another variant's, the template is faulty, or the
    text is too long for GitHub.
    """
    facts = {
        **module_facts(
            registry, variant, manifest, target=target, address=partial(release_address, target)
        ),
        "asset_path": asset_address(target, variant.handle, manifest.archive.file),
        "repository": target.to,
        "tag": tag_of(target, variant.handle),
    }
    text = render_template(templates, RELEASE, facts)
    if len(text) > LONGEST:
        raise PageError(
            f"{variant.handle}: the text of its release has {len(text):,} characters, and GitHub"
            f" accepts {LONGEST:,}; shorten {templates / RELEASE} or the entry in models.yaml"
        )
    return text


def render_documents(
    registry: Registry, target: Target, manifests: Sequence[Manifest], templates: Path
) -> dict[str, str]:
    """Return no page: GitHub lists the releases itself."""
    return {}

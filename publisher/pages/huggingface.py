"""Renders the model card of a version for the Hugging Face Hub.

Each model is one repository; a version is a folder in it, `v1`, `v2`, ... A card is Markdown
after YAML metadata (documentation page "Model Cards" of the Hub). A YAML library, not a
template, writes the metadata, so that no value can break it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from publisher.documents.manifest import Manifest
from publisher.pages.errors import PageError
from publisher.pages.render import module_facts
from publisher.pages.templates import render_template
from publisher.registry import Checkpoint, Registry, Variant
from publisher.registry.models import Target

CARD = "huggingface/card.md.j2"
WEB = "https://huggingface.co"
LONGEST_NAME = 96  # characters; the Hub's limit for the name of a repository

# The Hub has no library name for SavedModels. Its "tf-keras" would show loading code that does
# not work for these models, which contain no Keras objects.
LIBRARY = "tensorflow"
PIPELINES: Mapping[str, str] = {
    "classifier": "image-classification",
    "feature_extractor": "image-feature-extraction",
}
# The names of datasets on tfhub.dev, and their ids on the Hub.
DATASETS: Mapping[str, str] = {
    "cifar-10": "cifar10",
    "cifar-100": "cifar100",
    "imagenet-21k": "imagenet-21k",
    "imagenet-ilsvrc-2012-cls": "imagenet-1k",
    "svhn": "svhn",
}
# The licenses that the Hub's page "Licenses" lists under the same names.
LICENSES = (
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-nc-4.0",
    "epl-2.0",
    "gpl-2.0",
    "gpl-3.0",
    "lgpl-2.1",
    "lgpl-3.0",
    "mit",
    "mpl-2.0",
)
# A metric of models.yaml with these words is accuracy on that dataset.
ACCURACY = ("top-1", "imagenet-1k")
ACCURACY_DATASET = {"name": "ImageNet-1k", "type": "imagenet-1k"}

_NAME = re.compile(r"\w(?:[\w.-]*\w)?", re.ASCII)
_FRONT_MATTER = re.compile(r"---\n(.*?)\n---\n", re.DOTALL)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that another YAML parser could read as a number."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = text[:1].isascii() and text[:1].isalpha()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def repository_of(target: Target, handle: str) -> str:
    """Return the repository of a handle's model, which all its versions share.

    Raises `PageError` if the Hub does not accept the name (documentation of
    `huggingface_hub.utils.validate_repo_id`).
    """
    publisher, name = handle.split("/")[:2]
    there = target.names.get(f"{publisher}/{name}", name)
    good = _NAME.fullmatch(there) and len(there) <= LONGEST_NAME
    if not good or "--" in there or ".." in there or there.endswith(".git"):
        raise PageError(
            f"{publisher}/{name}: {there!r} cannot be the name of a repository at Hugging Face"
            f" (up to {LONGEST_NAME} letters, digits, _, - and ., no -- or .., no - or . first or"
            " last, no .git last); set another name with `names` in models.yaml"
        )
    return f"{target.to}/{there}"


def folder_of(handle: str) -> str:
    """Return the folder of a version in its repository, which is also the name of its tag."""
    return f"v{handle.rpartition('/')[2]}"


def page_address(target: Target, handle: str) -> str:
    """Return the address of a model's page."""
    return f"{WEB}/{repository_of(target, handle)}"


def archive_address(target: Target, handle: str) -> str:
    """Return the address of a version's archive.

    It names the branch: one commit adds the archive and its page there, and the tag follows.
    No later commit changes the archive.
    """
    return f"{page_address(target, handle)}/resolve/main/{folder_of(handle)}/model.tar.gz"


def render_version(
    registry: Registry, target: Target, variant: Variant, manifest: Manifest, templates: Path
) -> str:
    """Return the card of one version.

    Raises `PageError` if the manifest is another variant's, the template is faulty, the
    metadata cannot be read back, or the Hub does not accept the repository's name.
    """
    facts = {
        **module_facts(
            registry, variant, manifest, target=target, address=partial(page_address, target)
        ),
        "asset_path": archive_address(target, variant.handle),
        "repository": repository_of(target, variant.handle),
        "folder": folder_of(variant.handle),
    }
    text = render_template(templates, CARD, facts)
    metadata = card_metadata(registry, variant, manifest)
    card = f"---\n{_yaml(metadata)}---\n\n{text}"
    require_good_card(variant.handle, card, metadata)
    return card


def render_documents(
    registry: Registry, target: Target, manifests: Sequence[Manifest], templates: Path
) -> dict[str, str]:
    """Return no pages: a repository shows the card of its newest version."""
    return {}


def card_metadata(registry: Registry, variant: Variant, manifest: Manifest) -> dict[str, Any]:
    """Return the metadata of a card, in its order.

    Source: `modelcard.md` of huggingface/hub-docs. For synthetic weights the metadata omits
    what is true only of the upstream weights. Only the Hub sets `verified`.
    """
    checkpoint = registry.checkpoint_of(variant)
    synthetic = manifest.synthetic
    listed = checkpoint.license in LICENSES
    datasets = [DATASETS[name] for name in checkpoint.datasets if name in DATASETS]
    results = [] if synthetic else list(_results(variant, checkpoint))
    metadata = {
        "license": checkpoint.license if listed else "other",
        "license_name": None if listed else checkpoint.license,
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINES[variant.head],
        "tags": list(dict.fromkeys(_tags(variant, checkpoint, synthetic))),
        "datasets": [] if synthetic else datasets,
        "metrics": ["accuracy"] if results else [],
        "model-index": [{"name": variant.name, "results": results}] if results else [],
    }
    return {key: value for key, value in metadata.items() if value}


def require_good_card(handle: str, card: str, metadata: Mapping[str, Any]) -> None:
    """Raise `PageError` unless the metadata reads back unchanged.

    If huggingface_hub is installed, it must read the same metadata.
    """
    block = _FRONT_MATTER.match(card)
    problem = ""
    try:
        if block is None or yaml.safe_load(block[1]) != metadata:
            problem = "it reads back differently"
        else:
            problem = _library_problem(card, metadata)
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
    if problem:
        raise PageError(
            f"{handle}: the metadata of its card cannot be read back ({problem}); check its entry"
            " in models.yaml for unusual characters"
        )


def _library_problem(card: str, metadata: Mapping[str, Any]) -> str:
    """Return a problem if huggingface_hub is installed and reads the metadata differently."""
    try:
        from huggingface_hub import EvalResult, ModelCard
    except ImportError:
        return ""
    read = ModelCard(card)
    # It keeps results in its own form; the `model-index` that it writes lacks some sources.
    results: list[EvalResult] = read.data.get("eval_results", [])
    wanted = [
        (result["source"]["name"], result["source"]["url"], metric["name"], metric["value"])
        for model in metadata.get("model-index", ())
        for result in model["results"]
        for metric in result["metrics"]
    ]
    found = [(r.source_name, r.source_url, r.metric_name, r.metric_value) for r in results]
    others = {key: value for key, value in metadata.items() if key != "model-index"}
    same = found == wanted and all(read.data.get(key) == value for key, value in others.items())
    return "" if same else "huggingface_hub reads it differently"


def _tags(variant: Variant, checkpoint: Checkpoint, synthetic: bool) -> Iterator[str]:
    yield from ("tensorflow", "tf", "savedmodel", "tensorflow-hub", "vision")
    architectures = [name for name in checkpoint.network_architectures if name != "other"]
    yield from architectures
    if any(name == "bit" or name.startswith("resnet") for name in architectures):
        yield "resnet"
    if synthetic:
        yield "synthetic"
    if variant.withdrawn:
        yield "withdrawn"


def _results(variant: Variant, checkpoint: Checkpoint) -> Iterator[dict[str, Any]]:
    """Yield the reported results of a classifier, each with its source.

    Figures that the Hub's metadata cannot express appear only on the page.
    """
    for figure in checkpoint.reported if variant.head == "classifier" else ():
        if all(word in figure.metric.lower() for word in ACCURACY):
            yield {
                "task": {"type": PIPELINES[variant.head]},
                "dataset": dict(ACCURACY_DATASET),
                "metrics": [{"type": "accuracy", "value": figure.value, "name": figure.metric}],
                "source": {"name": figure.source, "url": figure.url},
            }


def _yaml(metadata: Mapping[str, Any]) -> str:
    text: str = yaml.dump(
        dict(metadata), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000
    )
    return text

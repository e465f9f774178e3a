"""Model cards of the Hugging Face Hub: what is on them, and that its own library reads it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from publisher.pages import PageError
from publisher.pages.document import parse
from publisher.pages.huggingface import (
    archive_address,
    folder_of,
    page_address,
    render_documents,
    render_version,
    repository_of,
    require_good_card,
)
from publisher.pages.snippets import Snippet, snippets, syntax_problem, undefined_names
from publisher.registry import Registry
from publisher.registry.models import Reported, Target

from .conftest import manifest_of
from .test_kaggle import changed, licensed
from .test_render import (
    CLASSIFIER,
    EXTRACTOR,
    FOLDED_CLASSIFIER,
    FOLDED_EXTRACTOR,
    variant_of,
    with_folded,
)

TARGET = Target(kind="huggingface", to="sayakpaul")
WEB = "https://huggingface.co/sayakpaul"
TEACHER = "sayakpaul/bit_resnet152x2_384_classification/1"
REQUIRED = {"license", "library_name", "pipeline_tag", "tags"}
TAGS = ["tensorflow", "tf", "savedmodel", "tensorflow-hub", "vision"]


def card_of(
    registry: Registry,
    templates: Path,
    handle: str = CLASSIFIER,
    target: Target = TARGET,
    **facts: Any,
) -> str:
    variant = variant_of(registry, handle)
    manifest = manifest_of(registry, variant, **facts)
    return render_version(registry, target, variant, manifest, templates)


def metadata_of(card: str) -> dict[str, Any]:
    block = re.match(r"---\n(.*?)\n---\n\n", card, re.DOTALL)
    assert block
    metadata: dict[str, Any] = yaml.safe_load(block[1])
    return metadata


def python_on(card: str) -> list[Snippet]:
    document = parse("assets/docs/a/b/1.md", f"# Module a/b/1\n{ModelCard(card).text}")
    assert document is not None
    return snippets(document.code)


def reporting(registry: Registry, *figures: Reported) -> Registry:
    checkpoints = {
        name: checkpoint.model_copy(update={"reported": figures})
        for name, checkpoint in registry.checkpoints.items()
    }
    return registry.model_copy(update={"checkpoints": checkpoints})


def test_the_metadata_says_what_the_registry_knows(registry: Registry, templates: Path) -> None:
    metadata = metadata_of(card_of(registry, templates))
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": "ImageNet-1k", "type": "imagenet-1k"},
    }
    metric = {"type": "accuracy", "name": "ImageNet-1k top-1"}
    timm = "https://github.com/huggingface/pytorch-image-models/tree/main/results"
    assert metadata == {
        "license": "apache-2.0",
        "library_name": "tensorflow",
        "pipeline_tag": "image-classification",
        "tags": [*TAGS, "bit", "resnet-v2-50", "resnet"],
        "datasets": ["imagenet-1k"],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": "distill_bit_resnet50x1_224_classification",
                "results": [
                    {
                        **result,
                        "metrics": [{**metric, "value": 82.8}],
                        "source": {
                            "name": "google-research/big_transfer",
                            "url": "https://github.com/google-research/big_transfer",
                        },
                    },
                    {
                        **result,
                        "metrics": [{**metric, "value": 82.82}],
                        "source": {"name": "timm results table", "url": timm},
                    },
                ],
            }
        ],
    }


def test_every_card_is_read_by_the_librarys_own_class(registry: Registry, templates: Path) -> None:
    everything = with_folded(registry)
    for variant in everything.variants:
        for synthetic in (False, True):
            card = card_of(everything, templates, variant.handle, synthetic=synthetic)
            read = ModelCard(card)
            metadata = metadata_of(card)
            assert set(metadata) >= REQUIRED
            for name in metadata.keys() - {"model-index"}:
                assert read.data.get(name) == metadata[name]
            assert read.text.startswith(f"\n# {variant.handle}\n")


def test_each_figure_keeps_its_own_source(registry: Registry, templates: Path) -> None:
    results = ModelCard(card_of(registry, templates, TEACHER)).data.get("eval_results")
    assert [(r.metric_value, r.source_name) for r in results] == [
        (84.3, "google-research/big_transfer"),
        (83.858, "timm results table"),
    ]
    # Only the Hub's own evaluation may call a figure verified.
    assert not any(r.verified for r in results)


def test_a_feature_extractor_has_no_accuracy(registry: Registry, templates: Path) -> None:
    metadata = metadata_of(card_of(registry, templates, EXTRACTOR))
    assert metadata["pipeline_tag"] == "image-feature-extraction"
    assert not {"metrics", "model-index"} & metadata.keys()


def test_figures_without_a_name_at_the_hub_stand_in_the_text_only(
    registry: Registry, templates: Path
) -> None:
    figure = {"source": "A paper", "url": "https://example.org/"}
    both = reporting(
        registry,
        Reported(metric="VTAB-1k mean", value=70.6, **figure),
        Reported(metric="Top-1 on ImageNet-1k", value=80.0, **figure),
    )
    card = card_of(both, templates)
    (model,) = metadata_of(card)["model-index"]
    assert [r["metrics"][0]["name"] for r in model["results"]] == ["Top-1 on ImageNet-1k"]
    assert "| VTAB-1k mean | 70.6 | [A paper](https://example.org/) |" in card


def test_synthetic_weights_are_called_so_first(registry: Registry, templates: Path) -> None:
    card = card_of(registry, templates, synthetic=True)
    metadata = metadata_of(card)
    assert "synthetic" in metadata["tags"]
    assert not {"datasets", "metrics", "model-index"} & metadata.keys()
    text = ModelCard(card).text
    assert text.startswith(f"\n# {CLASSIFIER}\n\n**Synthetic weights.** These are random numbers")
    assert "They do not apply at all" in text


def test_a_withdrawn_version_says_so_first(registry: Registry, templates: Path) -> None:
    withdrawing = changed(registry, CLASSIFIER, withdrawn="Its labels are shifted.")
    card = card_of(withdrawing, templates, synthetic=True)
    notice = "**Withdrawn: do not use this version.** Its labels are shifted.\n"
    assert f"\n# {CLASSIFIER}\n\n{notice}" in card
    assert "withdrawn" in metadata_of(card)["tags"]
    assert "withdrawn" not in metadata_of(card_of(registry, templates))["tags"]


@pytest.mark.parametrize("handle", [FOLDED_CLASSIFIER, FOLDED_EXTRACTOR])
def test_a_folded_model_is_for_prediction_only(
    registry: Registry, templates: Path, handle: str
) -> None:
    card = card_of(with_folded(registry), templates, handle)
    assert "for prediction only" in card
    assert "cannot be fine-tuned" in card
    computed = CLASSIFIER if handle == FOLDED_CLASSIFIER else EXTRACTOR
    assert f"For fine-tuning there is [`{computed}`]({page_address(TARGET, computed)})" in card
    assert len(python_on(card)) == 1


@pytest.mark.parametrize("synthetic", [False, True])
def test_every_snippet_stands_alone_and_loads_the_archive(
    registry: Registry, templates: Path, synthetic: bool
) -> None:
    for variant in with_folded(registry).variants:
        card = card_of(with_folded(registry), templates, variant.handle, synthetic=synthetic)
        found = python_on(card)
        assert len(found) == (1 if variant.folded else 2)
        address = f"{WEB}/{variant.name}/resolve/main/v1/model.tar.gz"
        for snippet in found:
            assert syntax_problem(snippet) is None, snippet.code
            assert list(undefined_names(snippet)) == [], snippet.code
            assert f'ADDRESS = "{address}"\n' in snippet.code
        assert f"curl --fail --location --output model.tar.gz {address}\n" in card


def test_a_model_has_the_name_that_models_yaml_gives_it(
    registry: Registry, templates: Path
) -> None:
    target = TARGET.model_copy(update={"names": {CLASSIFIER[:-2]: "r50x1"}})
    assert repository_of(target, CLASSIFIER) == "sayakpaul/r50x1"
    assert repository_of(TARGET, CLASSIFIER) == f"sayakpaul/{CLASSIFIER.split('/')[1]}"
    card = card_of(registry, templates, target=target)
    assert f'"{WEB}/r50x1/resolve/main/v1/model.tar.gz"' in card
    assert f"[`v1/model.tar.gz`]({WEB}/r50x1/tree/main/v1)" in card
    assert "hf download sayakpaul/r50x1 v1/model.tar.gz" in card


def test_a_version_is_a_folder(registry: Registry) -> None:
    later = CLASSIFIER.replace("/1", "/12")
    assert folder_of(later) == "v12"
    assert archive_address(TARGET, later).endswith("/resolve/main/v12/model.tar.gz")


def test_another_head_is_named_only_where_it_goes(registry: Registry, templates: Path) -> None:
    other = f"[`{EXTRACTOR}`]({page_address(TARGET, EXTRACTOR)})"
    assert f"Feature extractor of the same checkpoint: {other}" in card_of(registry, templates)
    target = TARGET.model_copy(update={"only": ("*classification*",)})
    assert EXTRACTOR not in card_of(registry, templates, target=target)


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("mit", {"license": "mit"}),
        ("gpl-3.0", {"license": "gpl-3.0"}),
        ("cddl-1.0", {"license": "other", "license_name": "cddl-1.0"}),
        ("custom", {"license": "other", "license_name": "custom"}),
    ],
)
def test_a_license_that_the_hub_does_not_list_is_named(
    registry: Registry, templates: Path, name: str, metadata: dict[str, str]
) -> None:
    found = metadata_of(card_of(licensed(registry, name), templates))
    assert {key: found[key] for key in found if key.startswith("license")} == metadata


@pytest.mark.parametrize(
    ("datasets", "ids"),
    [
        (("imagenet-21k", "imagenet-ilsvrc-2012-cls"), ["imagenet-21k", "imagenet-1k"]),
        (("other", "cifar-100"), ["cifar100"]),
        (("other",), None),
        (("imagenet",), None),
    ],
)
def test_datasets_are_named_where_the_hub_has_them(
    registry: Registry, templates: Path, datasets: tuple[str, ...], ids: list[str] | None
) -> None:
    checkpoints = {
        name: checkpoint.model_copy(update={"datasets": datasets})
        for name, checkpoint in registry.checkpoints.items()
    }
    registry = registry.model_copy(update={"checkpoints": checkpoints})
    assert metadata_of(card_of(registry, templates)).get("datasets") == ids


@pytest.mark.parametrize(
    "text",
    [
        "--- top-1",
        "a: b",
        "#1 'of' \"all\"",
        "{{ nothing }}",
        "no",
        "1e3",
        "0o14",
        "~",
        "- a\t- b",
        "&a *b !c",
        "yes \N{ZERO WIDTH NO-BREAK SPACE}\N{SNOWMAN}\x07",
        "x" * 5000,
    ],
)
def test_no_text_breaks_the_metadata(registry: Registry, templates: Path, text: str) -> None:
    figure = Reported(
        metric=f"{text} ImageNet-1k top-1", value=1.0, source=text, url="https://example.org/"
    )
    card = card_of(reporting(registry, figure), templates)
    (result,) = metadata_of(card)["model-index"][0]["results"]
    assert result["source"]["name"] == text
    assert result["metrics"][0]["name"] == figure.metric
    # A reader of another version of YAML takes these for numbers, unless they are quoted.
    if text in ("1e3", "0o14"):
        assert f'name: "{text}"' in card


@pytest.mark.parametrize(
    ("card", "complaint"),
    [
        ("# Nothing before it\n", "it reads back differently"),
        ("---\nlicense: gpl\n---\n\n# Other\n", "it reads back differently"),
        ("---\nlicense: [\n---\n\n# Broken\n", "while parsing a flow"),
        ("---\nlicense: mit\nmodel-index:\n- name: a\n---\n\n# Odd\n", "Invalid `model_index`"),
    ],
)
def test_metadata_that_does_not_come_back_is_refused(card: str, complaint: str) -> None:
    metadata: dict[str, Any] = {"license": "mit"}
    if "model-index" in card:
        metadata["model-index"] = [{"name": "a"}]
    with pytest.raises(PageError, match=re.escape(complaint)) as caught:
        require_good_card(CLASSIFIER, card, metadata)
    assert str(caught.value).startswith(f"{CLASSIFIER}: the metadata of its card cannot be read")


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("bit_r50x1.224-v2", True),
        ("b", True),
        ("x" * 96, True),
        ("x" * 97, False),
        ("-b", False),
        ("b.", False),
        ("a--b", False),
        ("a..b", False),
        ("b.git", False),
        ("café", False),
    ],
)
def test_a_repository_has_a_name_that_the_library_takes(name: str, good: bool) -> None:
    target = TARGET.model_construct(to="sayakpaul", names={"a/b": name})
    if good:
        validate_repo_id(repository_of(target, "a/b/1"))
    else:
        with pytest.raises(PageError, match=r"cannot be the name of a repository"):
            repository_of(target, "a/b/1")
        with pytest.raises(HFValidationError):
            validate_repo_id(f"sayakpaul/{name}")


def test_there_are_no_other_pages(registry: Registry, templates: Path) -> None:
    manifests = [manifest_of(registry, variant) for variant in registry.variants]
    assert render_documents(registry, TARGET, manifests, templates) == {}


def test_a_manifest_of_another_variant_is_refused(registry: Registry, templates: Path) -> None:
    variant, other = variant_of(registry, CLASSIFIER), variant_of(registry, EXTRACTOR)
    with pytest.raises(PageError, match="the manifest is that of"):
        render_version(registry, TARGET, variant, manifest_of(registry, other), templates)


def test_a_faulty_template_is_named_with_its_line(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "card.md.j2").write_text("fine\n{{ nothing }}\n")
    with pytest.raises(PageError, match=r"card.md.j2:2: 'nothing' is undefined"):
        card_of(registry, tmp_path)

"""Cards of Kaggle Models: what is on them, and that Kaggle's own client would take them."""

import json
from pathlib import Path
from typing import Any

import pytest

from publisher.pages import PageError
from publisher.pages.document import parse
from publisher.pages.kaggle import (
    MODEL_CARD,
    MODEL_FIELDS,
    VARIATION_FIELDS,
    render_documents,
    render_version,
    variation_of,
)
from publisher.pages.snippets import Snippet, snippets, syntax_problem, undefined_names
from publisher.registry import Registry
from publisher.registry.models import Target

from .conftest import manifest_of
from .test_render import (
    CLASSIFIER,
    EXTRACTOR,
    FOLDED_CLASSIFIER,
    FOLDED_EXTRACTOR,
    variant_of,
    with_folded,
)

TARGET = Target(kind="kaggle", to="sayakpaul/bit-resnet")
FIRST = "sayakpaul/bit-resnet/tensorFlow2"


def card_of(
    registry: Registry,
    templates: Path,
    handle: str = CLASSIFIER,
    target: Target = TARGET,
    **facts: Any,
) -> dict[str, Any]:
    variant = variant_of(registry, handle)
    manifest = manifest_of(registry, variant, **facts)
    card: dict[str, Any] = json.loads(
        render_version(registry, target, variant, manifest, templates)
    )
    return card


def model_card(
    registry: Registry, templates: Path, target: Target = TARGET, **facts: Any
) -> dict[str, Any]:
    manifests = [manifest_of(registry, variant, **facts) for variant in registry.variants]
    documents = render_documents(registry, target, manifests, templates)
    assert list(documents) == [MODEL_CARD]
    card: dict[str, Any] = json.loads(documents[MODEL_CARD])
    return card


def changed(registry: Registry, handle: str, **facts: Any) -> Registry:
    """The registry with other facts of one variant."""
    variants = tuple(
        variant.model_copy(update=facts) if variant.handle == handle else variant
        for variant in registry.variants
    )
    return registry.model_copy(update={"variants": variants})


def python_on(text: str) -> list[Snippet]:
    document = parse("assets/docs/a/b/1.md", f"# Module a/b/1\n{text}")
    assert document is not None
    return snippets(document.code)


def every_text(registry: Registry, templates: Path, **facts: Any) -> list[str]:
    cards = [card_of(registry, templates, v.handle, **facts) for v in registry.variants]
    texts = [card[name] for card in cards for name in ("overview", "usage")]
    return [*texts, model_card(registry, templates, **facts)["description"]]


def test_a_card_has_the_fields_that_kaggles_client_reads(
    registry: Registry, templates: Path
) -> None:
    card = card_of(registry, templates)
    assert tuple(card) == VARIATION_FIELDS
    assert {name: card[name] for name in VARIATION_FIELDS[:-2]} == {
        "ownerSlug": "sayakpaul",
        "modelSlug": "bit-resnet",
        "instanceSlug": "distill-bit-resnet50x1-224-classification",
        "framework": "tensorFlow2",
        "licenseName": "Apache 2.0",
        "fineTunable": True,
        "trainingData": ["imagenet-ilsvrc-2012-cls"],
        "modelInstanceType": "ExternalVariant",
        "externalBaseModelUrl": "https://storage.googleapis.com/bit_models/distill/R50x1_224.npz",
    }
    card = model_card(registry, templates)
    assert tuple(card) == MODEL_FIELDS
    assert (card["slug"], card["title"], card["isPrivate"]) == ("bit-resnet", "BiT-ResNet", True)


def test_a_text_comes_through_kaggles_client_as_it_is(registry: Registry, templates: Path) -> None:
    everything = with_folded(registry)
    for synthetic in (False, True):
        for text in every_text(everything, templates, synthetic=synthetic):
            # `kaggle models update` writes these in another way, in code as well.
            assert not set("<>&") & set(text)
            assert text == text.strip()


@pytest.mark.parametrize("synthetic", [False, True])
def test_every_snippet_stands_alone(registry: Registry, templates: Path, synthetic: bool) -> None:
    everything = with_folded(registry)
    found = [
        snippet
        for text in every_text(everything, templates, synthetic=synthetic)
        for snippet in python_on(text)
    ]
    # One to load each model, one to train each that can be trained, one for the model's card.
    assert len(found) == 10 + 8 + 1
    for snippet in found:
        assert syntax_problem(snippet) is None, snippet.code
        assert list(undefined_names(snippet)) == [], snippet.code
        assert "kagglehub.model_download(MODEL)" in snippet.code


def test_the_snippets_load_the_variation_of_the_card(registry: Registry, templates: Path) -> None:
    slug = "distill-bit-r50x1-224-feature-extraction"
    for snippet in python_on(card_of(registry, templates, EXTRACTOR)["usage"]):
        assert f'MODEL = "{FIRST}/{slug}"\n' in snippet.code
    target = TARGET.model_copy(update={"names": {EXTRACTOR.rpartition("/")[0]: "r50x1.features"}})
    card = card_of(registry, templates, EXTRACTOR, target)
    assert card["instanceSlug"] == variation_of(target, EXTRACTOR) == "r50x1.features"
    assert f'MODEL = "{FIRST}/r50x1.features"\n' in python_on(card["usage"])[0].code


def test_the_class_names_are_told_where_there_are_some(registry: Registry, templates: Path) -> None:
    names = "ilsvrc2012_wordnet_lemmas.txt"
    assert f'"assets" / "{names}"' in card_of(registry, templates)["usage"]
    assert "assets" not in card_of(registry, templates, EXTRACTOR)["usage"]


def test_another_head_is_named_only_where_it_goes(registry: Registry, templates: Path) -> None:
    other = f"{FIRST}/distill-bit-r50x1-224-feature-extraction"
    assert (
        f"Feature extractor of the same checkpoint: `{other}`"
        in (card_of(registry, templates)["usage"])
    )
    target = TARGET.model_copy(update={"only": ("*classification*",)})
    assert other not in card_of(registry, templates, target=target)["usage"]


@pytest.mark.parametrize("handle", [FOLDED_CLASSIFIER, FOLDED_EXTRACTOR])
def test_a_folded_model_is_not_for_training(
    registry: Registry, templates: Path, handle: str
) -> None:
    card = card_of(with_folded(registry), templates, handle)
    assert card["fineTunable"] is False
    assert card["overview"].endswith("for prediction only.")
    assert "cannot be fine-tuned" in card["usage"]
    computed = CLASSIFIER if handle == FOLDED_CLASSIFIER else EXTRACTOR
    assert f"For fine-tuning there is `{FIRST}/{variation_of(TARGET, computed)}`" in card["usage"]
    assert len(python_on(card["usage"])) == 1


def test_synthetic_weights_are_called_so_first(registry: Registry, templates: Path) -> None:
    card = card_of(registry, templates, synthetic=True)
    for text in (card["overview"], card["usage"]):
        assert text.startswith("**Synthetic weights.** These are random numbers")
    assert "They do not apply at all" in card["usage"]
    assert (card["trainingData"], card["modelInstanceType"]) == ([], "Unspecified")
    assert card["externalBaseModelUrl"] == ""
    model = model_card(registry, templates, synthetic=True)
    assert model["description"].startswith("**Synthetic weights.** These models hold")
    assert model["provenanceSources"].startswith("Synthetic weights: random numbers")
    assert "Evaluation Results" not in model["description"]


def test_a_withdrawn_version_says_so_first(registry: Registry, templates: Path) -> None:
    withdrawing = changed(registry, CLASSIFIER, withdrawn="Its labels are shifted.")
    card = card_of(withdrawing, templates, synthetic=True)
    notice = f"**Withdrawn: do not use `{CLASSIFIER}`.** Its labels are shifted.\n"
    assert card["overview"].startswith(notice)
    assert card["usage"].startswith(notice)
    text = model_card(withdrawing, templates)["description"]
    row = next(line for line in text.splitlines() if "resnet50x1-224-classification`" in line)
    assert "classifier, withdrawn" in row


def test_the_model_s_example_is_one_that_is_not_withdrawn(
    registry: Registry, templates: Path
) -> None:
    first = registry.variants[0].handle
    text = model_card(changed(registry, first, withdrawn="No."), templates)["description"]
    (snippet,) = python_on(text)
    assert variation_of(TARGET, first) not in snippet.code
    for variant in registry.variants:
        registry = changed(registry, variant.handle, withdrawn="No.")
    assert python_on(model_card(registry, templates)["description"]) == []


def test_figures_are_called_reported_with_their_source(registry: Registry, templates: Path) -> None:
    row = "| 82.8 | [google-research/big_transfer](https://github.com/google-research/big_transfer)"
    for text in (
        card_of(registry, templates)["usage"],
        model_card(registry, templates)["description"],
    ):
        assert row in text
        assert "reported by those sources for the upstream weights" in text
        assert "not measured" in " ".join(text.split())


def test_the_card_says_which_archive_the_files_are_of(registry: Registry, templates: Path) -> None:
    usage = card_of(registry, templates)["usage"]
    assert "a" * 64 in usage
    assert "94,012,345 bytes" in usage
    assert CLASSIFIER in usage


@pytest.mark.parametrize(
    ("name", "license_name", "expected"),
    [
        ("apache-2.0", None, "Apache 2.0"),
        ("mit", None, "MIT"),
        ("gpl-3.0", None, "GPL 3"),
        ("mpl-2.0", "Other (specified in description)", "Other (specified in description)"),
        ("apache-2.0", "CC0: Public Domain", "CC0: Public Domain"),
    ],
)
def test_a_license_has_the_name_that_kaggle_gives_it(
    registry: Registry, templates: Path, name: str, license_name: str | None, expected: str
) -> None:
    registry = licensed(registry, name)
    target = TARGET.model_copy(update={"license_name": license_name})
    assert card_of(registry, templates, target=target)["licenseName"] == expected


def licensed(registry: Registry, name: str) -> Registry:
    checkpoints = {
        key: checkpoint.model_copy(update={"license": name})
        for key, checkpoint in registry.checkpoints.items()
    }
    return registry.model_copy(update={"checkpoints": checkpoints})


def test_a_license_without_a_name_there_has_to_be_named(
    registry: Registry, templates: Path
) -> None:
    with pytest.raises(PageError, match=r"license mpl-2.0 is unknown; set license_name"):
        card_of(licensed(registry, "mpl-2.0"), templates)


def test_weights_that_no_page_leads_to_have_no_address(registry: Registry, templates: Path) -> None:
    registry = registry.model_copy(update={"upstream": "gs://bit_models/"})
    card = card_of(registry, templates)
    assert (card["modelInstanceType"], card["externalBaseModelUrl"]) == ("Unspecified", "")


def test_visibility_is_that_of_models_yaml(registry: Registry, templates: Path) -> None:
    target = TARGET.model_copy(update={"visibility": "public"})
    assert model_card(registry, templates, target)["isPrivate"] is False


def test_a_model_needs_a_variation(registry: Registry, templates: Path) -> None:
    with pytest.raises(PageError, match="needs at least one variation"):
        render_documents(registry, TARGET, [], templates)


def test_a_manifest_of_another_variant_is_refused(registry: Registry, templates: Path) -> None:
    variant, other = variant_of(registry, CLASSIFIER), variant_of(registry, EXTRACTOR)
    with pytest.raises(PageError, match="the manifest is that of"):
        render_version(registry, TARGET, variant, manifest_of(registry, other), templates)


@pytest.mark.parametrize("name", ["overview", "usage", "description"])
def test_a_faulty_template_is_named_with_its_line(
    registry: Registry, templates: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "kaggle").mkdir()
    for template in (templates / "kaggle").iterdir():
        text = "fine\n{{ nothing }}\n" if template.name.startswith(name) else template.read_text()
        (tmp_path / "kaggle" / template.name).write_text(text)
    with pytest.raises(PageError, match=rf"{name}.md.j2:2: 'nothing' is undefined"):
        card_of(registry, tmp_path)
        model_card(registry, tmp_path)

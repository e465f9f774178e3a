import ast
import re
from pathlib import Path
from typing import Any

import pytest

from publisher.pages import (
    PageError,
    asset_path,
    check_pages,
    document_path,
    render_collection,
    render_module,
    render_publisher,
)
from publisher.registry import Registry, Variant
from tests.releases import altered

from .conftest import manifest_of, tree_of

CLASSIFIER = "sayakpaul/distill_bit_resnet50x1_224_classification/1"
EXTRACTOR = "sayakpaul/distill_bit_r50x1_224_feature_extraction/1"


# Before the others in the alphabet, and after them on pages.
FOLDED_CLASSIFIER = "sayakpaul/bit_distilled_resnet50x1_224_prediction/1"
FOLDED_EXTRACTOR = "sayakpaul/bit_distilled_r50x1_224_prediction_features/1"


def with_folded(registry: Registry, *, classifier: bool = True, extractor: bool = True) -> Registry:
    """The registry with folded variants of one checkpoint beside those that are computed."""
    folded = [
        variant_of(registry, handle).model_copy(
            update={"handle": new, "aliases": (), "weight_standardization": "folded"}
        )
        for handle, new, wanted in (
            (CLASSIFIER, FOLDED_CLASSIFIER, classifier),
            (EXTRACTOR, FOLDED_EXTRACTOR, extractor),
        )
        if wanted
    ]
    return registry.model_copy(update={"variants": (*registry.variants, *folded)})


def without(registry: Registry, *handles: str) -> Registry:
    """The registry less some variants."""
    kept = tuple(variant for variant in registry.variants if variant.handle not in handles)
    return registry.model_copy(update={"variants": kept})


def variant_of(registry: Registry, handle: str) -> Variant:
    return next(variant for variant in registry.variants if variant.handle == handle)


def page_of(registry: Registry, templates: Path, handle: str, **changes: Any) -> str:
    variant = variant_of(registry, handle)
    return render_module(registry, variant, manifest_of(registry, variant, **changes), templates)


def section(page: str, heading: str) -> str:
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def code(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def with_template(folder: Path, text: str) -> Path:
    (folder / "tfhub").mkdir()
    (folder / "tfhub" / "module.md.j2").write_text(text)
    return folder


def test_the_registry_gives_pages_that_keep_every_rule(pages: dict[str, str]) -> None:
    assert len(pages) == 10
    assert check_pages(pages) == []


def test_synthetic_pages_keep_every_rule_too(registry: Registry, templates: Path) -> None:
    assert check_pages(tree_of(registry, templates, synthetic=True)) == []


def test_the_same_facts_give_the_same_bytes(registry: Registry, templates: Path) -> None:
    assert tree_of(registry, templates) == tree_of(registry, templates)


def test_addresses_follow_from_the_handle(registry: Registry) -> None:
    base = registry.asset_base.rstrip("/")
    assert asset_path(registry, "a/b/1") == f"{base}/models/a/b/1/model.tar.gz"
    assert document_path("a/b/1") == "assets/docs/a/b/1.md"
    assert document_path("a/collections/c/1") == "assets/docs/a/collections/c/1.md"
    assert document_path("a") == "assets/docs/a/a.md"


def test_a_classifier_page_begins_with_handle_description_and_metadata(
    registry: Registry, templates: Path
) -> None:
    lines = page_of(registry, templates, CLASSIFIER).splitlines()
    assert lines[:4] == [
        f"# Module {CLASSIFIER}",
        "",
        "R50x1 image classifier of the Big Transfer (BiT) family, 1,000 logits,"
        " for 224x224 images.",
        "",
    ]
    assert lines[4:12] == [
        f"<!-- asset-path: {asset_path(registry, CLASSIFIER)} -->",
        "<!-- task: image-classification -->",
        "<!-- fine-tunable: true -->",
        "<!-- format: saved_model_2 -->",
        "<!-- dataset: imagenet-ilsvrc-2012-cls -->",
        "<!-- network-architecture: bit -->",
        "<!-- network-architecture: resnet-v2-50 -->",
        "<!-- license: apache-2.0 -->",
    ]


def test_a_page_has_its_sections_in_order(registry: Registry, templates: Path) -> None:
    headings = re.findall(r"^## (.*)$", page_of(registry, templates, CLASSIFIER), re.MULTILINE)
    assert headings == [
        "What it is",
        "How it was trained",
        "What goes in and comes out",
        "Use for prediction",
        "Fine-tuning",
        "Size",
        "Reported accuracy",
        "How it was checked",
        "How to verify the archive",
        "Old spellings",
        "License",
        "References",
    ]


def test_inputs_and_outputs_are_those_of_the_signature(registry: Registry, templates: Path) -> None:
    classifier = section(page_of(registry, templates, CLASSIFIER), "What goes in and comes out")
    extractor = section(page_of(registry, templates, EXTRACTOR), "What goes in and comes out")
    assert "| `images` | float32 | (batch, height, width, 3) | RGB in [-1.0, 1.0] |" in classifier
    assert "| `logits` | float32 | (batch, 1000) |" in classifier
    assert "| `features` | float32 | (batch, 2048) |" in extractor
    assert "assets/ilsvrc2012_wordnet_lemmas.txt" in classifier
    assert "assets/" not in extractor


def test_snippets_are_complete_and_load_the_page_s_own_archive(
    registry: Registry, templates: Path
) -> None:
    for handle in (CLASSIFIER, EXTRACTOR):
        snippets = code(page_of(registry, templates, handle), "python")
        assert len(snippets) == 2
        for snippet in snippets:
            ast.parse(snippet)
            assert "import tensorflow_hub as hub" in snippet
            assert asset_path(registry, handle) in snippet
        assert "hub.load(" in snippets[0]
        assert "trainable=True" in snippets[1]
        assert snippets[1].index("TF_USE_LEGACY_KERAS") < snippets[1].index("import tensorflow")


def test_snippets_leave_no_name_undefined(pages: dict[str, str]) -> None:
    for page in pages.values():
        for snippet in code(page, "python"):
            nodes = list(ast.walk(ast.parse(snippet)))
            names = [node for node in nodes if isinstance(node, ast.Name)]
            bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
            for node in nodes:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    bound |= {alias.asname or alias.name for alias in node.names}
            used = {node.id for node in names} - {"print", "zip"}
            assert used <= bound


def test_heads_of_one_checkpoint_name_each_other(registry: Registry, templates: Path) -> None:
    classifier = section(page_of(registry, templates, CLASSIFIER), "What it is")
    extractor = section(page_of(registry, templates, EXTRACTOR), "What it is")
    assert f"Feature extractor of the same checkpoint: [`{EXTRACTOR}`]" in classifier
    assert f"Classifier of the same checkpoint: [`{CLASSIFIER}`]" in extractor


def test_the_crop_is_stated_only_where_it_is_known(pages: dict[str, str]) -> None:
    crops = {
        path: re.findall(r"the crop is ([\d.]+)", page)
        for path, page in pages.items()
        if "classification" in path
    }
    assert [crops[path] for path in sorted(crops)] == [["0.95"], ["1.0"], [], ["0.95"]]
    assert [re.findall(r"_(\d{3})_", path) for path in sorted(crops)] == [
        ["224"],
        ["384"],
        ["160"],
        ["224"],
    ]


def test_every_reported_figure_has_its_source(registry: Registry, templates: Path) -> None:
    reported = section(page_of(registry, templates, CLASSIFIER), "Reported accuracy")
    for figure in registry.checkpoints["R50x1_224"].reported:
        assert f"| {figure.value} | [{figure.source}]({figure.url}) |" in reported
    assert "not measured" in reported


def test_checks_stand_with_status_and_result(registry: Registry, templates: Path) -> None:
    checks = section(page_of(registry, templates, EXTRACTOR), "How it was checked")
    assert "passed every check that applies" in checks
    assert "| parity with float64 reference | passed | largest error 2.4e-05" in checks
    assert (
        "| logits follow from the features | skipped | a feature extractor has no head |" in checks
    )
    assert "float64 NumPy forward pass is 2.4e-05." in checks
    assert "1.0e-04 + 1.0e-04 times" in checks
    assert "tensorflow 2.21.0, numpy 2.1.0" in checks


def test_a_failed_check_is_not_hidden(registry: Registry, templates: Path) -> None:
    validation = {
        "passed": False,
        "tolerance": {"absolute": 1e-4, "relative": 1e-4},
        "checks": [{"name": "a_check", "status": "failed", "summary": "no | good", "figures": {}}],
    }
    page = page_of(registry, templates, CLASSIFIER, validation=validation)
    checks = section(page, "How it was checked")
    assert "**The packed archive failed at least one check.**" in checks
    assert "| a check | failed | no \\| good |" in checks
    assert "forward pass" not in checks


def test_the_archive_can_be_verified(registry: Registry, templates: Path) -> None:
    [_, verify] = code(page_of(registry, templates, CLASSIFIER), "sh")
    assert asset_path(registry, CLASSIFIER) in verify
    assert f'echo "{"a" * 64}  model.tar.gz" | sha256sum --check' in verify


def test_old_spellings_stand_only_where_there_are_some(registry: Registry, templates: Path) -> None:
    variant = variant_of(registry, CLASSIFIER)
    with_aliases = page_of(registry, templates, CLASSIFIER)
    without = render_module(
        registry,
        variant.model_copy(update={"aliases": ()}),
        manifest_of(registry, variant),
        templates,
    )
    assert "`sayakpaul/distill_bit_r50x1_224_classification`." in section(
        with_aliases, "Old spellings"
    )
    assert "Old spellings" not in without


def test_synthetic_weights_are_announced_in_the_first_lines_and_claim_nothing(
    registry: Registry, templates: Path
) -> None:
    page = page_of(registry, templates, CLASSIFIER, synthetic=True)
    assert page.splitlines()[2].startswith("**Synthetic weights.** These are random numbers")
    assert section(page, "How it was trained").strip().startswith("Not at all.")
    assert "They do not apply at all" in section(page, "Reported accuracy")
    assert "c" * 64 not in page
    assert "Synthetic" not in page_of(registry, templates, CLASSIFIER)


def test_real_weights_are_named_with_their_digest(registry: Registry, templates: Path) -> None:
    references = section(page_of(registry, templates, CLASSIFIER), "References")
    assert f"{registry.upstream}distill/R50x1_224.npz" in references
    assert f"102,234,567 bytes, SHA-256 `{'c' * 64}`" in references


def test_nobody_is_sent_to_tfhub_dev_to_load_a_model(pages: dict[str, str]) -> None:
    modules = [page for page in pages.values() if page.startswith("# Module")]
    assert len(modules) == 8
    assert not any("tfhub.dev" in page for page in modules)


def test_folded_and_computed_variants_together_keep_every_rule(
    registry: Registry, templates: Path
) -> None:
    for some in (
        with_folded(registry),
        with_folded(registry, classifier=False),
        without(with_folded(registry, classifier=False), EXTRACTOR),
    ):
        pages = tree_of(some, templates)
        assert len(pages) == len(some.variants) + 2
        assert check_pages(pages) == []


def test_a_folded_variant_is_announced_as_for_prediction_only(
    registry: Registry, templates: Path
) -> None:
    for handle in (FOLDED_CLASSIFIER, FOLDED_EXTRACTOR):
        page = page_of(with_folded(registry), templates, handle)
        lines = page.splitlines()
        assert lines[2].endswith(", for 224x224 images, for prediction only.")
        assert "<!-- fine-tunable: false -->" in lines
        only = section(page, "Prediction only")
        assert "Weight standardization is folded into the kernels" in only
        assert "has no\ntrainable variables and cannot be fine-tuned" in only
    other = page_of(with_folded(registry), templates, CLASSIFIER)
    assert "<!-- fine-tunable: true -->" in other
    assert "rediction only" not in other


def test_a_folded_variant_shows_no_way_to_train_it(registry: Registry, templates: Path) -> None:
    for handle in (FOLDED_CLASSIFIER, FOLDED_EXTRACTOR):
        page = page_of(with_folded(registry), templates, handle)
        assert "\n## Fine-tuning" not in page
        assert "trainable=True" not in page
        assert "`trainable=False`" in section(page, "Prediction only")
        [snippet] = code(page, "python")
        assert "hub.load(" in snippet
        assert not re.search(r"KerasLayer|compile|fit\(|optimizer", snippet)


def test_a_folded_variant_points_to_what_can_be_fine_tuned(
    registry: Registry, templates: Path
) -> None:
    both = with_folded(registry)
    for folded, computed in ((FOLDED_CLASSIFIER, CLASSIFIER), (FOLDED_EXTRACTOR, EXTRACTOR)):
        only = section(page_of(both, templates, folded), "Prediction only")
        assert f"[`{computed}`]({asset_path(registry, computed)})" in only
    alone = without(both, CLASSIFIER)
    only = section(page_of(alone, templates, FOLDED_CLASSIFIER), "Prediction only")
    assert "For fine-tuning" not in only


def test_heads_name_the_other_head_with_the_same_weight_standardization(
    registry: Registry, templates: Path
) -> None:
    both = with_folded(registry)
    pairs = {CLASSIFIER: EXTRACTOR, FOLDED_CLASSIFIER: FOLDED_EXTRACTOR}
    for classifier, extractor in pairs.items():
        named = section(page_of(both, templates, classifier), "What it is")
        assert f"same checkpoint: [`{extractor}`]({asset_path(registry, extractor)}).\n" in named
        named = section(page_of(both, templates, extractor), "What it is")
        assert f"same checkpoint: [`{classifier}`]({asset_path(registry, classifier)}).\n" in named


def test_nobody_is_sent_to_a_folded_feature_extractor_to_train_a_head_on_it(
    registry: Registry, templates: Path
) -> None:
    only_folded = without(with_folded(registry, classifier=False), EXTRACTOR)
    page = page_of(only_folded, templates, CLASSIFIER)
    address = asset_path(registry, FOLDED_EXTRACTOR)
    named = section(page, "What it is")
    assert f"[`{FOLDED_EXTRACTOR}`]({address}), for prediction only.\n" in named
    assert "own 1,000 classes.\n" in section(page, "Fine-tuning")
    assert FOLDED_EXTRACTOR not in section(page, "Fine-tuning")


def test_the_collection_pairs_folded_variants_among_themselves(
    registry: Registry, templates: Path
) -> None:
    pages = tree_of(with_folded(registry), templates)
    page = pages[document_path(registry.collection.handle)]
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert len(rows) == 5
    named = [re.findall(r"https://tfhub\.dev/([\w/-]+)", row) for row in rows]
    assert named[2:4] == [[CLASSIFIER, EXTRACTOR], [FOLDED_CLASSIFIER, FOLDED_EXTRACTOR]]
    assert [row.count("(prediction only)") for row in rows] == [0, 0, 0, 2, 0]
    assert "\nPrediction only: weight standardization is folded into the kernels" in page
    publisher = pages[document_path(registry.publisher.name)]
    marked = [line for line in publisher.splitlines() if line.endswith(" (prediction only)")]
    assert len(marked) == 2
    assert FOLDED_CLASSIFIER in marked[0]
    assert FOLDED_EXTRACTOR in marked[1]


def test_a_folded_classifier_alone_leaves_the_other_head_of_its_row_empty(
    registry: Registry, templates: Path
) -> None:
    some = with_folded(registry, extractor=False)
    page = tree_of(some, templates)[document_path(registry.collection.handle)]
    [row] = [line for line in page.splitlines() if FOLDED_CLASSIFIER in line]
    assert EXTRACTOR not in row
    assert row.split(" | ")[1] == "-"


def test_pages_of_releases_without_folded_variants_do_not_speak_of_them(
    registry: Registry, templates: Path
) -> None:
    """Whose manifests may come from before there was a choice."""
    manifests = [manifest_of(registry, variant) for variant in registry.variants]
    manifests = [altered(one, lambda it: it.pop("weight_standardization")) for one in manifests]
    collection = render_collection(registry, manifests, templates)
    assert collection == render_collection(
        registry, [manifest_of(registry, variant) for variant in registry.variants], templates
    )
    assert "rediction only" not in collection
    assert "rediction only" not in render_publisher(registry, manifests, templates)


def test_the_collection_pairs_the_heads_of_each_checkpoint(pages: dict[str, str]) -> None:
    page = pages["assets/docs/sayakpaul/collections/bit-resnet/1.md"]
    assert page.startswith("# Collection sayakpaul/bit-resnet/1\n")
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert [row.split(" | ")[2:4] for row in rows] == [
        ["R152x2", "384"],
        ["R152x2", "224"],
        ["R50x1", "224"],
        ["R50x1", "160"],
    ]
    handles = re.findall(r"https://tfhub\.dev/([\w/-]+)", rows[2])
    assert handles == [CLASSIFIER, EXTRACTOR]
    assert "25,549,352 / 23,500,352" in rows[2]
    assert "82.8 ([google-research/big_transfer]" in rows[2]
    assert "82.82 ([timm results table]" in rows[2]


def test_the_collection_states_what_its_models_were_trained_on(pages: dict[str, str]) -> None:
    page = pages["assets/docs/sayakpaul/collections/bit-resnet/1.md"]
    assert re.findall(r"<!-- (\S+): (\S+) -->", page) == [
        ("task", "image-classification"),
        ("task", "image-feature-vector"),
        ("dataset", "imagenet-21k"),
        ("dataset", "imagenet-ilsvrc-2012-cls"),
        ("network-architecture", "bit"),
        ("network-architecture", "resnet-152"),
        ("network-architecture", "resnet-v2-50"),
    ]


def test_the_collection_of_one_model_leaves_the_other_head_empty(
    registry: Registry, templates: Path
) -> None:
    manifest = manifest_of(registry, variant_of(registry, EXTRACTOR))
    page = render_collection(registry, [manifest], templates)
    [row] = [line for line in page.splitlines() if EXTRACTOR in line]
    assert row.startswith(f"| - | [`{EXTRACTOR}`]")
    assert "<!-- task: image-classification -->" not in page


def test_only_the_latest_version_is_listed(registry: Registry, templates: Path) -> None:
    first = manifest_of(registry, variant_of(registry, CLASSIFIER))
    manifests = [
        first.model_copy(update={"handle": CLASSIFIER[:-1] + str(version)})
        for version in (9, 10, 2)
    ]
    collection = render_collection(registry, manifests, templates)
    publisher = render_publisher(registry, manifests, templates)
    for page in (collection, publisher):
        found = set(re.findall(r"tfhub\.dev/(sayakpaul/distill[\w/]+)", page))
        assert found == {CLASSIFIER[:-1] + "10"}


def test_a_model_that_left_the_registry_is_still_listed(
    registry: Registry, templates: Path
) -> None:
    manifest = manifest_of(registry, variant_of(registry, CLASSIFIER))
    gone = altered(manifest, lambda document: document["checkpoint"].update(name="withdrawn"))
    page = render_collection(registry, [gone], templates)
    [row] = [line for line in page.splitlines() if CLASSIFIER in line]
    assert row.endswith("| - |")


def test_synthetic_models_are_marked_in_lists_and_have_no_accuracy(
    registry: Registry, templates: Path
) -> None:
    manifests = [
        manifest_of(registry, variant, synthetic=variant.handle in (CLASSIFIER, EXTRACTOR))
        for variant in registry.variants
    ]
    collection = render_collection(registry, manifests, templates)
    assert collection.splitlines()[2].startswith("**Synthetic weights.**")
    [row] = [line for line in collection.splitlines() if CLASSIFIER in line]
    assert row.count("(synthetic)") == 2
    assert row.endswith("| - |")
    assert collection.count("(synthetic)") == 2
    publisher = render_publisher(registry, manifests, templates)
    assert publisher.splitlines()[2].startswith("**Synthetic weights.**")
    assert publisher.count("(synthetic)") == 2


def test_a_collection_needs_a_model(registry: Registry, templates: Path) -> None:
    with pytest.raises(PageError, match="needs at least one model"):
        render_collection(registry, [], templates)


def test_the_publisher_page_links_collection_and_models(
    registry: Registry, pages: dict[str, str]
) -> None:
    page = pages["assets/docs/sayakpaul/sayakpaul.md"]
    assert page.startswith("# Publisher sayakpaul\n\nSayak Paul: TensorFlow SavedModels")
    assert "https://tfhub.dev/sayakpaul/collections/bit-resnet/1" in page
    assert all(f"https://tfhub.dev/{variant.handle}" in page for variant in registry.variants)


def test_pages_end_with_one_newline_and_have_no_gaps(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert page.endswith("\n")
        assert not page.endswith("\n\n")
        assert "\n\n\n" not in page


def test_a_manifest_of_another_variant_is_refused(registry: Registry, templates: Path) -> None:
    manifest = manifest_of(registry, variant_of(registry, EXTRACTOR))
    with pytest.raises(PageError, match=rf"{CLASSIFIER}: the manifest is that of {EXTRACTOR}"):
        render_module(registry, variant_of(registry, CLASSIFIER), manifest, templates)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\n{{ nothing }}\n", r"module\.md\.j2:2: 'nothing' is undefined"),
        ("a\n\n{% if %}\n", r"module\.md\.j2:3: Expected an expression"),
        ("{{ 1 | no_such_filter }}\n", r"module\.md\.j2:1: No filter named 'no_such_filter'"),
        ("a\n{{ 'x' | thousands }}\n", r"module\.md\.j2:2: Cannot specify"),
        ("a\n{{ 1 / 0 }}\n", r"module\.md\.j2:2: division by zero"),
        ("{% include '../secret' %}\n", r"secret.*no such template"),
    ],
)
def test_a_faulty_template_is_named_with_its_line(
    registry: Registry, tmp_path: Path, template: str, message: str
) -> None:
    with pytest.raises(PageError, match=message):
        page_of(registry, with_template(tmp_path, template), CLASSIFIER)


@pytest.mark.parametrize(
    "expression",
    [
        "().__class__.__mro__",
        "''.__class__.__base__.__subclasses__()",
        "cycler.__init__.__globals__",
        "'{0.__class__}'.format(1)",
        "variant.aliases.append('x')",
        "manifest.update({'synthetic': false})",
    ],
)
def test_a_template_cannot_leave_its_sandbox(
    registry: Registry, tmp_path: Path, expression: str
) -> None:
    templates = with_template(tmp_path, "a\n{{ " + expression + " }}\n")
    with pytest.raises(PageError, match=r"module\.md\.j2:2: .*(unsafe|not safely callable)"):
        page_of(registry, templates, CLASSIFIER)

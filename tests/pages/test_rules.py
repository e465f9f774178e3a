"""Every rule has a page that breaks it."""

import pytest

from publisher.pages import PageError, check_pages, require_good_pages

PUBLISHER_PAGE = "assets/docs/anna/anna.md"
CLASSIFIER_PAGE = "assets/docs/anna/net_classification/1.md"
EXTRACTOR_PAGE = "assets/docs/anna/net_features/1.md"
COLLECTION_PAGE = "assets/docs/anna/collections/nets/1.md"
ARCHIVE = "https://example.org/models/anna/net_classification/1/model.tar.gz"

PAGES = {
    PUBLISHER_PAGE: """# Publisher anna
Anna, who publishes networks.

[![Icon URL]](https://example.org/anna.png)

## Links

[Code](https://github.com/anna/tools/1)
""",
    CLASSIFIER_PAGE: f"""# Module anna/net_classification/1

A classifier.

<!-- asset-path: {ARCHIVE} -->
<!-- task: image-classification -->
<!-- fine-tunable: true -->
<!-- format: saved_model_2 -->
<!-- dataset: imagenet-21k -->
<!-- dataset: imagenet-ilsvrc-2012-cls -->

## Use

```python
import tensorflow_hub as hub

model = hub.load("{ARCHIVE}")
```

Features: `anna/net_features/1`, see [its page](../net_features/1.md).
""",
    EXTRACTOR_PAGE: """# Module anna/net_features/1

A feature extractor.

<!-- asset-path: https://example.org/models/anna/net_features/1/model.tar.gz -->
<!-- task: image-feature-vector -->
<!-- fine-tunable: true -->
<!-- format: saved_model_2 -->
<!-- dataset: imagenet-21k -->
<!-- network-architecture: bit -->
<!-- license: apache-2.0 -->

## Use
""",
    COLLECTION_PAGE: """# Collection anna/nets/1

Networks.

<!-- task: image-classification -->
<!-- task: image-feature-vector -->
<!-- dataset: imagenet-21k -->
<!-- dataset: imagenet-ilsvrc-2012-cls -->
<!-- network-architecture: bit -->

## Models

| Classifiers | Feature<br>Extractor |
|---|---|
| [a](https://tfhub.dev/anna/net_classification/1) | [b](https://tfhub.dev/anna/net_features/1) |
""",
}
FORMAT_LINE = "<!-- format: saved_model_2 -->\n"


def changed(path: str, old: str, new: str) -> dict[str, str]:
    """The good pages with one change to one of them."""
    assert old in PAGES[path]
    return {**PAGES, path: PAGES[path].replace(old, new, 1)}


def test_good_pages_have_no_findings() -> None:
    assert check_pages(PAGES) == []
    require_good_pages(PAGES)


@pytest.mark.parametrize(
    ("path", "old", "new", "line", "message"),
    [
        (
            CLASSIFIER_PAGE,
            "net_classification/1\n",
            "net_clasification/1\n",
            1,
            "first line is '# Module anna/net_clasification/1';"
            " allowed: '# Module anna/net_classification/1'",
        ),
        (CLASSIFIER_PAGE, "# Module", "# Lite", 1, "allowed: '# Module anna/"),
        (CLASSIFIER_PAGE, "# Module anna/net_classification/1", "", 1, "first line is ''"),
        (COLLECTION_PAGE, "anna/nets/1", "anna/collections/nets/1", 1, "# Collection anna/nets/1"),
        (PUBLISHER_PAGE, "# Publisher anna", "# Publisher Anna", 1, "allowed: '# Publisher anna'"),
        (CLASSIFIER_PAGE, "A classifier.\n", "", 2, "no description"),
        (CLASSIFIER_PAGE, "A classifier.", "## A classifier", 2, "no description"),
        (
            CLASSIFIER_PAGE,
            FORMAT_LINE,
            FORMAT_LINE + "Something else.\n",
            9,
            "'Something else.' stands where only metadata may",
        ),
        (CLASSIFIER_PAGE, FORMAT_LINE, FORMAT_LINE + "<!-- a remark -->\n", 9, "only metadata may"),
        (CLASSIFIER_PAGE, FORMAT_LINE, "<!-- format: saved_model_2 --> \n", 8, "only metadata may"),
        (CLASSIFIER_PAGE, FORMAT_LINE, "<!-- format:  -->\n", 8, "only metadata may"),
        (CLASSIFIER_PAGE, FORMAT_LINE, "[![Icon URL]](x)\n" + FORMAT_LINE, 8, "only metadata may"),
        (CLASSIFIER_PAGE, FORMAT_LINE, "", 1, "'<!-- format: ... -->' is missing"),
        (CLASSIFIER_PAGE, "<!-- fine-tunable: true -->\n", "", 1, "fine-tunable: ... -->' is miss"),
        (CLASSIFIER_PAGE, "<!-- task: image-classification -->\n", "", 1, "task: ... -->' is miss"),
        (CLASSIFIER_PAGE, f"<!-- asset-path: {ARCHIVE} -->\n", "", 1, "asset-path: ... -->' is mi"),
        (COLLECTION_PAGE, "<!-- task: image-classification -->\n", "", 1, "is missing"),
        (
            CLASSIFIER_PAGE,
            FORMAT_LINE,
            FORMAT_LINE + "<!-- module-type: image -->\n",
            9,
            "key 'module-type' is unknown on a Module page; allowed: asset-path, task,",
        ),
        (
            COLLECTION_PAGE,
            "<!-- network",
            "<!-- license: apache-2.0 -->\n<!-- network",
            9,
            "key 'license' is unknown on a Collection page; allowed: task, dataset",
        ),
        (
            PUBLISHER_PAGE,
            "\n## Links",
            "<!-- task: image-classification -->\n## Links",
            5,
            "key 'task' is unknown on a Publisher page; allowed: none",
        ),
        (
            CLASSIFIER_PAGE,
            FORMAT_LINE,
            FORMAT_LINE * 2,
            9,
            "key 'format' is repeated; only dataset, language, task, network-architecture may",
        ),
        (
            CLASSIFIER_PAGE,
            "<!-- dataset: imagenet-21k -->\n",
            "<!-- dataset: imagenet-21k -->\n" * 2,
            10,
            "dataset 'imagenet-21k' is given twice",
        ),
        (CLASSIFIER_PAGE, "image-classification -->", "image-sorting -->", 6, "task is 'image-sor"),
        (CLASSIFIER_PAGE, "tunable: true", "tunable: yes", 7, "allowed: true, false"),
        (CLASSIFIER_PAGE, "saved_model_2", "saved_model", 8, "allowed: saved_model_2"),
        (CLASSIFIER_PAGE, "dataset: imagenet-21k", "dataset: imagenet21k", 9, "allowed: cifar-10,"),
        (EXTRACTOR_PAGE, "architecture: bit", "architecture: bit-resnet", 10, "allowed: bit,"),
        (EXTRACTOR_PAGE, "apache-2.0", "Apache-2.0", 11, "license is 'Apache-2.0'; allowed: apach"),
        (
            CLASSIFIER_PAGE,
            FORMAT_LINE,
            FORMAT_LINE + "<!-- colab: https://example.org/colab.research.google.com -->\n",
            9,
            "allowed: https://colab.research.google.com/...",
        ),
        (
            EXTRACTOR_PAGE,
            "https://example.org",
            "http://example.org",
            5,
            "must begin with https://",
        ),
        (EXTRACTOR_PAGE, "model.tar.gz", "model.zip", 5, "must end in .tar.gz"),
        (
            EXTRACTOR_PAGE,
            "https://example.org/models/anna/net_features/1/",
            "https://github.com/anna/net/releases/download/1/",
            5,
            "asset-path is on github.com",
        ),
        (
            EXTRACTOR_PAGE,
            "https://example.org/models/anna/net_features/1/",
            "https://example.org/models/anna/net_classification/2/",
            5,
            "asset-path names another model; allowed on this page: anna/net_features/1",
        ),
        (
            COLLECTION_PAGE,
            "tfhub.dev/anna/net_features/1",
            "tfhub.dev/anna/net_features/2",
            15,
            "https://tfhub.dev/anna/net_features/2 has no page;"
            " allowed: anna/net_classification/1, anna/net_features/1",
        ),
        (
            CLASSIFIER_PAGE,
            '("https://example.org',
            '("https://mirror.example.org',
            17,
            "code loads https://mirror.example.org",
        ),
        (
            CLASSIFIER_PAGE,
            f'("{ARCHIVE}")',
            '("anna/net_features/1")',
            17,
            "code names 'anna/net_f",
        ),
        (
            CLASSIFIER_PAGE,
            f'("{ARCHIVE}")',
            '("anna/net_class")',
            17,
            "code names 'anna/net_class'",
        ),
        (
            CLASSIFIER_PAGE,
            f'("{ARCHIVE}")',
            '("https://tfhub.dev/other/net/1")',
            17,
            "code loads https://tfhub.dev/other/net/1",
        ),
        (CLASSIFIER_PAGE, "model = hub", "model == = hub", 17, "this Python does not compile"),
        (CLASSIFIER_PAGE, "model = hub", "return hub", 17, "compile: 'return' outside function"),
        (
            CLASSIFIER_PAGE,
            "import tensorflow_hub as hub",
            "import tensorflow_hub",
            17,
            "this Python never sets 'hub'; a block has to run alone",
        ),
        (
            CLASSIFIER_PAGE,
            f'("{ARCHIVE}")',
            '("https://example.org/another.zip")',
            17,
            "https://example.org/another.zip, which the release does not serve;"
            f" allowed: {ARCHIVE}",
        ),
        (
            CLASSIFIER_PAGE,
            f'("{ARCHIVE}")',
            '("https://tfhub.dev/anna/net_classification/1")',
            17,
            "which the release does not serve",
        ),
        (
            CLASSIFIER_PAGE,
            f'("{ARCHIVE}")',
            '("gs://bucket/net")',
            17,
            "names gs://bucket/net, which the release does not serve",
        ),
        (CLASSIFIER_PAGE, '")\n```\n', '")\n', 14, "this code block is not closed"),
        (
            CLASSIFIER_PAGE,
            "`anna/net_features/1`",
            "`anna/net_features/3`",
            20,
            "'anna/net_features/3' is not a known model;"
            " allowed: anna/net_classification/1, anna/net_features/1",
        ),
        (CLASSIFIER_PAGE, "../net_features/1.md", "net_features/1.md", 20, "which does not exist"),
        (
            CLASSIFIER_PAGE,
            "`anna/net_features/1`",
            f"[`anna/net_features/1`]({ARCHIVE})",
            20,
            "link says 'anna/net_features/1' and leads to 'anna/net_classification/1/model.tar.gz'",
        ),
        (
            COLLECTION_PAGE,
            "<!-- dataset: imagenet-21k -->\n",
            "",
            1,
            "dataset 'imagenet-21k' of a listed model is missing",
        ),
        (
            COLLECTION_PAGE,
            "architecture: bit",
            "architecture: resnet",
            9,
            "network-architecture 'resnet' belongs to no listed model; allowed: bit",
        ),
    ],
)
def test_a_broken_rule_is_found_on_its_line(
    path: str, old: str, new: str, line: int, message: str
) -> None:
    findings = check_pages(changed(path, old, new))
    assert any(
        finding.startswith(f"{path}:{line}: ") and message in finding for finding in findings
    ), findings


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "assets/docs/anna/net/1.txt",
        "assets/docs/anna/net/latest.md",
        "assets/docs/anna/other.md",
        "assets/docs/anna/collections/nets/2.md",
        "assets/docs/Anna/net/1.md",
        "assets/docs/anna/net/1.md\n",
        "assets/docs/anna/../net/ü/1.md",
    ],
)
def test_no_page_may_lie_elsewhere(path: str) -> None:
    findings = check_pages({**PAGES, path: "# Module anna/net/1\n\nA net.\n"})
    assert any("no page may lie here; allowed: assets/docs/<publisher>" in f for f in findings)


def test_the_publisher_needs_a_page() -> None:
    pages = {path: page for path, page in PAGES.items() if path != PUBLISHER_PAGE}
    findings = check_pages(pages)
    assert len(findings) == 3
    assert all(f"has no page; add {PUBLISHER_PAGE}" in finding for finding in findings)


def test_a_collection_needs_a_model() -> None:
    page = PAGES[COLLECTION_PAGE].partition("| Class")[0]
    findings = check_pages({**PAGES, COLLECTION_PAGE: page})
    assert [finding.partition(" a collection")[0] for finding in findings] == [
        f"{COLLECTION_PAGE}:1:"
    ]


def test_two_models_cannot_share_an_archive() -> None:
    shared = "https://example.org/model.tar.gz"
    pages = dict(PAGES)
    for path, name in ((CLASSIFIER_PAGE, "net_classification"), (EXTRACTOR_PAGE, "net_features")):
        own = f"https://example.org/models/anna/{name}/1/model.tar.gz"
        pages[path] = pages[path].replace(own, shared)
    [finding] = check_pages(pages)
    assert finding.startswith(f"{EXTRACTOR_PAGE}:5: asset-path is also used by {CLASSIFIER_PAGE}")


def test_a_model_that_is_known_without_a_page_may_be_mentioned_but_not_listed() -> None:
    pages = {path: page for path, page in PAGES.items() if path != EXTRACTOR_PAGE}
    pages[CLASSIFIER_PAGE] = pages[CLASSIFIER_PAGE].replace(
        ", see [its page](../net_features/1.md)", ""
    )
    unknown = check_pages(pages)
    known = check_pages(pages, known_handles=["anna/net_features/1"])
    assert any("is not a known model" in finding for finding in unknown)
    assert not any("is not a known model" in finding for finding in known)
    assert any(f"{COLLECTION_PAGE}:15: " in finding for finding in known)


@pytest.mark.parametrize("path", [PUBLISHER_PAGE, COLLECTION_PAGE])
def test_only_pages_of_models_have_python(path: str) -> None:
    """The others' would be published without having run."""
    page = f"{PAGES[path]}\n```py\nprint(1)\n```\n"
    line = page.splitlines().index("```py") + 1
    kind = PAGES[path].split()[1]
    assert check_pages({**PAGES, path: page}) == [
        f"{path}:{line}: Python on a {kind} page; allowed: on Module pages, where it runs before"
        " publication"
    ]


def test_code_in_other_languages_is_not_parsed_as_python() -> None:
    assert check_pages(changed(CLASSIFIER_PAGE, "```python", "```sh")) == []


def test_an_account_of_the_same_name_elsewhere_is_no_handle() -> None:
    address = "https://github.com/anna/notebooks/blob/1"
    pages = changed(CLASSIFIER_PAGE, "model = hub", f"# {address}\nmodel = hub")
    assert check_pages(pages) == []


def test_findings_come_in_the_order_of_pages_and_lines() -> None:
    pages = changed(CLASSIFIER_PAGE, "tunable: true", "tunable: yes")
    pages[CLASSIFIER_PAGE] = pages[CLASSIFIER_PAGE].replace("A classifier.\n", "")
    pages[PUBLISHER_PAGE] = pages[PUBLISHER_PAGE].replace("# Pub", "# Bub")
    places = [finding.split(": ")[0] for finding in check_pages(dict(reversed(pages.items())))]
    assert places == [f"{PUBLISHER_PAGE}:1", f"{CLASSIFIER_PAGE}:2", f"{CLASSIFIER_PAGE}:6"]


def test_all_findings_are_in_the_error() -> None:
    pages = changed(CLASSIFIER_PAGE, "tunable: true", "tunable: yes")
    pages[PUBLISHER_PAGE] = pages[PUBLISHER_PAGE].replace("# Pub", "# Bub")
    with pytest.raises(PageError) as error:
        require_good_pages(pages)
    assert str(error.value).startswith("2 page rules are broken")
    assert all(finding in str(error.value) for finding in check_pages(pages))


class TestErrorsOfHandWrittenPages:
    """What was wrong on the pages of this collection when people typed them."""

    CLASSIFIER_384 = "assets/docs/sayakpaul/bit_resnet152x2_384_classification/1.md"
    DISTILLED_224 = "assets/docs/sayakpaul/distill_bit_resnet50x1_224_classification/1.md"
    COLLECTION = "assets/docs/sayakpaul/collections/bit-resnet/1.md"

    def test_a_snippet_whose_handle_does_not_exist(self, pages: dict[str, str]) -> None:
        self.add_snippet(pages, self.CLASSIFIER_384, "sayakpaul/bit_r152x2_384_classification/1")
        assert any(
            finding.startswith(self.CLASSIFIER_384)
            and "code names 'sayakpaul/bit_r152x2_384_classification/1'" in finding
            for finding in check_pages(pages)
        )

    def test_a_classifier_s_snippet_that_loads_the_feature_extractor(
        self, pages: dict[str, str]
    ) -> None:
        extractor = "sayakpaul/distill_bit_r50x1_224_feature_extraction/1"
        self.add_snippet(pages, self.DISTILLED_224, extractor)
        assert any(
            finding.startswith(self.DISTILLED_224) and f"code names {extractor!r}" in finding
            for finding in check_pages(pages)
        )

    def test_feature_extractor_links_that_lead_to_classifiers(self, pages: dict[str, str]) -> None:
        classifier = "sayakpaul/distill_bit_resnet50x1_224_classification/1"
        pages[self.COLLECTION] += (
            "\n| Name | Classifier | Feature Extractor |\n|---|---|---|\n"
            f"| R50x1 | [Link](https://tfhub.dev/{classifier}) "
            f"| [Link](https://tfhub.dev/{classifier}) |\n"
        )
        [finding] = check_pages(pages)
        assert (
            f"{classifier!r} is in the column 'feature extractor' but has another task" in finding
        )

    def test_a_misspelt_handle_in_a_table(self, pages: dict[str, str]) -> None:
        misspelt = "sayakpaul/distill_bit_r50x1_224_classification/1"
        pages[self.COLLECTION] += f"\n| R50x1 | [Link](https://tfhub.dev/{misspelt}) |\n"
        findings = check_pages(pages)
        assert any(f"{misspelt!r} is not a known model" in finding for finding in findings)
        assert any(f"https://tfhub.dev/{misspelt} has no page" in finding for finding in findings)

    def test_teachers_that_are_said_to_know_imagenet_1k_only(self, pages: dict[str, str]) -> None:
        pages[self.COLLECTION] = pages[self.COLLECTION].replace(
            "<!-- dataset: imagenet-21k -->\n", ""
        )
        [finding] = check_pages(pages)
        assert "dataset 'imagenet-21k' of a listed model is missing" in finding

    @staticmethod
    def add_snippet(pages: dict[str, str], path: str, handle: str) -> None:
        pages[path] += (
            "\n```python\nimport tensorflow_hub as hub\n\n"
            f'layer = hub.KerasLayer("https://tfhub.dev/{handle}")\n```\n'
        )

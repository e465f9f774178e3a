"""The text of a GitHub release: what is on it, and how GitHub would show it."""

import re
from pathlib import Path
from typing import Any

import pytest

from publisher.pages import PageError
from publisher.pages.document import parse
from publisher.pages.github import (
    LONGEST,
    asset_address,
    release_address,
    render_documents,
    render_version,
    tag_of,
)
from publisher.pages.snippets import Snippet, addresses, snippets, syntax_problem, undefined_names
from publisher.pages.styles import style_of
from publisher.registry import Registry
from publisher.registry.models import Target

from .conftest import manifest_of
from .test_render import (
    CLASSIFIER,
    EXTRACTOR,
    FOLDED_CLASSIFIER,
    code,
    variant_of,
    with_folded,
    without,
)

TARGET = Target(kind="github", to="sayakpaul/models")
PLACE = "https://github.com/sayakpaul/models/releases"


def page_of(
    registry: Registry,
    templates: Path,
    handle: str = CLASSIFIER,
    target: Target = TARGET,
    *,
    withdrawn: str | None = None,
    synthetic: bool = False,
    **changes: Any,
) -> str:
    variant = variant_of(registry, handle).model_copy(update={"withdrawn": withdrawn})
    manifest = manifest_of(registry, variant, synthetic=synthetic, **changes)
    return render_version(registry, target, variant, manifest, templates)


def python_on(page: str) -> list[Snippet]:
    document = parse("assets/docs/a/b/1.md", f"# Module a/b/1\n\n{page}")
    assert document is not None
    return snippets(document.code)


def every_page(registry: Registry, templates: Path, **facts: Any) -> dict[str, str]:
    everything = with_folded(registry)
    return {
        variant.handle: page_of(everything, templates, variant.handle, **facts)
        for variant in everything.variants
    }


def test_a_tag_names_the_model_and_the_version() -> None:
    assert tag_of(TARGET, "sayakpaul/net/12") == "net-v12"
    named = TARGET.model_copy(update={"names": {"sayakpaul/net": "small.net"}})
    assert tag_of(named, "sayakpaul/net/12") == "small.net-v12"
    assert release_address(named, "sayakpaul/net/12") == f"{PLACE}/tag/small.net-v12"
    assert (
        asset_address(named, "sayakpaul/net/12", "model.tar.gz")
        == f"{PLACE}/download/small.net-v12/model.tar.gz"
    )


@pytest.mark.parametrize("synthetic", [False, True])
def test_every_snippet_stands_alone_and_loads_its_own_archive(
    synthetic: bool, registry: Registry, templates: Path
) -> None:
    for handle, page in every_page(registry, templates, synthetic=synthetic).items():
        (snippet,) = python_on(page)
        assert syntax_problem(snippet) is None, snippet.code
        assert list(undefined_names(snippet)) == [], snippet.code
        own = asset_address(TARGET, handle, "model.tar.gz")
        assert [address for _, address in addresses(snippet)] == [own]
        assert "hub.load(ADDRESS)" in snippet.code


@pytest.mark.parametrize("synthetic", [False, True])
def test_a_paragraph_is_one_line(synthetic: bool, registry: Registry, templates: Path) -> None:
    """GitHub shows every line break in the text of a release."""
    pages = every_page(registry, templates, synthetic=synthetic, withdrawn="It is\nwrong.\n")
    for page in pages.values():
        prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
        for block in re.split(r"\n{2,}", prose.strip()):
            lines = block.split("\n")
            assert len(lines) == 1 or all(line.startswith("|") for line in lines), block
        assert not re.search(r"[^\S\n]$", page, re.MULTILINE)
        assert page == page.strip() + "\n"


def test_it_says_how_to_check_the_archive(registry: Registry, templates: Path) -> None:
    page = page_of(registry, templates)
    address = asset_address(TARGET, CLASSIFIER, "model.tar.gz")
    assert "94,012,345 bytes (102.1 MB unpacked)" in page
    assert f"curl --fail --location --output model.tar.gz {address}\n" in page
    assert f'echo "{"a" * 64}  model.tar.gz" | sha256sum --check\n' in page
    assert "passed every check that applies to it; the largest difference" in page
    assert "2.4e-05. `manifest.json` has every check" in page
    assert len(code(page, "sh")) == 2


def test_a_check_that_failed_is_told(registry: Registry, templates: Path) -> None:
    manifest = manifest_of(registry, variant_of(registry, CLASSIFIER))
    failed = {**manifest.validation.as_json(), "passed": False}
    page = page_of(registry, templates, validation=failed)
    assert "**The packed archive failed at least one check**" in page
    assert "passed every check" not in page


def test_what_is_wrong_with_a_version_comes_first(registry: Registry, templates: Path) -> None:
    page = page_of(registry, templates, withdrawn="The names\nare wrong.", synthetic=True)
    first, second, third = page.split("\n\n")[:3]
    assert first == f"**Withdrawn: do not use `{CLASSIFIER}`.** The names are wrong."
    assert second.startswith("**Synthetic weights.** These are random numbers")
    assert third.startswith(f"`{CLASSIFIER}`: R50x1 image classifier of the Big Transfer (BiT)")
    assert "They do not apply at all to the random numbers" in page
    plain = page_of(registry, templates)
    assert plain.startswith(f"`{CLASSIFIER}`: ")
    assert "Withdrawn" not in plain
    assert "ynthetic" not in plain
    assert "they were not measured here" in plain


def test_it_leads_to_the_models_that_are_there_too(registry: Registry, templates: Path) -> None:
    everything = with_folded(registry)
    assert f"[`{EXTRACTOR}`]({release_address(TARGET, EXTRACTOR)})" in page_of(registry, templates)
    folded = page_of(everything, templates, FOLDED_CLASSIFIER)
    assert f"fine-tuning there is [`{CLASSIFIER}`]({PLACE}/tag/" in folded
    assert "for prediction only" in folded
    only = TARGET.model_copy(update={"only": ("*classification*",)})
    assert EXTRACTOR not in page_of(registry, templates, target=only)
    assert EXTRACTOR not in page_of(without(registry, EXTRACTOR), templates)


def test_no_address_of_another_destination_is_on_it(registry: Registry, templates: Path) -> None:
    for page in every_page(registry, templates).values():
        assert registry.asset_base not in page
        assert "tfhub.dev" not in page


def test_a_page_that_github_would_refuse_is_none(registry: Registry, templates: Path) -> None:
    page = page_of(registry, templates, withdrawn="x")
    longest = "x" * (LONGEST - len(page) + 1)
    assert len(page_of(registry, templates, withdrawn=longest)) == LONGEST
    message = rf"^{re.escape(CLASSIFIER)}: the text of its release has 125,001 characters, and"
    with pytest.raises(PageError, match=message):
        page_of(registry, templates, withdrawn=f"{longest}x")


def test_the_manifest_of_another_model_is_refused(registry: Registry, templates: Path) -> None:
    other = manifest_of(registry, variant_of(registry, EXTRACTOR))
    with pytest.raises(PageError, match="the manifest is that of"):
        render_version(registry, TARGET, variant_of(registry, CLASSIFIER), other, templates)


def test_releases_stand_for_themselves(registry: Registry, templates: Path) -> None:
    manifests = [manifest_of(registry, variant) for variant in registry.variants]
    assert render_documents(registry, TARGET, manifests, templates) == {}
    assert style_of("github").version is render_version

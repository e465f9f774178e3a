from pathlib import Path

import pytest

from publisher.registry import Registry, RegistryError, load_registry, select


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(Path(__file__).parents[2] / "models.yaml")


def names(registry: Registry, *globs: str) -> list[str]:
    return [variant.name for variant in select(registry, globs)]


def test_no_globs_mean_everything(registry: Registry) -> None:
    assert select(registry, []) == registry.variants


@pytest.mark.parametrize(
    ("glob", "count"),
    [
        ("*", 8),
        ("*160*", 2),
        ("sayakpaul/*_classification", 4),
        ("sayakpaul/*_classification/1", 4),
        ("distill_*", 4),
        ("*_feature_extraction", 4),
        ("*_224_*/1", 4),
        ("sayakpaul/bit_r152x2_384_feature_extraction/1", 1),
        ("sayakpaul/bit_r152x2_384_feature_extraction", 1),
        ("bit_r152x2_384_feature_extraction/1", 1),
        ("bit_r152x2_384_feature_extraction", 1),
        ("bit_r[1]52x2_???_feature_extraction", 2),
    ],
)
def test_a_glob_may_leave_out_publisher_and_version(
    registry: Registry, glob: str, count: int
) -> None:
    assert len(names(registry, glob)) == count


def test_the_order_is_that_of_the_registry_and_each_comes_once(registry: Registry) -> None:
    assert names(registry, "*160_feature*", "*384_class*", "*160*") == [
        "bit_resnet152x2_384_classification",
        "distill_bit_resnet50x1_160_classification",
        "distill_bit_r50x1_160_feature_extraction",
    ]


@pytest.mark.parametrize("glob", ["*/2", "DISTILL_*", "google/*", "", "224"])
def test_a_glob_that_matches_nothing_is_an_error(registry: Registry, glob: str) -> None:
    with pytest.raises(RegistryError, match="no handle matches"):
        select(registry, ["*", glob])


def test_a_glob_near_a_handle_names_it(registry: Registry) -> None:
    with pytest.raises(RegistryError) as caught:
        select(registry, ["distill_bit_resnet50x1_160_clasification"])
    assert str(caught.value).startswith(
        "no handle matches 'distill_bit_resnet50x1_160_clasification'; near ones:"
        " sayakpaul/distill_bit_resnet50x1_160_classification/1"
    )


def test_an_old_spelling_leads_to_its_handle(registry: Registry) -> None:
    with pytest.raises(
        RegistryError,
        match="near ones: sayakpaul/distill_bit_resnet50x1_224_classification/1",
    ):
        select(registry, ["sayakpaul/distill_bit_r50x1_224_classification"])


def test_a_glob_like_nothing_gets_all_handles(registry: Registry) -> None:
    with pytest.raises(RegistryError) as caught:
        select(registry, ["zzz*"])
    assert "there are: " in str(caught.value)
    assert all(variant.handle in str(caught.value) for variant in registry.variants)


def test_all_globs_that_match_nothing_are_named(registry: Registry) -> None:
    with pytest.raises(RegistryError) as caught:
        select(registry, ["zzz", "*", "yyy"])
    assert [line.split(";")[0] for line in str(caught.value).split("\n")] == [
        "no handle matches 'zzz'",
        "no handle matches 'yyy'",
    ]

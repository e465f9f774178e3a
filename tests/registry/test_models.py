import pickle
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from publisher.families import ARCHITECTURES
from publisher.registry import RegistryError, load_registry

from .conftest import GOOD, Load, edited

FOLDED = "    weight_standardization: folded\n"
FOLDED_CLASSIFIER = f"""\
  - handle: sayakpaul/small_folded_classification/1
    checkpoint: small
    head: classifier
{FOLDED}"""
FOLDED_EXTRACTOR = f"""\
  - handle: sayakpaul/small_folded_features/7
    checkpoint: small
    head: feature_extractor
{FOLDED}"""
SECOND = """\
  - handle: sayakpaul/small_features/2
    checkpoint: small
    head: feature_extractor
"""


def test_a_variant_knows_the_parts_of_its_handle(load: Load) -> None:
    variant = load(edited(("small_features/1", "small_features/12"))).variants[1]
    assert variant.publisher == "sayakpaul"
    assert variant.name == "small_features"
    assert variant.version == 12
    assert variant.unversioned == "sayakpaul/small_features"


def test_what_may_be_left_out_has_a_value(load: Load) -> None:
    reported = GOOD[GOOD.index("    reported:") : GOOD.index("variants:")]
    registry = load(edited((reported, ""), ("    class_names: names.txt\n", "")))
    checkpoint = registry.checkpoints["small"]
    assert checkpoint.license == "apache-2.0"
    assert checkpoint.reported == ()
    assert checkpoint.tolerance is None
    assert registry.class_names(checkpoint) is None
    assert registry.variants[1].aliases == ()
    assert registry.variants[1].weight_standardization == "computed"
    assert not registry.variants[1].folded


def test_heads_of_one_checkpoint_are_siblings(load: Load) -> None:
    registry = load(GOOD)
    classifier, extractor = registry.variants
    assert registry.sibling(classifier, "feature_extractor") == extractor
    assert registry.sibling(extractor, "classifier") == classifier
    assert registry.sibling(classifier, "classifier") is None
    assert registry.other_head(classifier) == extractor
    assert registry.other_head(extractor) == classifier


def test_the_sibling_of_the_same_version_comes_first_then_the_newest(load: Load) -> None:
    registry = load(GOOD + SECOND)
    classifier, first, second = registry.variants
    assert registry.sibling(classifier, "feature_extractor") == first
    registry = load(edited(("small_classification/1", "small_classification/3")) + SECOND)
    assert registry.sibling(registry.variants[0], "feature_extractor") == second


def test_the_sibling_with_the_same_weight_standardization_comes_first(load: Load) -> None:
    registry = load(GOOD + FOLDED_CLASSIFIER + FOLDED_EXTRACTOR + SECOND)
    computed, extractor, folded, folded_extractor, _ = registry.variants
    # Though the other has the classifier's version, or is newer.
    assert registry.sibling(folded, "feature_extractor") == folded_extractor
    assert registry.sibling(folded_extractor, "classifier") == folded
    assert registry.sibling(computed, "feature_extractor") == extractor


def test_a_sibling_with_the_other_weight_standardization_is_better_than_none(load: Load) -> None:
    registry = load(GOOD + FOLDED_CLASSIFIER)
    _, computed, folded = registry.variants
    assert registry.sibling(folded, "feature_extractor") == computed
    registry = load(GOOD + FOLDED)  # the feature extractor is, the classifier is not
    classifier, extractor = registry.variants
    assert extractor.folded
    assert registry.sibling(classifier, "feature_extractor") == extractor


def test_what_can_be_fine_tuned_in_place_of_a_folded_variant_is_found(load: Load) -> None:
    registry = load(GOOD + FOLDED_CLASSIFIER + FOLDED_EXTRACTOR + SECOND)
    classifier, _, folded, folded_extractor, newest = registry.variants
    assert registry.fine_tunable(folded) == classifier
    assert registry.fine_tunable(folded_extractor) == newest
    assert registry.fine_tunable(classifier) is None
    registry = load(GOOD + FOLDED)
    assert registry.fine_tunable(registry.variants[1]) is None


def test_nothing_leads_to_a_withdrawn_variant(load: Load) -> None:
    withdrawn = "    withdrawn: Wrong weights.\n"
    registry = load(GOOD + withdrawn + SECOND)
    classifier, first, second = registry.variants
    assert first.withdrawn
    assert registry.sibling(classifier, "feature_extractor") == second
    registry = load(GOOD + withdrawn)
    assert registry.sibling(registry.variants[0], "feature_extractor") is None
    registry = load(GOOD + FOLDED_EXTRACTOR + SECOND + withdrawn)
    _, first, folded, _ = registry.variants
    assert registry.fine_tunable(folded) == first


def test_two_versions_of_a_model_stand_side_by_side(load: Load) -> None:
    aliased = SECOND + "    aliases: [sayakpaul/old_features]\n"
    first = edited(
        (
            "    head: feature_extractor\n",
            "    head: feature_extractor\n    aliases: [sayakpaul/old_features]\n",
        )
    )
    assert [variant.version for variant in load(first + aliased).variants] == [1, 1, 2]


def test_two_variants_may_share_checkpoint_and_head(load: Load) -> None:
    registry = load(GOOD + SECOND.replace("small_features/2", "small_again/1"))
    assert len(registry.variants) == 3


def test_a_checkpoint_may_have_its_own_tolerance(load: Load) -> None:
    own = "    training: Made up.\n    tolerance: {absolute: 1, relative: 0.5}"
    registry = load(edited(("    training: Made up.", own)))
    tolerance = registry.tolerance_of(registry.variants[0])
    assert (tolerance.absolute, tolerance.relative) == (1.0, 0.5)
    registry = load(GOOD)
    assert registry.tolerance_of(registry.variants[0]) == registry.validation.tolerance


def test_class_names_are_lines_in_order(load: Load) -> None:
    registry = load(GOOD)
    names = registry.class_names(registry.checkpoints["small"])
    assert names == ("cat", "dog", "Indian_elephant, Elephas_maximus")


def test_class_names_that_went_away_are_an_error(load: Load, folder: Path) -> None:
    registry = load(GOOD)
    (folder / "names.txt").unlink()
    with pytest.raises(RegistryError, match=r"no file 'names\.txt' beside models\.yaml"):
        registry.class_names(registry.checkpoints["small"])


def test_dumps_do_not_depend_on_the_folder(load: Load, folder: Path) -> None:
    here = load(GOOD)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for name in ("models.yaml", "names.txt"):
        shutil.copy(folder / name, elsewhere / name)
    there = load_registry(elsewhere / "models.yaml")
    assert here.directory == folder
    assert there.directory == elsewhere
    assert here.model_dump(mode="json") == there.model_dump(mode="json")
    assert str(folder) not in here.model_dump_json()


def test_nothing_in_a_registry_can_be_changed(load: Load) -> None:
    registry = load(GOOD)
    with pytest.raises(ValidationError):
        registry.upstream = "https://example.org/"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        registry.variants[0].handle = "a/b/1"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        registry.checkpoints["small"].classes = 4  # type: ignore[misc]


def test_a_registry_and_its_error_reach_a_worker(load: Load) -> None:
    registry = load(GOOD)
    copy = pickle.loads(pickle.dumps(registry))  # noqa: S301
    assert copy == registry
    assert copy.directory == registry.directory
    assert str(pickle.loads(pickle.dumps(RegistryError("a")))) == "a"  # noqa: S301


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_variant_of_any_architecture_is_an_edit_of_the_yaml_only(load: Load, name: str) -> None:
    checkpoint = f"""\
  new:
    path: BiT-M-{name}.npz
    architecture: {name}
    classes: 21843
    resolution: 224
    input_range: [-1, 1]
    parity_resolutions: [64]
    training: Pre-trained on ImageNet-21k.
    datasets: [imagenet-21k]
    network_architectures: [bit]
"""
    variant = f"""\
  - handle: sayakpaul/bit_m_{name.lower()}_classification/1
    checkpoint: new
    head: classifier
"""
    registry = load(edited(("variants:\n", f"{checkpoint}variants:\n")) + variant)
    assert registry.checkpoint_of(registry.variants[-1]).architecture == name


@pytest.mark.parametrize(
    "address",
    ["gs://bit_models", "http://127.0.0.1:8080/weights", "https://[::1]/a/", "HTTPS://example.org"],
)
def test_every_form_of_upstream_is_taken(load: Load, address: str) -> None:
    text = edited(("https://storage.googleapis.com/bit_models/", address))
    assert load(text).upstream == address

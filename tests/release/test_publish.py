import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from publisher.destinations.base import Destination, DestinationError
from publisher.destinations.local.directory import Directory
from publisher.formats.archive import pack
from publisher.pages import PageError, check_pages
from publisher.registry import Registry, select
from publisher.release.publish import carry_out
from publisher.util.files import sha256
from tests.releases import (
    CLASSIFIER,
    EXTRACTOR,
    HANDLES,
    HEADER,
    OTHER,
    SECOND,
    SECOND_VARIANT,
    SMALL,
    SMALL_VARIANTS,
    TOOLCHAIN,
    Built,
    build,
    edited,
    faults,
    manifest_of,
    prepare,
    publish,
    registry_of,
    times,
    tree,
)
from tests.shelves import Liar, Shelf

DOCS = "tfhub.dev/assets/docs/sayakpaul"
NEXT = "sayakpaul/small_classification/2"
CALLS_THAT_SHOW = ("mkdir", "link", "replace", "rename", "unlink", "rmdir")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path / "project")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "dist"


def put(registry: Registry, built: Built, root: Path) -> dict[str, str]:
    """Publish as the command line does, and return each variant's status."""
    directory = Directory(root)
    with directory.locked():
        outcomes = publish(registry, built, directory)
    return {outcome.handle: outcome.status for outcome in outcomes}


@pytest.fixture
def published(registry: Registry, root: Path, tmp_path: Path) -> Built:
    """The three variants, in the release as well."""
    built = build(registry, tmp_path / "build")
    assert set(put(registry, built, root).values()) == {"new"}
    return built


def index_of(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "index.json").read_bytes())
    return content


def listed(root: Path) -> list[str]:
    return [model["handle"] for model in index_of(root)["models"]]


def sound(root: Path) -> None:
    """Check what holds for every finished release."""
    files = tree(root)
    sums = {}
    for line in files.pop("SHA256SUMS").decode().splitlines():
        digest, name = line.split("  ")
        sums[name] = digest
    assert sums == {name: sha256(content) for name, content in files.items()}
    assert listed(root) == sorted(Directory(root).manifests())
    pages = {
        name.removeprefix("tfhub.dev/"): content.decode()
        for name, content in files.items()
        if name.startswith("tfhub.dev/")
    }
    assert check_pages(pages, HANDLES) == []
    for handle in listed(root):
        assert files[f"models/{handle}/README.md"] == files[f"tfhub.dev/assets/docs/{handle}.md"]


def test_a_release_is_laid_out_as_stated(published: Built, root: Path) -> None:
    assert sorted(tree(root)) == sorted(
        [
            "SHA256SUMS",
            "index.json",
            *(
                f"models/{handle}/{name}"
                for handle in HANDLES
                for name in ("README.md", "manifest.json", "model.tar.gz")
            ),
            *(f"tfhub.dev/assets/docs/{handle}.md" for handle in HANDLES),
            f"{DOCS}/collections/bit-resnet/1.md",
            f"{DOCS}/sayakpaul.md",
        ]
    )
    sound(root)
    for variant, _, folder in published:
        for name in ("README.md", "manifest.json", "model.tar.gz"):
            content = (root / "models" / variant.handle / name).read_bytes()
            assert content == (folder / name).read_bytes()


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is not installed")
def test_sha256sum_checks_the_release(published: Built, root: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert checked.stdout.count(": OK\n") == len(tree(root)) - 1
    assert checked.stderr == ""
    (root / "models" / EXTRACTOR / "model.tar.gz").write_bytes(b"damaged")
    checked = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert f"models/{EXTRACTOR}/model.tar.gz: FAILED" in checked.stdout


def test_the_index_describes_every_version(published: Built, root: Path) -> None:
    index = index_of(root)
    models = index.pop("models")
    assert index == {
        "schema_version": 1,
        "synthetic": True,
        "publisher": "sayakpaul",
        "collection": "sayakpaul/collections/bit-resnet/1",
        "about": {
            "publisher": {
                "name": "sayakpaul",
                "full_name": "Sayak Paul",
                "url": "https://github.com/sayakpaul",
                "description": "Vision networks.",
            },
            "collection": {
                "handle": "sayakpaul/collections/bit-resnet/1",
                "title": "BiT-ResNet",
                "description": "Classifiers and feature extractors.",
            },
            "asset_base": "https://storage.googleapis.com/bit-resnet-models/",
        },
        "checkpoints": {
            "small": {"license": "apache-2.0", "reported": []},
            "second": {"license": "apache-2.0", "reported": []},
        },
    }
    manifests = {variant.handle: manifest for variant, manifest, _ in published}
    assert models == [
        {
            "handle": handle,
            "aliases": ["sayakpaul/old_small"] if handle == CLASSIFIER else [],
            "synthetic": True,
            "checkpoint": "second" if handle == OTHER else "small",
            "architecture": "R20x0.5",
            "head": "feature_extractor" if handle == EXTRACTOR else "classifier",
            "resolution": 32 if handle == OTHER else 64,
            "parameters": manifests[handle].parameters,
            "path": f"models/{handle}",
            "archive": manifests[handle].archive.as_json(),
        }
        for handle in HANDLES
    ]


def test_an_index_is_synthetic_if_one_model_is(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    put(registry, build(registry, tmp_path / "build", only=OTHER, synthetic=False), root)
    assert index_of(root)["synthetic"] is False
    put(registry, build(registry, tmp_path / "build", only=EXTRACTOR, synthetic=True), root)
    assert index_of(root)["synthetic"] is True
    assert [model["synthetic"] for model in index_of(root)["models"]] == [False, True]


def test_publishing_the_same_again_changes_nothing(
    published: Built, registry: Registry, root: Path, tmp_path: Path
) -> None:
    before, when = tree(root), times(root)
    assert set(put(registry, published, root).values()) == {"unchanged"}
    rebuilt = build(registry, tmp_path / "another build")
    assert set(put(registry, rebuilt, root).values()) == {"unchanged"}
    assert put(registry, [], root) == {}
    assert tree(root) == before
    assert times(root) == when


def test_the_same_inputs_give_the_same_release(
    published: Built, registry: Registry, root: Path, tmp_path: Path
) -> None:
    again = registry_of(tmp_path / "elsewhere" / "project")
    built = build(again, tmp_path / "elsewhere" / "build")
    # Neither the order nor the number of calls shows.
    for part in reversed(built):
        put(again, [part], tmp_path / "elsewhere" / "dist")
    put(again, built, tmp_path / "elsewhere" / "dist")
    assert tree(tmp_path / "elsewhere" / "dist") == tree(root)


def test_what_fails_to_build_leaves_an_empty_release(registry: Registry, root: Path) -> None:
    assert put(registry, [], root) == {}
    assert tree(root) == {}


@pytest.mark.parametrize(
    ("facts", "difference"),
    [
        ({"weights": b"other"}, "weights"),
        (
            {"toolchain": TOOLCHAIN | {"tensorflow": "2.22.0"}},
            "toolchain (tensorflow 2.21.0 there, 2.22.0 here)",
        ),
        (
            {"toolchain": {"tensorflow": "2.21.0", "isal": "1.7"}},
            "toolchain (numpy 2.1.0 there, None here; isal None there, 1.7 here)",
        ),
        (
            {"weights": b"other", "toolchain": TOOLCHAIN | {"numpy": "3"}},
            "weights, toolchain (numpy 2.1.0 there, 3 here)",
        ),
        ({"graph": b"other"}, "graph or assets"),
    ],
)
def test_a_version_with_other_bytes_is_refused_with_the_way_out(
    facts: dict[str, Any],
    difference: str,
    published: Built,
    registry: Registry,
    root: Path,
    tmp_path: Path,
) -> None:
    before, when = tree(root), times(root)
    changed = build(registry, tmp_path / "changed", only=CLASSIFIER, **facts)
    directory = Directory(root)
    [outcome] = publish(registry, changed, directory)
    assert outcome.status == "changed"
    assert outcome.message == (
        f"{CLASSIFIER}: {root} holds this version with other bytes (differs in: {difference}),"
        f" and a published version never changes; raise the version in models.yaml to {NEXT}, or"
        " publish elsewhere"
    )
    assert tree(root) == before
    assert times(root) == when


def test_a_version_that_became_folded_is_refused_for_that(
    published: Built, root: Path, tmp_path: Path
) -> None:
    before = tree(root)
    handle = f"handle: {CLASSIFIER}\n"
    text = edited((handle, f"{handle}    weight_standardization: folded\n"))
    registry = registry_of(tmp_path / "folded", text)
    changed = build(registry, tmp_path / "changed", only=CLASSIFIER, graph=b"folded")
    [outcome] = publish(registry, changed, Directory(root))
    assert outcome.status == "changed"
    assert "(differs in: weight standardization)" in outcome.message
    assert tree(root) == before


def test_the_renamed_file_of_the_same_weights_is_no_other_weights(
    published: Built, root: Path, tmp_path: Path
) -> None:
    renamed = registry_of(tmp_path / "renamed", edited(("distill/small.npz", "moved/small.npz")))
    built = build(renamed, tmp_path / "build 2", only=CLASSIFIER, graph=b"other")
    [outcome] = publish(renamed, built, Directory(root))
    assert "differs in: graph or assets" in outcome.message


def test_the_way_out_is_a_version_that_is_free(
    published: Built, root: Path, tmp_path: Path
) -> None:
    raised = registry_of(tmp_path / "raised", edited((CLASSIFIER, f"{CLASSIFIER}1")))
    put(raised, build(raised, tmp_path / "build", only="small_classification"), root)
    registry = registry_of(tmp_path / "project")
    changed = build(registry, tmp_path / "changed", only=CLASSIFIER, graph=b"other")
    [outcome] = publish(registry, [changed[0]], Directory(root))
    assert "to sayakpaul/small_classification/12, or" in outcome.message


def test_a_refused_version_does_not_keep_back_the_others(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    first = build(registry, tmp_path / "build", only=CLASSIFIER)
    put(registry, first, root)
    before = tree(root)
    changed = build(registry, tmp_path / "changed", graph=b"other", error=9e-5)
    statuses = put(registry, changed, root)
    assert statuses == {CLASSIFIER: "changed", EXTRACTOR: "new", OTHER: "new"}
    after = tree(root)
    for name in (f"{DOCS}/small_classification/1.md", *before):
        if "small_classification" in name:
            assert after[name] == before[name]
    assert listed(root) == HANDLES
    archives = {model["handle"]: model["archive"] for model in index_of(root)["models"]}
    assert archives[CLASSIFIER] == first[0][1].archive.as_json()
    sound(root)


def test_a_page_may_change_and_the_archive_stays(
    published: Built, root: Path, tmp_path: Path
) -> None:
    before, when = tree(root), times(root)
    reworded = registry_of(tmp_path / "new", edited(("training: Made up.", "training: Made well.")))
    statuses = put(reworded, build(reworded, tmp_path / "new build"), root)
    assert statuses == {CLASSIFIER: "page", EXTRACTOR: "page", OTHER: "unchanged"}
    after = tree(root)
    assert {name for name in after if after[name] != before[name]} == {
        "SHA256SUMS",
        f"models/{CLASSIFIER}/README.md",
        f"models/{EXTRACTOR}/README.md",
        f"{DOCS}/small_classification/1.md",
        f"{DOCS}/small_features/1.md",
    }
    assert b"Made well." in after[f"models/{CLASSIFIER}/README.md"]
    for handle in HANDLES:
        archive = str(root / "models" / handle / "model.tar.gz")
        assert times(root)[archive] == when[archive]
    sound(root)


def test_figures_may_change_with_the_manifest_and_the_index_follows(
    published: Built, root: Path, tmp_path: Path
) -> None:
    renamed = registry_of(tmp_path / "new", edited(("sayakpaul/old_small", "sayakpaul/older")))
    built = build(renamed, tmp_path / "new build", only=CLASSIFIER, error=3.1e-5)
    assert put(renamed, built, root) == {CLASSIFIER: "page"}
    assert Directory(root).manifests()[CLASSIFIER] == built[0][1]
    [model] = [model for model in index_of(root)["models"] if model["handle"] == CLASSIFIER]
    assert model["aliases"] == ["sayakpaul/older"]
    sound(root)
    assert put(renamed, built, root) == {CLASSIFIER: "unchanged"}


def test_a_page_that_was_lost_is_put_back(published: Built, registry: Registry, root: Path) -> None:
    before = tree(root)
    (root / "models" / CLASSIFIER / "README.md").unlink()
    (root / "models" / EXTRACTOR / "README.md").write_bytes(b"edited by hand")
    (root / "index.json").write_bytes(b"not JSON")
    (root / "SHA256SUMS").write_bytes(b"\xff\n")
    shutil.rmtree(root / "tfhub.dev")
    statuses = put(registry, published, root)
    assert statuses == {CLASSIFIER: "page", EXTRACTOR: "page", OTHER: "unchanged"}
    assert tree(root) == before


def test_a_new_version_stands_beside_the_old_one(
    published: Built, root: Path, tmp_path: Path
) -> None:
    before = tree(root)
    raised = registry_of(tmp_path / "raised", edited((CLASSIFIER, NEXT)))
    built = build(raised, tmp_path / "build 2", only=NEXT, graph=b"better")
    assert put(raised, built, root) == {NEXT: "new"}
    after = tree(root)
    for name, content in before.items():
        if name.startswith("models/"):
            assert after[name] == content
    assert listed(root) == sorted([*HANDLES, NEXT])
    collection = after[f"{DOCS}/collections/bit-resnet/1.md"].decode()
    assert NEXT in collection
    assert CLASSIFIER not in collection
    sound(root)


def test_publishing_some_leaves_the_others_in_the_release(
    published: Built, registry: Registry, root: Path, tmp_path: Path
) -> None:
    before = tree(root)
    chosen = {variant.handle for variant in select(registry, ["*_features*"])}
    some = [part for part in build(registry, tmp_path / "b") if part[0].handle in chosen]
    assert put(registry, some, root) == {EXTRACTOR: "unchanged"}
    assert tree(root) == before


def test_publishing_one_after_the_other_lists_both(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    put(registry, build(registry, tmp_path / "build", only=OTHER), root)
    assert listed(root) == [OTHER]
    sound(root)
    put(registry, build(registry, tmp_path / "build", only=CLASSIFIER), root)
    assert listed(root) == [OTHER, CLASSIFIER]
    sound(root)


def test_what_left_the_registry_stays_in_the_release(
    published: Built, root: Path, tmp_path: Path
) -> None:
    """Its checkpoint's datasets are then known from its manifest alone."""
    before = tree(root)
    rest = registry_of(tmp_path / "rest", f"{HEADER}{SMALL}variants:\n{SMALL_VARIANTS}")
    statuses = put(rest, build(rest, tmp_path / "build"), root)
    assert statuses == {CLASSIFIER: "unchanged", EXTRACTOR: "unchanged"}
    after = tree(root)
    for name in before:
        if "other_classification" in name:
            assert after[name] == before[name]
    assert listed(root) == HANDLES
    assert b"<!-- dataset: imagenet-21k -->" in after[f"{DOCS}/collections/bit-resnet/1.md"]
    sound(root)


def test_a_kept_page_that_names_what_was_never_published_stops_no_one(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    """The classifier's page names its extractor, which got another version before it came."""
    put(registry, build(registry, tmp_path / "build", only=CLASSIFIER), root)
    assert EXTRACTOR.encode() in tree(root)[f"{DOCS}/small_classification/1.md"]
    raised = registry_of(tmp_path / "raised", edited((EXTRACTOR, "sayakpaul/small_features/2")))
    built = build(raised, tmp_path / "build 2", only="small_features/2")
    assert put(raised, built, root) == {"sayakpaul/small_features/2": "new"}
    assert listed(root) == [CLASSIFIER, "sayakpaul/small_features/2"]


def test_the_page_of_a_renamed_collection_stays_and_is_checked_on(
    published: Built, root: Path, tmp_path: Path
) -> None:
    renamed = registry_of(tmp_path / "new", edited(("collections/bit-resnet", "collections/bit")))
    put(renamed, build(renamed, tmp_path / "build"), root)
    assert f"{DOCS}/collections/bit-resnet/1.md" in tree(root)
    assert f"{DOCS}/collections/bit/1.md" in tree(root)
    sound(root)
    when = times(root)
    put(renamed, build(renamed, tmp_path / "build"), root)
    assert times(root) == when


def test_sums_that_name_a_file_elsewhere_are_not_followed(
    published: Built, registry: Registry, root: Path, tmp_path: Path
) -> None:
    with (root / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  tfhub.dev/../../project/models.yaml\n")
    with pytest.raises(DestinationError, match="not a path within a release"):
        put(registry, published, root)


@pytest.mark.parametrize("damage", ["other bytes", "cut off", "missing"])
def test_an_archive_that_changed_since_it_was_built_is_not_published(
    damage: str, registry: Registry, root: Path, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "build")
    archive = tmp_path / "build" / CLASSIFIER / "model.tar.gz"
    if damage == "missing":
        archive.unlink()
    else:
        content = archive.read_bytes()
        archive.write_bytes(
            content[:-1] if damage == "cut off" else content[:-1] + bytes([content[-1] ^ 1])
        )
    outcomes = publish(registry, built, Directory(root))
    assert [one.handle for one in outcomes if one.status == "new"] == [EXTRACTOR, OTHER]
    [refused] = [outcome for outcome in outcomes if outcome.status == "changed"]
    assert refused.message == (
        f"{CLASSIFIER}: {archive} is not the archive that was built and checked;"
        " remove it and run again"
    )
    assert listed(root) == [OTHER, EXTRACTOR]
    assert not (root / "models" / CLASSIFIER).exists()
    sound(root)
    assert put(registry, build(registry, tmp_path / "build"), root)[CLASSIFIER] == "new"
    sound(root)


def test_small_files_are_those_of_the_manifest_and_not_of_the_disk(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    """Else the next run would find another manifest than it put there, for ever."""
    built = build(registry, tmp_path / "build", only=CLASSIFIER)
    (tmp_path / "build" / CLASSIFIER / "manifest.json").write_bytes(b"damaged")
    assert put(registry, built, root) == {CLASSIFIER: "new"}
    assert (root / "models" / CLASSIFIER / "manifest.json").read_bytes() == built[0][1].as_bytes()
    assert put(registry, built, root) == {CLASSIFIER: "unchanged"}


def test_packing_again_never_changes_what_is_published(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    """The release's archive is the build's own file, by a link."""
    saved_model, folder = tmp_path / "saved_model", tmp_path / "build" / OTHER
    saved_model.mkdir()
    folder.mkdir(parents=True)
    [variant] = select(registry, ["*other*"])

    def packed(graph: bytes) -> Built:
        (saved_model / "saved_model.pb").write_bytes(graph)
        pack(saved_model, folder / ".model.tar.gz.tmp")
        archive = (folder / ".model.tar.gz.tmp").replace(folder / "model.tar.gz").read_bytes()
        (folder / "README.md").write_bytes(page)
        return [(variant, manifest_of(registry, variant, archive), folder)]

    page = (build(registry, tmp_path / "other", only=OTHER)[0][2] / "README.md").read_bytes()
    put(registry, packed(b"graph"), root)
    place = root / "models" / OTHER / "model.tar.gz"
    assert place.samefile(folder / "model.tar.gz")
    before = tree(root)
    assert put(registry, packed(b"another graph"), root) == {OTHER: "changed"}
    assert tree(root) == before


def test_a_version_that_lost_its_page_is_damaged_if_it_is_not_built_now(
    published: Built, registry: Registry, root: Path
) -> None:
    (root / "models" / OTHER / "README.md").unlink()
    before = tree(root)
    some = [part for part in published if part[0].handle != OTHER]
    with pytest.raises(DestinationError, match=rf"{OTHER} is damaged: README\.md is missing"):
        put(registry, some, root)
    assert tree(root) == before


@pytest.mark.parametrize("part", ["archive", "manifest"])
def test_nothing_is_written_to_a_damaged_release(
    part: str, published: Built, registry: Registry, root: Path, tmp_path: Path
) -> None:
    name = {"archive": "model.tar.gz", "manifest": "manifest.json"}[part]
    place = root / "models" / OTHER / name
    place.write_bytes(place.read_bytes()[:-5])
    before = tree(root)
    raised = registry_of(tmp_path / "raised", edited((CLASSIFIER, NEXT)))
    folder = re.escape(str(place.parent))
    with pytest.raises(DestinationError, match=f"^{folder}: damaged: .*remove this folder"):
        put(raised, build(raised, tmp_path / "build 2"), root)
    assert tree(root) == before


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("# Module", "# Modul", "1: first line is '# Modul "),
        ("model = hub.load(", "model = hub load(", r"\d+: this Python does not compile"),
        ("model = hub.load(", "model = tfhub.load(", r"\d+: this Python never sets 'tfhub'"),
        (
            'ADDRESS = "',
            'ADDRESS = "https://example.org/" "',
            r"\d+: this Python names https://example\.org/.*, which the release does not serve",
        ),
    ],
)
def test_nothing_is_written_if_a_page_breaks_a_rule(
    good: str,
    bad: str,
    complaint: str,
    published: Built,
    registry: Registry,
    root: Path,
    tmp_path: Path,
) -> None:
    raised = registry_of(tmp_path / "raised", edited((CLASSIFIER, NEXT)))
    built = build(raised, tmp_path / "build 2")
    page = built[0][2] / "README.md"
    assert good in page.read_text()
    page.write_text(page.read_text().replace(good, bad, 1))
    before, when = tree(root), times(root)
    with pytest.raises(PageError, match=rf"small_classification/2\.md:{complaint}"):
        put(raised, built, root)
    assert tree(root) == before
    assert times(root) == when


def whole(root: Path, finished: Mapping[str, bytes]) -> None:
    """Check what a reader may rely on at any moment."""
    held = Directory(root).manifests()
    now = tree(root)
    for handle, manifest in held.items():
        folder = f"models/{handle}"
        assert sha256(now[f"{folder}/model.tar.gz"]) == manifest.archive.sha256
        assert now[f"{folder}/README.md"].startswith(f"# Module {handle}\n".encode())
    if "index.json" in now:
        assert set(listed(root)) <= set(held)
    for name in now:
        assert name in finished or name.split("/")[0].startswith(".publisher-")


def test_a_run_that_is_killed_anywhere_is_finished_by_the_next(
    registry: Registry, tmp_path: Path
) -> None:
    """A page changes, a version is new beside an old one, and a model comes to the release."""
    first = tmp_path / "first"
    put(registry, build(registry, tmp_path / "build", only="classification"), first)
    raised = registry_of(
        tmp_path / "raised", edited((CLASSIFIER, NEXT), ("Made up as well.", "Reworded."))
    )
    built = build(raised, tmp_path / "build 2", graph=b"better")
    built[2] = build(raised, tmp_path / "build 3", only=OTHER)[0]
    shutil.copytree(first, tmp_path / "undisturbed")
    statuses = put(raised, built, tmp_path / "undisturbed")
    assert statuses == {NEXT: "new", EXTRACTOR: "new", OTHER: "page"}
    finished = tree(tmp_path / "undisturbed")
    sound(tmp_path / "undisturbed")

    struck = 0
    for number in range(1000):
        root = tmp_path / f"dist {number}"
        shutil.copytree(first, root)
        with (
            faults(number, KeyboardInterrupt(), killed=True, names=CALLS_THAT_SHOW) as fault,
            suppress(KeyboardInterrupt),
        ):
            put(raised, built, root)
        if not fault.struck:
            break
        struck += 1
        whole(root, finished)
        put(raised, built, root)
        assert tree(root) == finished, f"killed at call {number}"
    assert struck > 30
    assert tree(root) == finished


def test_a_disk_that_is_full_anywhere_is_told_and_the_next_run_finishes(
    registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "build", only="features")
    put(registry, built, tmp_path / "undisturbed")
    finished = tree(tmp_path / "undisturbed")

    told = 0
    for number in range(1000):
        root = tmp_path / f"dist {number}"
        with faults(number) as fault:
            try:
                put(registry, built, root)
            except DestinationError as error:
                told += 1
                assert "No space left on device; check free space and permissions" in str(error)
        if not fault.struck:
            break
        whole(root, finished)
        put(registry, built, root)
        assert tree(root) == finished, f"failed at call {number}"
    assert told > 30
    assert tree(root) == finished


def test_a_release_on_another_file_system_is_the_same(
    published: Built,
    registry: Registry,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    put(registry, published, tmp_path / "mounted")
    assert tree(tmp_path / "mounted") == tree(root)


def test_synthetic_weights_stay_on_this_machine(registry: Registry, tmp_path: Path) -> None:
    shelf = Shelf()
    built = build(registry, tmp_path / "build", only=OTHER, synthetic=False)
    built += build(registry, tmp_path / "build", only=EXTRACTOR, synthetic=True)
    with pytest.raises(DestinationError, match=r"synthetic weights .*--allow-synthetic"):
        publish(registry, built, shelf)
    assert shelf.files == {}
    publish(registry, built[:1], shelf)
    assert f"models/{OTHER}/model.tar.gz" in shelf.files


def test_synthetic_weights_go_elsewhere_when_asked_for(registry: Registry, tmp_path: Path) -> None:
    shelf = Shelf()
    publish(registry, build(registry, tmp_path / "b"), shelf, allow_synthetic=True)
    assert json.loads(shelf.files["index.json"])["synthetic"] is True


def test_a_release_is_the_same_at_every_destination(
    published: Built, registry: Registry, root: Path
) -> None:
    shelf: Destination = Shelf()
    publish(registry, published, shelf, allow_synthetic=True)
    assert isinstance(shelf, Shelf)
    assert shelf.files == tree(root)


def test_comparing_writes_nothing_and_says_what_publishing_would_do(
    published: Built, registry: Registry, root: Path, tmp_path: Path
) -> None:
    when = times(root)
    raised = registry_of(tmp_path / "raised", edited((CLASSIFIER, NEXT)))
    built = build(raised, tmp_path / "build 2", error=5e-5)
    built[2] = build(raised, tmp_path / "build 3", only=OTHER, graph=b"other")[0]
    outcomes = prepare(raised, built, Directory(root)).plan.changes
    assert outcomes[-1].handle == CLASSIFIER
    assert [outcome.status for outcome in outcomes] == ["new", "page", "changed", "left over"]
    assert [one.handle for one in outcomes if one.status == "page"] == [EXTRACTOR]
    assert times(root) == when


def test_a_plan_names_every_file_that_is_written(registry: Registry, tmp_path: Path) -> None:
    shelf = Shelf()
    built = build(registry, tmp_path / "build")
    prepared = prepare(registry, built, shelf, allow_synthetic=True)
    assert shelf.log == []
    carry_out(prepared, shelf)
    assert shelf.log == [
        *(change.handle for change in prepared.plan.changes),
        *(write.path for write in prepared.plan.writes),
    ]
    # Data first, the index last.
    assert shelf.log[-2:] == ["index.json", "SHA256SUMS"]
    written = {write.path: write.sha256 for write in prepared.plan.writes}
    assert written == {path: sha256(shelf.files[path]) for path in written}
    again = prepare(registry, built, shelf, allow_synthetic=True)
    assert again.plan.empty
    before = list(shelf.log)
    carry_out(again, shelf)
    assert shelf.log == before


def test_what_is_done_is_told_in_order(registry: Registry, tmp_path: Path) -> None:
    shelf, told = Shelf(), list[tuple[str, str, str]]()
    built = build(registry, tmp_path / "build", only=OTHER)
    prepared = prepare(registry, built, shelf, allow_synthetic=True)
    carry_out(prepared, shelf, lambda *line: told.append(line))
    digest = built[0][1].archive.sha256
    assert told == [
        ("sends", OTHER, digest),
        ("sent", OTHER, digest),
        *(("wrote", write.path, write.sha256) for write in prepared.plan.writes),
        ("done", shelf.name, ""),
    ]


def test_only_what_the_destination_says_it_holds_is_published(
    registry: Registry, tmp_path: Path
) -> None:
    liar = Liar()
    built = build(registry, tmp_path / "build", only=OTHER)
    with pytest.raises(DestinationError) as caught:
        publish(registry, built, liar, allow_synthetic=True)
    assert f"took {OTHER} without an error and does not hold it as it was sent" in str(caught.value)


def withdrawn(folder: Path, reason: str = "Wrong class names.") -> Registry:
    """The registry with the classifier withdrawn."""
    head = "    checkpoint: small\n    head: classifier\n"
    return registry_of(folder, edited((head, f"{head}    withdrawn: {reason}\n")))


def test_a_withdrawn_version_is_marked_and_stays(
    published: Built, root: Path, tmp_path: Path
) -> None:
    before = tree(root)
    registry = withdrawn(tmp_path / "withdrawn")
    variant = registry.variants[0]
    directory = Directory(root)
    prepared = prepare(registry, [(variant, None, None)], directory)
    [change] = prepared.plan.changes
    assert change.status == "withdraw"
    carry_out(prepared, directory)
    after = tree(root)
    folder = f"models/{CLASSIFIER}"
    assert set(after) == set(before)
    for name in ("model.tar.gz", "manifest.json"):
        assert after[f"{folder}/{name}"] == before[f"{folder}/{name}"]
    notice = b"**Withdrawn: do not use this version.** Wrong class names."
    assert notice in after[f"{folder}/README.md"]
    entries = {model["handle"]: model for model in index_of(root)["models"]}
    assert entries[CLASSIFIER]["withdrawn"] == "Wrong class names."
    assert "withdrawn" not in entries[EXTRACTOR]
    collection = after[f"{DOCS}/collections/bit-resnet/1.md"].decode()
    assert f"[`{CLASSIFIER}`](https://tfhub.dev/{CLASSIFIER}) (synthetic) (withdrawn)" in collection
    sound(root)
    again = prepare(registry, [(variant, None, None)], directory)
    assert [change.status for change in again.plan.changes] == ["withdrawn"]
    assert again.plan.empty


def test_a_withdrawn_version_stays_so_when_others_are_published(
    published: Built, root: Path, tmp_path: Path
) -> None:
    registry = withdrawn(tmp_path / "withdrawn")
    publish(registry, [(registry.variants[0], None, None)], Directory(root))
    publish(registry, build(registry, tmp_path / "b", only=OTHER), Directory(root))
    assert index_of(root)["models"][1]["withdrawn"] == "Wrong class names."
    # Even once it has left the registry.
    gone = registry_of(tmp_path / "gone", f"{HEADER}{SMALL}{SECOND}variants:\n{SECOND_VARIANT}")
    publish(gone, build(gone, tmp_path / "c"), Directory(root))
    assert index_of(root)["models"][1]["withdrawn"] == "Wrong class names."
    sound(root)


def test_a_newer_version_takes_the_place_of_a_withdrawn_one_in_the_collection(
    published: Built, root: Path, tmp_path: Path
) -> None:
    two = f"  - handle: {NEXT}\n    checkpoint: small\n    head: classifier\n"
    text = edited(("  - handle: sayakpaul/small_features/1", f"{two}  - handle: {EXTRACTOR}"))
    registry = registry_of(tmp_path / "two", text)
    publish(registry, build(registry, tmp_path / "b"), Directory(root))
    collection = tree(root)[f"{DOCS}/collections/bit-resnet/1.md"].decode()
    assert NEXT in collection
    assert CLASSIFIER not in collection
    withdrawing = text.replace(two, f"{two}    withdrawn: Worse than the first.\n")
    registry = registry_of(tmp_path / "back", withdrawing)
    publish(registry, [(registry.variants[1], None, None)], Directory(root))
    collection = tree(root)[f"{DOCS}/collections/bit-resnet/1.md"].decode()
    assert CLASSIFIER in collection
    assert NEXT not in collection


def test_a_withdrawn_version_that_was_never_published_is_not(root: Path, tmp_path: Path) -> None:
    registry = withdrawn(tmp_path / "withdrawn")
    offers = [(registry.variants[0], None, None)]
    prepared = prepare(registry, offers, Directory(root))
    assert prepared.plan.empty
    assert prepared.plan.changes[0].message == "withdrawn, and not there"


def test_a_withdrawal_can_be_taken_back(published: Built, root: Path, tmp_path: Path) -> None:
    before = tree(root)
    registry = withdrawn(tmp_path / "withdrawn")
    publish(registry, [(registry.variants[0], None, None)], Directory(root))
    assert tree(root) != before
    restored = registry_of(tmp_path / "project")
    prepared = prepare(restored, published, Directory(root), reinstate=True)
    carry_out(prepared, Directory(root))
    assert tree(root) == before


def test_an_older_registry_does_not_take_a_withdrawal_back(
    published: Built, root: Path, tmp_path: Path
) -> None:
    """As when an old release is run again."""
    older = registry_of(tmp_path / "older")
    registry = withdrawn(tmp_path / "withdrawn")
    publish(registry, [(registry.variants[0], None, None)], Directory(root))
    before = tree(root)
    changes = {change.handle: change for change in publish(older, published, Directory(root))}
    assert changes[CLASSIFIER].refused
    assert "is withdrawn at" in changes[CLASSIFIER].message
    assert "(Wrong class names.), and models.yaml does not say so" in changes[CLASSIFIER].message
    assert changes[CLASSIFIER].message.endswith("add --reinstate")
    assert changes[EXTRACTOR].status == "unchanged"
    assert tree(root) == before


def test_only_what_is_offered_is_taken_back(published: Built, root: Path, tmp_path: Path) -> None:
    older = registry_of(tmp_path / "older")
    registry = withdrawn(tmp_path / "withdrawn")
    publish(registry, [(registry.variants[0], None, None)], Directory(root))
    before = tree(root)
    others = [offer for offer in published if offer[0].handle != CLASSIFIER]
    carry_out(prepare(older, others, Directory(root), reinstate=True), Directory(root))
    assert tree(root) == before


def test_what_left_the_registry_is_left_over_and_left_alone(
    published: Built, root: Path, tmp_path: Path
) -> None:
    gone = registry_of(tmp_path / "gone", f"{HEADER}{SMALL}{SECOND}variants:\n{SECOND_VARIANT}")
    built = build(gone, tmp_path / "b")
    plan = prepare(gone, built, Directory(root)).plan
    assert {change.handle: change.status for change in plan.changes} == {
        OTHER: "unchanged",
        CLASSIFIER: "left over",
        EXTRACTOR: "left over",
    }


class OnePage(Shelf):
    """All versions of a model share the newest's page."""

    shares_page = True


def test_where_versions_share_a_page_it_is_that_of_the_newest(
    registry: Registry, tmp_path: Path
) -> None:
    shelf = OnePage()
    publish(registry, build(registry, tmp_path / "b"), shelf, allow_synthetic=True)
    two = f"  - handle: {NEXT}\n    checkpoint: small\n    head: classifier\n"
    text = edited(("  - handle: sayakpaul/small_features/1", f"{two}  - handle: {EXTRACTOR}"))
    raised = registry_of(tmp_path / "two", text)
    built = build(raised, tmp_path / "b2")
    publish(raised, built, shelf, allow_synthetic=True)
    # The page of the first version may say what it likes: it is not shown.
    shelf.files[f"models/{CLASSIFIER}/README.md"] = b"of the second"
    plan = prepare(raised, built, shelf, allow_synthetic=True).plan
    assert {change.status for change in plan.changes} == {"unchanged"}


class Documents(Shelf):
    """Holds pages alone."""

    holds_versions = False
    holds_index = False


def test_where_only_pages_go_they_are_those_of_the_whole_release(
    published: Built, registry: Registry, root: Path, tmp_path: Path
) -> None:
    shelf = Documents()
    known = Directory(root).manifests()
    chosen = [offer for offer in published if offer[0].handle == OTHER]

    def prepared() -> Any:
        return prepare(registry, chosen, shelf, known=known, allow_synthetic=True)

    first = prepared()
    assert [change.status for change in first.plan.changes] == ["new"]
    carry_out(first, shelf)
    there = tree(root / "tfhub.dev")
    page = f"assets/docs/{OTHER}.md"
    assert shelf.files[page] == there[page]
    collection = shelf.files["assets/docs/sayakpaul/collections/bit-resnet/1.md"]
    # What has no page there is not linked to.
    assert b"small" not in collection
    assert b"other_classification" in collection
    assert prepared().plan.empty
    shelf.files[f"assets/docs/{OTHER}.md"] = b"edited by hand"
    assert [change.status for change in prepared().plan.changes] == ["page"]

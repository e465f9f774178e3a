"""The whole path with nothing left out: small models, and at the end one of true size."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from publisher.families.bit import ARCHITECTURES, reference
from publisher.release.contents import SUMS
from publisher.util.files import sha256_file
from publisher.validation.client import hub_cache, served
from publisher.weights import open_npz
from tests.builds import (
    CLASSIFIER_A,
    CLASSIFIER_B,
    EXTRACTOR_A,
    EXTRACTOR_B,
    HANDLES,
    ROOT,
    B,
    Project,
    checkpoint,
    project,
    publisher,
    share_all,
    variant,
)
from tests.releases import HEADER, times, tree

PATIENCE = 120  # seconds until a test that would hang fails instead


def test_the_release_has_its_layout(published: Project) -> None:
    models = [f"models/{handle}/" for handle in HANDLES]
    documents = [f"{handle}.md" for handle in (*HANDLES, "sayakpaul/sayakpaul")]
    documents.append("sayakpaul/collections/bit-resnet/1.md")
    assert set(tree(published.release)) == {
        "index.json",
        "SHA256SUMS",
        *(folder + file for folder in models for file in ("model.tar.gz", "manifest.json")),
        *(f"{folder}README.md" for folder in models),
        *(f"tfhub.dev/assets/docs/{name}" for name in documents),
    }


def test_the_release_agrees_with_its_sums_and_its_index(published: Project) -> None:
    lines = (published.release / SUMS).read_text().splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    assert set(sums) == set(tree(published.release)) - {SUMS}
    assert {name: sha256_file(published.release / name) for name in sums} == sums
    index = json.loads((published.release / "index.json").read_text())
    assert index["synthetic"] is True
    for model in index["models"]:
        assert sums[f"{model['path']}/model.tar.gz"] == model["archive"]["sha256"]


@pytest.mark.parametrize("handle", HANDLES)
def test_every_variant_passed_every_check(published: Project, handle: str) -> None:
    manifest = json.loads((published.release / "models" / handle / "manifest.json").read_text())
    report = manifest["validation"]
    statuses = {check["name"]: check["status"] for check in report["checks"]}
    assert report["passed"] is True
    skipped = {name for name, status in statuses.items() if status == "skipped"}
    only_classifiers = {"class_names_are_in_the_assets", "logits_follow_from_the_features"}
    assert skipped == {"photographs_get_the_right_label"} | (
        only_classifiers if manifest["head"] == "feature_extractor" else set()
    )
    assert len(statuses) == 20
    assert next(iter(manifest)) == "notice"  # that the weights are synthetic
    page = (published.release / "models" / handle / "README.md").read_text()
    assert "synthetic" in "".join(page.splitlines(keepends=True)[:6]).lower()


def test_each_stage_ran_once_for_its_subject(published: Project) -> None:
    assert published.finished.statuses == dict.fromkeys(HANDLES, "new")
    assert published.finished.stages == {
        **dict.fromkeys(("fetch", "expect"), 2),
        **dict.fromkeys(("convert", "package", "validate", "render", "try"), 4),
    }


def test_a_snippet_on_two_pages_ran_once(published: Project) -> None:
    events = published.finished.document["events"]
    notes = [e["note"] for e in events if (e["event"], e.get("stage")) == ("finished", "try")]
    ran = "2 of 2 snippets ran"
    again = "0 of 2 snippets ran, the others had before"
    assert sorted(notes) == [again, again, ran, ran]


SECOND_RUN = """
import sys
from publisher.cli.main import main
if __name__ == "__main__":
    try:
        main(["publish", "--weights", "synthetic", "--json"])
    except SystemExit as stop:
        status = stop.code
    unneeded = {"tensorflow", "tensorflow_hub", "requests", "numpy"}
    print(sorted(unneeded & set(sys.modules)), file=sys.stderr)
    sys.exit(status)
"""


def test_a_second_run_does_nothing_and_imports_nothing_large(
    published: Project, tmp_path: Path
) -> None:
    copy = published.copy(tmp_path / "copy")
    before = tree(copy.folder), times(copy.release)
    done = subprocess.run(
        [sys.executable, "-c", SECOND_RUN],
        cwd=copy.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"
    document = json.loads(done.stdout)
    assert document["events"] == []
    assert {row["status"] for row in document["variants"]} == {"unchanged"}
    assert (tree(copy.folder), times(copy.release)) == before


@pytest.mark.parametrize("alone", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_another_build_elsewhere_gives_the_same_bytes(
    alone: bool, published: Project, graphs: Path, tmp_path: Path
) -> None:
    # Everything that must not matter is different: the place, the number of jobs, where the
    # weights come from, and that a robot asks.
    project(tmp_path / "other")
    if not alone:
        share_all(published, graphs, tmp_path / "other" / "work")
    arguments = ("publish", "--jobs", "1", "--build-dir", "work", "--release", "out", "--json")
    weights = published.build / "weights" / "synthetic"
    finished = publisher(tmp_path / "other", *arguments, "--weights", weights, CI="true")
    assert finished.status == 0, finished.stderr
    assert tree(tmp_path / "other" / "out") == tree(published.release)
    for handle in HANDLES:
        models = [
            tree(place / "models" / handle)
            for place in (published.build, tmp_path / "other" / "work")
        ]
        for model in models:
            for name in [name for name in model if name.startswith("records/")]:
                del model[name]
        assert models[0] == models[1]


@pytest.mark.parametrize(
    ("head", "low", "shape"),
    [
        ("feature_extractor", -1, [None, 1024]),
        pytest.param("classifier", 0, [None, 3], marks=pytest.mark.exhaustive),
    ],
)
def test_a_new_variant_is_published_beside_one_that_is_blocked(
    head: str, low: int, shape: list[int | None], published: Project, tmp_path: Path
) -> None:
    """Edit nothing but `models.yaml`: a checkpoint with other classes, a bound none can keep."""
    copy = published.copy(tmp_path / "copy")
    new = checkpoint("new", classes=3, class_names=None, input_range=f"[{low}, 1]")
    tight = checkpoint("b", tolerance="{absolute: 1.0e-12, relative: 0}")
    handle = "sayakpaul/small_new/1"
    text = copy.registry.read_text().replace(f"{B}variants:", f"{tight}{new}variants:")
    copy.registry.write_text(text + variant(handle, "new", head))
    before = tree(copy.release / "models")

    chosen = (CLASSIFIER_A, EXTRACTOR_A, EXTRACTOR_B, handle)
    finished = publisher(copy.folder, "publish", "--weights", "synthetic", "--json", *chosen)
    assert finished.status == 1
    assert finished.statuses == {
        **dict.fromkeys((CLASSIFIER_A, EXTRACTOR_A), "unchanged"),
        EXTRACTOR_B: "blocked",
        handle: "new",
    }
    stages = finished.stages
    assert (stages["convert"], stages["package"], stages["validate"]) == (1, 1, 2)

    (error,) = [line for line in finished.stderr.splitlines() if f"error: {EXTRACTOR_B}" in line]
    assert "parity_with_float64_reference: largest error " in error
    assert ", bound 1.0e-12; " in error
    kept = copy.build / "models" / EXTRACTOR_B / "failures"
    assert error.endswith(f"; tensors kept in {kept}")
    with np.load(kept / "parity_with_float64_reference.npz") as tensors:
        assert tensors["32px_measured"].shape == tensors["32px_expected"].shape

    after = tree(copy.release / "models")
    assert {name: after[name] for name in before} == before
    manifest = json.loads(after[f"{handle}/manifest.json"])
    assert manifest["validation"]["passed"] is True
    assert manifest["signature"]["output"]["shape"] == shape
    assert manifest["assets"] == []
    collection = copy.release / "tfhub.dev/assets/docs/sayakpaul/collections/bit-resnet/1.md"
    assert handle.rpartition("/")[0] in collection.read_text()


FAULTY = f"""{{% if variant.handle == "{CLASSIFIER_B}" %}}

```python
print("what must not get into the document")
print(1 / 0)
```
{{% endif %}}
"""


def test_a_page_with_a_snippet_that_fails_is_not_published_and_the_others_are(
    published: Project, tmp_path: Path
) -> None:
    """Edit a template: a word on every page, and on one a snippet that fails."""
    copy = published.copy(tmp_path / "copy")
    template = copy.folder / "templates" / "tfhub" / "module.md.j2"
    good = template.read_text() + "\nEdited.\n"
    before = tree(copy.release / "models")
    template.write_text(good + FAULTY)

    finished = publisher(copy.folder, "publish", "--weights", "synthetic", "--json")
    assert finished.status == 1
    others = [handle for handle in HANDLES if handle != CLASSIFIER_B]
    assert finished.statuses == {**dict.fromkeys(others, "page"), CLASSIFIER_B: "blocked"}
    assert finished.stages == {"render": 4, "try": 1}
    page = copy.build / "models" / CLASSIFIER_B / "README.md"
    line = page.read_text().splitlines().index("print(1 / 0)") + 1
    message = (
        f"{CLASSIFIER_B}: {page}:{line}: this Python fails: ZeroDivisionError: division by zero;"
        " correct the template"
    )
    assert f"error: {message}" in finished.stderr.splitlines()
    after = tree(copy.release / "models")
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {f"{handle}/README.md" for handle in others}

    template.write_text(good)
    finished = publisher(copy.folder, "publish", "--weights", "synthetic", "--json")
    assert finished.status == 0, finished.stderr
    assert finished.statuses == {**dict.fromkeys(others, "unchanged"), CLASSIFIER_B: "page"}
    pages = [path.read_text() for path in copy.release.rglob(f"{CLASSIFIER_B}*/README.md")]
    assert [("Edited." in text, "1 / 0" in text) for text in pages] == [(True, False)]


def test_folded_variants_are_published_beside_the_others(
    published: Project, tmp_path: Path
) -> None:
    """Edit nothing but `models.yaml`: both heads of a checkpoint that is there already."""
    copy = published.copy(tmp_path / "copy")
    folded = {
        "classifier": "sayakpaul/small_a_prediction/1",
        "feature_extractor": "sayakpaul/small_a_prediction_features/1",
    }
    text = copy.registry.read_text()
    for head, handle in folded.items():
        text += variant(handle, "a", head) + "    weight_standardization: folded\n"
    copy.registry.write_text(text)
    before = tree(copy.release / "models")

    finished = publisher(copy.folder, "publish", "--weights", "synthetic", "--json")
    assert finished.status == 0, finished.stderr
    assert finished.statuses == {
        **dict.fromkeys(HANDLES, "unchanged"),
        **dict.fromkeys(folded.values(), "new"),
    }
    stages = finished.stages
    assert (stages["fetch"], stages["expect"], stages["convert"]) == (0, 0, 2)

    after = tree(copy.release / "models")
    assert {name: after[name] for name in before} == before
    for head, handle in folded.items():
        manifest = json.loads(after[f"{handle}/manifest.json"])
        assert manifest["weight_standardization"] == "folded"
        checks = {check["name"]: check for check in manifest["validation"]["checks"]}
        assert manifest["validation"]["passed"] is True
        assert checks["gradients_are_finite"]["status"] == "skipped"
        status = "passed" if head == "classifier" else "skipped"
        assert checks["logits_follow_from_the_features"]["status"] == status
        page = after[f"{handle}/README.md"].decode()
        assert "<!-- fine-tunable: false -->" in page
        assert "trainable=True" not in page
    collection = copy.release / "tfhub.dev/assets/docs/sayakpaul/collections/bit-resnet/1.md"
    (row,) = [row for row in collection.read_text().splitlines() if folded["classifier"] in row]
    assert folded["feature_extractor"] in row
    assert CLASSIFIER_A not in row


def test_an_interruption_ends_every_process(tmp_path: Path) -> None:
    project(tmp_path)
    running = subprocess.Popen(
        [sys.executable, "-m", "publisher", "build", "--weights", "synthetic", "--jobs", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stderr is not None
    shown = []
    for line in running.stderr:
        shown.append(line)
        if "convert" in line and "starts" in line:
            break
    os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does, workers included
    # Every process holds the standard output it was born with: the end of it is theirs.
    out, rest = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, "".join(shown) + rest
    assert out == ""
    assert "Traceback" not in rest
    last = "error: interrupted; what is finished is kept, run the same command again"
    assert rest.splitlines()[-1] == last


@pytest.mark.exhaustive
def test_a_model_of_true_size_goes_the_whole_path(tmp_path: Path) -> None:
    import tensorflow as tf
    import tensorflow_hub as hub

    names = (ROOT / "data" / "ilsvrc2012_wordnet_lemmas.txt").read_text()
    handle = "sayakpaul/distill_bit_resnet50x1_224_classification/1"
    full = checkpoint(
        "R50x1_224",
        architecture="R50x1",
        classes=1000,
        class_names="imagenet.txt",
        resolution=224,
        parity_resolutions="[224, 96]",
    )
    project(tmp_path, f"{HEADER}{full}variants:\n{variant(handle, 'R50x1_224', 'classifier')}")
    (tmp_path / "imagenet.txt").write_text(names)
    finished = publisher(tmp_path, "publish", "--weights", "synthetic", "--json")
    assert finished.status == 0, finished.stderr
    assert finished.statuses == {handle: "new"}

    folder = tmp_path / "dist" / "models" / handle
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parameters"] == 25_549_352
    images = np.random.default_rng(3).uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)
    cache = tmp_path / "cache"
    with hub_cache(cache), served({handle: folder / "model.tar.gz"}) as addresses:
        model = hub.load(addresses[handle])
        logits = model(tf.constant(images)).numpy()
        (assets,) = cache.rglob("imagenet.txt")
        assert assets.read_text() == names

    arrays = open_npz(tmp_path / "build" / "weights" / "synthetic" / "distill" / "R50x1_224.npz")
    assert list(arrays) == list(ARCHITECTURES["R50x1"].arrays(1000))
    truth = reference.logits(arrays, reference.features(arrays, images.astype(np.float64)))
    assert logits.shape == (1, 1000)
    assert np.abs(logits - truth).max() <= 1e-4 + 2e-4 * np.abs(truth).max()

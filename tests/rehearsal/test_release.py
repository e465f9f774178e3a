"""The release workflow of this repository, with small networks that are really built.

One story: a checkpoint's weights are missing, then they come. Each chapter is a run of its own,
and the tests look at what it left.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from publisher.families import ARCHITECTURES
from publisher.release.contents import INDEX_SIGNATURE, SIGNED, SUMS
from publisher.weights import write_synthetic
from tests.builds import CLASSES, HANDLES, REGISTRY, Finished, Project, publisher, share_all
from tests.rehearsal.projects import checkout, git
from tests.releases import tree

REASON = "Wrong class names."
DESTINATIONS = """\
destinations:
  shelf: {kind: directory, to: shelf}
  bucket: {kind: google-cloud-storage, to: 'gs://nowhere/models'}
"""
FIRST, SECOND = "build 1 of 1 / a", "build 1 of 1 / b"
OF_FIRST = [handle for handle in HANDLES if "_a_" in handle]
OF_SECOND = [handle for handle in HANDLES if "_b_" in handle]


@dataclass(frozen=True)
class Chapter:
    """What a run said, and the files at the destinations afterwards."""

    finished: Finished
    shelf: dict[str, bytes]
    bucket: dict[str, bytes]

    @property
    def results(self) -> dict[str, str]:
        """What came of each job, by its name."""
        lines = self.finished.stdout.partition("\n\n")[0].splitlines()[1:]
        found = {}
        for line in lines:
            name, status, *_ = [part for part in line.split("  ") if part.strip()]
            found[name] = status.strip()
        return found


class Story:
    """A checkout whose release is rehearsed several times."""

    def __init__(self, folder: Path, published: Project, graphs: Path) -> None:
        self.folder = checkout(folder / "project", REGISTRY + DESTINATIONS)
        # git tracks these, so the builds of all jobs know what was found of graphs and snippets.
        share_all(published, graphs, self.folder / "build")
        git(self.folder, "add", "--force", "build/graphs", "build/snippets")
        git(self.folder, "commit", "--quiet", "--message", "Share what is known")
        self.weights = folder / "weights"
        self.work = self.folder / "build/rehearsal"
        self.arrays = ARCHITECTURES["R20x0.5"].arrays(CLASSES)
        self.bring_weights("a")

    def bring_weights(self, name: str) -> None:
        target = self.weights / f"distill/{name}.npz"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_synthetic(target, self.arrays)

    def run(self, *arguments: str) -> Chapter:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "publisher", "ci", "rehearse"),
                *("--weights", str(self.weights), "--quiet", *arguments),
            ],
            cwd=self.folder,
            env={**os.environ, "HF_TOKEN": "secret"},
            capture_output=True,
            text=True,
            check=False,
        )
        finished = Finished(done.returncode, done.stdout, done.stderr)
        places = self.work / "destinations"
        return Chapter(finished, tree(places / "shelf"), tree(places / "bucket"))

    def forget(self, job: str) -> None:
        """Let a run that goes on not know that a job succeeded."""
        (self.work / f"done/{job}.json").unlink()


@pytest.fixture(scope="module")
def story(published: Project, graphs: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("release"), published, graphs)


@pytest.fixture(scope="module")
def nothing(story: Story) -> Chapter:
    """The weights of b are missing, and all or nothing is wanted."""
    return story.run("--all-or-nothing")


@pytest.fixture(scope="module")
def partly(story: Story, nothing: Chapter) -> Chapter:
    """They are still missing, and the others shall go on."""
    return story.run("--again")


@pytest.fixture(scope="module")
def whole(story: Story, partly: Chapter) -> Chapter:
    """They are there."""
    story.bring_weights("b")
    return story.run("--again")


@pytest.fixture(scope="module")
def further(story: Story, whole: Chapter) -> Chapter:
    """What publishes is run again, now as if a tag had been pushed."""
    story.forget("release")
    return story.run("--again", "--tag", "v1")


@pytest.fixture(scope="module")
def dry(story: Story, further: Chapter) -> Chapter:
    """Only said."""
    return story.run("--again", "--dry-run")


@pytest.fixture(scope="module")
def withdrawn(story: Story, dry: Chapter) -> Chapter:
    """A later release, of nothing but a withdrawal."""
    registry = story.folder / "models.yaml"
    line = f"handle: {OF_SECOND[0]}\n"
    registry.write_text(registry.read_text().replace(line, f"{line}    withdrawn: {REASON}\n"))
    return story.run("--next", OF_SECOND[0])


def unsigned(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files of a release as they would be without signatures."""
    names = (*SIGNED, INDEX_SIGNATURE)
    kept = {path: content for path, content in files.items() if path.split("/")[-1] not in names}
    lines = kept.get(SUMS, b"").splitlines(keepends=True)
    kept[SUMS] = b"".join(line for line in lines if not line.endswith(suffixes(names)))
    return kept


def suffixes(names: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(f"/{name}\n".encode() for name in names)


def line_of(chapter: Chapter, job: str) -> str:
    (line,) = [line for line in chapter.finished.stdout.splitlines() if line.startswith(f"{job} ")]
    return line


def handles(files: dict[str, bytes]) -> set[str]:
    """Return the versions that a release holds."""
    return {"/".join(path.split("/")[1:4]) for path in files if path.startswith("models/")}


def test_one_failing_checkpoint_keeps_all_back_if_that_is_wanted(
    story: Story, nothing: Chapter
) -> None:
    assert nothing.finished.status == 1
    assert nothing.results == {
        "matrix": "success",
        FIRST: "success",
        SECOND: "failure",
        "plan": "skipped",
        "release": "failure",
        "pages": "skipped",
    }
    assert "nothing was published, because not every variant is good" in nothing.finished.stderr
    for handle in OF_SECOND:
        assert f"{handle}: is not in " in nothing.finished.stderr
    assert (
        f"its full output is in {story.work / 'logs/build-1-of-1-b.log'}" in nothing.finished.stderr
    )
    assert "distill/b.npz" in nothing.finished.stderr
    assert nothing.shelf == nothing.bucket == {}


def test_otherwise_the_others_are_published_and_the_run_names_what_is_missing(
    partly: Chapter,
) -> None:
    assert partly.finished.status == 1
    assert partly.results[SECOND] == partly.results["release"] == "failure"
    assert handles(partly.shelf) == handles(partly.bucket) == set(OF_FIRST)
    for handle in OF_SECOND:
        assert f"{handle}: is not in " in partly.finished.stderr
    assert partly.results["pages / site"] == "success"  # of what is there


def test_what_is_missing_is_built_and_published_by_the_next_run(whole: Chapter) -> None:
    assert whole.finished.status == 0, whole.finished.stderr
    assert whole.results == {
        "matrix": "success",
        FIRST: "success",
        SECOND: "success",
        "plan": "skipped",
        "release": "success",
        "pages / site": "success",
        "pages / deploy": "success",
    }


def test_destinations_get_byte_for_byte_what_one_machine_makes(
    whole: Chapter, published: Project
) -> None:
    expected = unsigned(tree(published.release))
    assert unsigned(whole.shelf) == expected
    assert whole.bucket == whole.shelf


def test_all_of_it_is_signed(story: Story, whole: Chapter, tmp_path: Path) -> None:
    private = serialization.load_pem_private_key((story.work / "key.pem").read_bytes(), None)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = tmp_path / "public.pem"
    public.write_bytes(private.public_key().public_bytes(serialization.Encoding.PEM, form))
    shelf = story.work / "destinations/shelf"
    finished = publisher(story.folder, "verify", "--release", shelf, "--key", public, "--json")
    assert finished.status == 0, finished.stderr
    proved = {one["what"]: one["status"] for one in finished.document["findings"]}
    assert proved["signature"] == proved["SHA256SUMS"] == "proved"


def test_what_is_not_rehearsed_is_told(whole: Chapter) -> None:
    told = whole.finished.stdout.partition("not rehearsed:")[2]
    for action in (
        "google-github-actions/auth",
        "aws-actions/configure-aws-credentials",
        "actions/attest",
        "actions/deploy-pages",
        "environment release",
    ):
        assert action in told


def test_a_further_run_changes_nothing(whole: Chapter, further: Chapter) -> None:
    assert further.finished.status == 0, further.finished.stderr
    assert "as in the last run" not in line_of(further, "release")
    assert "as in the last run" in line_of(further, FIRST)
    assert (further.shelf, further.bucket) == (whole.shelf, whole.bucket)


def test_a_dry_run_says_what_would_be_published_and_publishes_nothing(
    story: Story, further: Chapter, dry: Chapter
) -> None:
    assert dry.finished.status == 0, dry.finished.stderr
    assert dry.results["plan"] == "success"
    assert dry.results["release"] == "skipped"
    summary = (story.work / "logs/plan.summary.md").read_text()
    assert "### shelf\n\nNothing to do.\n" in summary
    assert "### Checks" in summary
    assert all(f"| `{handle}` |" in summary for handle in HANDLES)
    assert (dry.shelf, dry.bucket) == (further.shelf, further.bucket)


def test_a_withdrawal_alone_can_be_released(dry: Chapter, withdrawn: Chapter) -> None:
    assert withdrawn.finished.status == 0, withdrawn.finished.stderr
    assert withdrawn.results["build"] == "skipped"
    assert withdrawn.results["release"] == withdrawn.results["pages / site"] == "success"
    changed = {path for path, content in withdrawn.shelf.items() if dry.shelf[path] != content}
    assert f"models/{OF_SECOND[0]}/README.md" in changed
    assert REASON in withdrawn.shelf[f"models/{OF_SECOND[0]}/README.md"].decode()
    assert not any(path.endswith(("model.tar.gz", "manifest.json")) for path in changed)
    assert withdrawn.bucket == withdrawn.shelf


def test_no_job_leaves_a_folder_behind_that_ended_well(story: Story, withdrawn: Chapter) -> None:
    assert list((story.work / "jobs").glob("*")) == []

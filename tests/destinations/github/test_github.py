"""GitHub Releases, over HTTP against a server that behaves as GitHub's does."""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from publisher.destinations.base import ConflictError, DestinationError
from publisher.destinations.github.api import ADDRESS, Api
from publisher.destinations.github.destination import LARGEST_ASSET, UNFINISHED, GitHub
from publisher.destinations.open import open_destination
from publisher.pages.github import LONGEST, tag_of
from publisher.pages.styles import style_of
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.release.publish import carry_out
from publisher.weights import Retry
from tests.destinations.servers.github import (
    REPOSITORY,
    SIGNATURE,
    TOKEN,
    Answer,
    Fault,
    GitHubServer,
    Handler,
    Kind,
)
from tests.destinations.versions import Files, contents, patient, version_files
from tests.releases import CLASSIFIER, EXTRACTOR, HANDLES, build, edited, prepare, registry_of

TARGET = Target(kind="github", to=REPOSITORY)
TAG = "small_classification-v1"
FOLDER = f"models/{CLASSIFIER}"
ARCHIVE = bytes(range(256)) * 2048  # some pieces of an upload
ATTEMPTS = 3

Open = Callable[..., GitHub]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, whatever the machine's settings are."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def running_server() -> Iterator[ThreadingHTTPServer]:
    """One server for all tests, because stopping one takes half a second."""
    with ThreadingHTTPServer(("localhost", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def github(
    running_server: ThreadingHTTPServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[GitHubServer]:
    """An empty repository; in the end no secret must be found where it does not belong."""
    server = GitHubServer(running_server)
    yield server
    server.released.set()
    assert server.strangers == []
    told = caplog.text + "".join(capfd.readouterr())
    for path in tmp_path.rglob("*"):
        told += path.read_bytes().decode(errors="replace") if path.is_file() else ""
    assert TOKEN not in told
    assert SIGNATURE not in told


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that were asked for, in seconds; none is really made."""
    return []


@pytest.fixture
def opened(github: GitHubServer, pauses: list[float], tmp_path: Path) -> Open:
    """Open the destination as a new run does."""

    def call(target: Target = TARGET, timeout: float = 20.0, **environment: str) -> GitHub:
        known = {"GITHUB_API_URL": github.api, "GITHUB_TOKEN": TOKEN} | environment
        retry = patient(ATTEMPTS, timeout, pauses.append)
        return GitHub("github", target, known, tmp_path / "folder", retry=retry)

    return call


@pytest.fixture
def destination(opened: Open) -> GitHub:
    return opened()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path / "project")


def files_of(
    registry: Registry, folder: Path, archive: bytes = ARCHIVE, index: int = 0, **facts: Any
) -> Files:
    """The files of a version as a build leaves them."""
    style = style_of("github")
    return version_files(style, TARGET, registry, folder, archive, index, **facts)


@pytest.fixture
def files(registry: Registry, tmp_path: Path) -> Files:
    return files_of(registry, tmp_path / "build")


@pytest.fixture
def other_files(registry: Registry, tmp_path: Path) -> Files:
    """Another build of the same version."""
    return files_of(registry, tmp_path / "other", ARCHIVE[::-1])


def shown(files: Files) -> dict[str, bytes]:
    """What everybody should see of these files."""
    found = contents(files)
    return {"": found.pop("README.md"), **found}


def refused(call: Callable[[], object], kind: type[DestinationError] = DestinationError) -> str:
    """Return the message of what a call raises; nothing in it or behind it tells a secret."""
    with pytest.raises(kind) as caught:
        call()
    told = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in told
    assert SIGNATURE not in told
    message = str(caught.value)
    assert "\n" not in message
    assert "github" in message
    return message


def run(destination: GitHub, files: Files) -> None:
    """Publish as `carry_out` does: what is there is left alone."""
    if CLASSIFIER not in destination.manifests():
        destination.add_version(CLASSIFIER, files)


def test_a_version_appears_byte_for_byte(
    github: GitHubServer, destination: GitHub, files: Files
) -> None:
    destination.add_version(CLASSIFIER, files)
    assert github.public == {TAG: shown(files)}
    (release,) = github.releases.values()
    assert release.fields["name"] == CLASSIFIER
    assert github.drafts == []
    assert destination.manifests() == {CLASSIFIER: destination.manifests()[CLASSIFIER]}
    assert destination.manifests()[CLASSIFIER].as_bytes() == files["manifest.json"]
    for name in ("README.md", "manifest.json"):
        assert destination.read(f"{FOLDER}/{name}") == files[name]


def test_the_tag_lists_the_digests(github: GitHubServer, destination: GitHub, files: Files) -> None:
    destination.add_version(CLASSIFIER, files)
    message = github.objects[github.tags[TAG]]
    assert message.startswith(f"{CLASSIFIER}\n\n")
    digest = destination.manifests()[CLASSIFIER].archive.sha256
    assert f"{digest}  model.tar.gz\n" in message


def test_until_it_is_whole_nobody_sees_it(
    github: GitHubServer, destination: GitHub, files: Files
) -> None:
    seen: list[object] = []
    github.faults = [Fault(lambda: seen.append(github.public), times=100)]
    destination.add_version(CLASSIFIER, files)
    assert len(seen) > 10
    assert {} in seen
    assert all(public in ({}, {TAG: shown(files)}) for public in seen)


def test_a_second_run_writes_nothing(github: GitHubServer, opened: Open, files: Files) -> None:
    run(opened(), files)
    before, github.calls = github.public, []
    destination = opened()
    run(destination, files)
    for name in ("README.md", "manifest.json"):
        destination.write(f"{FOLDER}/{name}", contents(files)[name])
    assert github.writes == []
    assert github.public == before


@pytest.mark.parametrize("same", [True, False])
def test_a_version_that_is_there_is_never_touched(
    same: bool, github: GitHubServer, opened: Open, files: Files, other_files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    before, github.calls = github.public, []
    again = files if same else other_files
    message = refused(lambda: opened().add_version(CLASSIFIER, again), ConflictError)
    assert "is published there already, as small_classification-v1; raise the version" in message
    assert github.writes == []
    assert github.public == before


def test_what_is_not_there_is_not_read(destination: GitHub) -> None:
    assert destination.manifests() == {}
    for path in (f"{FOLDER}/README.md", f"{FOLDER}/manifest.json", "index.json", "", "../x"):
        assert destination.read(path) is None


def test_a_model_has_the_name_that_models_yaml_gives_it(
    github: GitHubServer, opened: Open, files: Files
) -> None:
    target = Target(kind="github", to=REPOSITORY, names={CLASSIFIER[:-2]: "small"})
    opened(target).add_version(CLASSIFIER, files)
    assert list(github.public) == ["small-v1"]
    assert list(opened(target).manifests()) == [CLASSIFIER]
    # Under the other name it is not ours.
    assert opened().manifests() == {}


# Pages and small files


def test_a_page_is_replaced_and_nothing_else(
    github: GitHubServer, opened: Open, files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    github.calls = []
    destination = opened()
    destination.read(f"{FOLDER}/README.md")
    destination.write(f"{FOLDER}/README.md", b"**Withdrawn.**\n")
    assert github.public == {TAG: shown(files) | {"": b"**Withdrawn.**\n"}}
    assert [call.split()[0] for call in github.writes] == ["PATCH"]
    assert destination.read(f"{FOLDER}/README.md") == b"**Withdrawn.**\n"


def test_a_manifest_is_replaced(
    github: GitHubServer, opened: Open, files: Files, registry: Registry, tmp_path: Path
) -> None:
    opened().add_version(CLASSIFIER, files)
    better = contents(files_of(registry, tmp_path / "better", error=1e-6))["manifest.json"]
    destination = opened()
    destination.write(f"{FOLDER}/manifest.json", better)
    assert github.public == {TAG: shown(files) | {"manifest.json": better}}
    assert destination.manifests()[CLASSIFIER].as_bytes() == better


def test_a_signature_is_added(github: GitHubServer, opened: Open, files: Files) -> None:
    opened().add_version(CLASSIFIER, files)
    destination = opened()
    assert destination.read(f"{FOLDER}/model.sig") is None
    destination.write(f"{FOLDER}/model.sig", b"{}\n")
    assert github.public == {TAG: shown(files) | {"model.sig": b"{}\n"}}
    assert destination.read(f"{FOLDER}/model.sig") == b"{}\n"


@pytest.mark.parametrize("name", ["README.md", "manifest.json"])
def test_what_somebody_changed_meanwhile_is_left_as_it_is(
    name: str, github: GitHubServer, opened: Open, files: Files, registry: Registry, tmp_path: Path
) -> None:
    opened().add_version(CLASSIFIER, files)
    better = contents(files_of(registry, tmp_path / "better", error=1e-6))
    destination, other = opened(), opened()
    destination.read(f"{FOLDER}/{name}")
    other.write(f"{FOLDER}/{name}", better[name])
    before = github.public
    message = refused(lambda: destination.write(f"{FOLDER}/{name}", b"mine\n"), ConflictError)
    assert "somebody changed it meanwhile" in message
    assert github.public == before


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("index.json", "releases hold versions and nothing else"),
        (f"{FOLDER}/../x", "releases hold versions and nothing else"),
        (f"{FOLDER}/README.md", "there is no such version; publish it first"),
        (f"{FOLDER}/manifest.json", "there is no such version; publish it first"),
    ],
)
def test_nothing_is_written_but_files_of_a_version(
    path: str, complaint: str, github: GitHubServer, destination: GitHub
) -> None:
    assert complaint in refused(lambda: destination.write(path, b"new\n"))
    assert github.writes == []


@pytest.mark.parametrize("page", [b"a\r\nb\n", b"no end", b"two ends\n\n", b"\xff\n", b"\n"])
def test_a_page_that_would_not_come_back_is_refused(
    page: bytes, github: GitHubServer, destination: GitHub, files: Files
) -> None:
    def add() -> None:
        destination.add_version(CLASSIFIER, files | {"README.md": page})

    if page == b"\n":  # an empty one would
        add()
        assert destination.read(f"{FOLDER}/README.md") == page
    else:
        assert "with plain line ends and one of them last" in refused(add)
        assert github.calls == []


def test_a_page_may_be_as_long_as_github_takes(
    github: GitHubServer, opened: Open, files: Files
) -> None:
    page = b"x" * (LONGEST - 1) + b"\n"
    message = refused(lambda: opened().add_version(CLASSIFIER, files | {"README.md": b"x" + page}))
    assert "its page has 125,001 characters; GitHub takes 125,000" in message
    assert github.calls == []
    opened().add_version(CLASSIFIER, files | {"README.md": page})
    assert opened().read(f"{FOLDER}/README.md") == page


def test_line_ends_are_told_as_they_were_written(
    github: GitHubServer, opened: Open, files: Files
) -> None:
    """GitHub gives back CRLF at times."""
    github.line_end = "\r\n"
    opened().add_version(CLASSIFIER, files)
    github.calls = []
    destination = opened()
    assert destination.read(f"{FOLDER}/README.md") == files["README.md"]
    destination.write(f"{FOLDER}/README.md", contents(files)["README.md"])
    assert github.writes == []


def test_an_archive_that_github_does_not_take_is_refused_before_anything_is_sent(
    github: GitHubServer, destination: GitHub, files: Files, tmp_path: Path
) -> None:
    large = tmp_path / "build" / "large"
    large.touch()
    os.truncate(large, LARGEST_ASSET)
    message = refused(lambda: destination.add_version(CLASSIFIER, files | {"model.tar.gz": large}))
    large.unlink()
    assert "model.tar.gz has 2,147,483,648 bytes, and GitHub takes less" in message
    assert github.calls == []


def test_a_file_that_is_gone_is_told(
    github: GitHubServer, destination: GitHub, files: Files, tmp_path: Path
) -> None:
    gone = tmp_path / "github.tar.gz"
    message = refused(lambda: destination.add_version(CLASSIFIER, files | {"model.tar.gz": gone}))
    assert message.startswith(f"{gone}: cannot be read (No such file")
    assert github.calls == []


# Interruptions


def clear(github: GitHubServer) -> None:
    github.calls, github.releases, github.tags, github.objects = [], {}, {}, {}


@pytest.mark.parametrize("abandoned", [False, True])
def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(
    abandoned: bool, github: GitHubServer, opened: Open, files: Files
) -> None:
    """After each request in turn: it was done, its answer did not come, and all ended.

    There may be a draft of another build before, which nobody finishes.
    """
    deaths = 0
    for number in range(100):
        clear(github)
        if abandoned:
            github.add(TAG, body=f"{UNFINISHED}\n\nother files\n", draft=True)
        github.dies_at = number
        try:
            run(opened(), files)
        except DestinationError:
            deaths += 1
            assert github.public in ({}, {TAG: shown(files)})
        github.dies_at = None
        run(opened(), files)
        assert github.public == {TAG: shown(files)}, number
        assert github.drafts == []
        assert list(github.tags) == [TAG]
        if deaths <= number:
            break
    assert deaths > 12


def test_a_change_of_a_manifest_that_was_killed_anywhere_is_finished_by_the_next(
    github: GitHubServer, opened: Open, files: Files, registry: Registry, tmp_path: Path
) -> None:
    better = files_of(registry, tmp_path / "better", error=1e-6)
    opened().add_version(CLASSIFIER, files)
    manifest, path = contents(better)["manifest.json"], f"{FOLDER}/manifest.json"
    deaths = 0
    for number in range(100):
        opened().write(path, contents(files)["manifest.json"])
        github.calls, github.dies_at = [], number
        try:
            opened().write(path, manifest)
        except DestinationError:
            deaths += 1
        github.dies_at = None
        destination = opened()
        # It is a version all the time, and whoever plans sees that there is something to do.
        assert list(destination.manifests()) == [CLASSIFIER]
        if destination.read(path) != manifest:
            destination.write(path, manifest)
        assert github.public == {TAG: shown(files) | {"manifest.json": manifest}}, number
        if deaths <= number:
            break
    assert deaths > 6


def test_a_change_whose_last_answer_is_lost_is_not_made_again(
    github: GitHubServer, opened: Open, files: Files, registry: Registry, tmp_path: Path
) -> None:
    opened().add_version(CLASSIFIER, files)
    better = contents(files_of(registry, tmp_path / "better", error=1e-6))["manifest.json"]
    github.calls, github.faults = [], [Fault("lose", "PATCH")]
    opened().write(f"{FOLDER}/manifest.json", better)
    assert [call.split()[0] for call in github.writes] == ["POST", "DELETE", "PATCH"]
    assert github.public == {TAG: shown(files) | {"manifest.json": better}}


def faulty_runs(github: GitHubServer, attempt: Callable[[], None], **fault: Any) -> int:
    """Attempt once for each request, at which the fault strikes; return how many there were."""
    for number in range(100):
        clear(github)
        github.faults = [Fault(**fault, skip=number)]
        attempt()
        if github.faults[0].times:
            return number
    raise AssertionError("there is no end of requests")


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop"},
        {"kind": "lose"},
        {"kind": "cut"},
        {"kind": 500},
        {"kind": 502, "times": 2},
        {"kind": 429},
        {"kind": 429, "headers": {"Retry-After": "7"}},
        {"kind": 403, "message": "You have exceeded a secondary rate limit."},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_what_passes_is_waited_for_at_every_request(
    fault: dict[str, Any],
    github: GitHubServer,
    opened: Open,
    files: Files,
    pauses: list[float],
) -> None:
    def attempt() -> None:
        pauses.clear()
        run(opened(), files)
        assert github.public == {TAG: shown(files)}
        assert github.drafts == []
        assert list(github.tags) == [TAG]
        struck = fault.get("times", 1) - github.faults[0].times
        assert len(pauses) >= struck
        if struck > 0 and "headers" in fault:
            assert max(pauses) >= 7
        if struck > 0 and fault["kind"] == 403:
            assert max(pauses) >= 60

    # A cut of an empty answer is none.
    assert faulty_runs(github, attempt, **fault) > 12


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (500, "GitHub answered 500 (no, 3 attempts); wait a while and run again"),
        (429, "GitHub answered 429 (no, 3 attempts); wait a while and run again"),
        ("drop", ", 3 attempts; see to the network and run again"),
        ("lose", ", 3 attempts; see to the network and run again"),
        ("cut", ", 3 attempts; see to the network and run again"),
        (507, "GitHub answered 507 (no); free space there, or have quota"),
        (413, "GitHub answered 413 (no); free space there, or have quota"),
    ],
)
def test_what_does_not_pass_is_told(
    kind: Kind, complaint: str, github: GitHubServer, opened: Open, files: Files
) -> None:
    github.faults = [Fault(kind, "POST /uploads", times=100)]
    if kind in ("lose", "cut"):  # then the file is there, and the next attempt sees it
        github.faults = [Fault(kind, "GET", times=100)]
    message = refused(lambda: opened().add_version(CLASSIFIER, files))
    assert complaint in message
    assert CLASSIFIER in message
    assert github.public == {}
    github.faults = []
    run(opened(), files)
    assert github.public == {TAG: shown(files)}
    assert github.drafts == []


@pytest.mark.parametrize("call", ["GET", "POST /uploads", "PATCH"])
def test_a_stall_ends(call: str, github: GitHubServer, opened: Open, files: Files) -> None:
    github.faults = [Fault("stall", call, times=100)]
    message = refused(lambda: opened(timeout=0.05).add_version(CLASSIFIER, files))
    assert "no answer (timed out), 3 attempts; see to the network and run again" in message
    assert github.public == {}


def test_what_arrived_is_not_sent_again(github: GitHubServer, opened: Open, files: Files) -> None:
    github.faults = [Fault(500, "POST /uploads", skip=1, times=100)]
    refused(lambda: opened().add_version(CLASSIFIER, files))
    github.calls, github.faults = [], []
    opened().add_version(CLASSIFIER, files)
    assert len([call for call in github.calls if "/uploads/" in call]) == 1
    assert github.public == {TAG: shown(files)}


@pytest.mark.parametrize("spoiled", [True, False])
def test_what_did_not_arrive_whole_is_deleted_and_sent_again(
    spoiled: bool, github: GitHubServer, opened: Open, files: Files
) -> None:
    github.faults = [Fault("spoil" if spoiled else "drop", "POST /uploads", times=ATTEMPTS)]
    refused(lambda: opened().add_version(CLASSIFIER, files))
    (draft,) = github.drafts
    (asset,) = draft.assets
    assert (asset.name, asset.state) == ("model.tar.gz", "uploaded" if spoiled else "starter")
    github.faults = []
    opened().add_version(CLASSIFIER, files)
    assert github.public == {TAG: shown(files)}
    assert [asset.name for asset in draft.assets] == ["model.tar.gz", "manifest.json"]


def test_a_draft_of_other_files_is_left_alone_until_the_version_is_out(
    github: GitHubServer, opened: Open, files: Files, other_files: Files
) -> None:
    github.faults = [Fault(500, "POST /uploads", skip=1, times=100)]
    refused(lambda: opened().add_version(CLASSIFIER, other_files))
    github.add(TAG, body="A person's draft.", draft=True)
    github.faults = []
    opened().add_version(CLASSIFIER, files)
    assert github.public == {TAG: shown(files)}
    assert [draft.fields["body"] for draft in github.drafts] == ["A person's draft."]


def test_a_list_that_lags_behind_makes_no_second_release(
    github: GitHubServer, opened: Open, files: Files
) -> None:
    github.faults = [Fault("lose", "POST /repos/sayakpaul/models/releases")]
    github.delay = 2
    opened().add_version(CLASSIFIER, files)
    assert github.public == {TAG: shown(files)}
    assert github.drafts == []


# Two publishers


@pytest.mark.parametrize("theirs", ["another build", "another page", "the same"])
def test_of_two_publishers_one_wins_wherever_they_meet(
    theirs: str, github: GitHubServer, opened: Open, files: Files, other_files: Files
) -> None:
    """The second does all its work between two requests of the first."""
    second = {
        "another build": other_files,
        "another page": {**files, "README.md": b"Their page.\n"},
        "the same": files,
    }[theirs]
    won: list[Files] = []

    def other() -> None:
        try:
            opened().add_version(CLASSIFIER, second)
            won.append(second)
        except ConflictError:
            pass

    def attempt() -> None:
        won.clear()
        try:
            opened().add_version(CLASSIFIER, files)
            won.append(files)
        except ConflictError:
            pass
        # Nothing tells those apart who publish the same bytes.
        assert len(won) == 1 or (theirs != "another build" and len(won) == 2)
        assert github.public in [{TAG: shown(winner)} for winner in won]
        assert github.drafts == []
        assert list(github.tags) == [TAG]

    assert faulty_runs(github, attempt, kind=other) > 12


def test_of_two_publishers_who_take_turns_one_wins(
    github: GitHubServer, opened: Open, files: Files, other_files: Files
) -> None:
    """The second begins anywhere in the first's work, and goes on after its end."""
    for number in range(12):
        clear(github)
        outcome: list[str] = []

        def first(outcome: list[str] = outcome) -> None:
            github.faults = []
            try:
                opened().add_version(CLASSIFIER, files)
                outcome.append("first")
            except ConflictError:
                pass

        github.faults = [Fault(first, skip=number)]
        try:
            opened().add_version(CLASSIFIER, other_files)
            outcome.append("second")
        except ConflictError:
            pass
        assert len(outcome) == 1
        winner = files if outcome == ["first"] else other_files
        assert github.public == {TAG: shown(winner)}
        assert github.drafts == []


@pytest.mark.parametrize("message", [None, "v1 of something"])
def test_a_tag_that_somebody_made_is_not_taken(
    message: str | None, github: GitHubServer, opened: Open, files: Files
) -> None:
    sha = "d" * 40
    github.tags[TAG] = sha
    if message:
        github.objects[sha] = message
    text = refused(lambda: opened().add_version(CLASSIFIER, files), ConflictError)
    assert f"the tag {TAG} is there and is not for these files" in text
    assert "delete the tag and run again" in text
    assert github.writes == []


def test_a_draft_that_vanishes_is_told(github: GitHubServer, opened: Open, files: Files) -> None:
    github.faults = [Fault(github.releases.clear, "GET", skip=4)]
    text = refused(lambda: opened().add_version(CLASSIFIER, files), ConflictError)
    assert "the release was removed meanwhile" in text


# A server that lies


@pytest.mark.parametrize(
    ("kind", "call", "digests", "complaint"),
    [
        ("ignore", "POST /uploads", True, "does not hold model.tar.gz as it was sent"),
        ("spoil", "POST /uploads", True, "GitHub holds other ones"),
        ("ignore", "PATCH", True, "GitHub took it and does not show it, 3 attempts"),
    ],
)
def test_success_that_is_none_is_noticed(
    kind: str,
    call: str,
    digests: bool,
    complaint: str,
    github: GitHubServer,
    opened: Open,
    files: Files,
) -> None:
    github.faults = [Fault(kind, call, times=100)]
    github.digests = digests
    assert complaint in refused(lambda: opened().add_version(CLASSIFIER, files))
    assert github.public == {}
    assert opened().manifests() == {}


def test_a_page_that_is_not_kept_is_noticed(
    github: GitHubServer, opened: Open, files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    github.faults = [Fault("ignore", "PATCH")]
    message = refused(lambda: opened().write(f"{FOLDER}/README.md", b"new\n"))
    assert "does not give it back" in message


def test_a_server_without_digests_is_held_to_sizes(
    github: GitHubServer, opened: Open, files: Files, registry: Registry, tmp_path: Path
) -> None:
    """And what is small is read."""
    github.digests = False
    run(opened(), files)
    assert github.public == {TAG: shown(files)}
    assert list(opened().manifests()) == [CLASSIFIER]
    manifest = contents(files)["manifest.json"].replace(b'"numpy": "2.1.0"', b'"numpy": "2.1.1"')
    opened().write(f"{FOLDER}/manifest.json", manifest)
    assert github.public == {TAG: shown(files) | {"manifest.json": manifest}}


def test_other_bytes_than_the_digest_says_are_not_believed(
    github: GitHubServer, opened: Open, files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    github.faults = [Fault(200, "GET /storage", times=100, message="not a manifest")]
    message = refused(opened().manifests)
    assert "other bytes came than GitHub says that it holds, 3 attempts" in message


@pytest.mark.parametrize("answer", ["", "<html>", "[]", "null", '{"id": "1"}', "[" * 100_000])
def test_an_answer_that_is_none_of_github_is_told(
    answer: str, github: GitHubServer, destination: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github, "handle", lambda request: Answer(answer.encode()))
    assert "this is no answer of GitHub" in refused(destination.check)


def test_an_endless_answer_is_cut_off(
    github: GitHubServer, opened: Open, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().add_version(CLASSIFIER, files)
    monkeypatch.setattr("publisher.destinations.github.releases.LARGEST_SMALL", 100)
    assert "it sends more than 100 bytes" in refused(opened().manifests)


# What else is there


def test_other_releases_are_passed_over(github: GitHubServer, opened: Open, files: Files) -> None:
    opened().add_version(CLASSIFIER, files)
    manifest = contents(files)["manifest.json"]
    github.add("v1.0", body="A person's release.", model_tar_gz=b"x")
    github.add("plugin-v2", manifest_json=b'{"name": "a plugin"}')
    github.add("copy-v1", manifest_json=manifest)
    github.add("small_features-v1", draft=True, manifest_json=manifest)
    assert list(opened().manifests()) == [CLASSIFIER]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda assets: assets.clear(), "it has no manifest.json"),
        (lambda assets: assets.pop(0), "the archive is missing"),
        (
            lambda assets: setattr(assets[0], "content", ARCHIVE[::-1]),
            "the archive is not the one that its manifest states",
        ),
        (
            lambda assets: setattr(assets[0], "content", ARCHIVE[:-1]),
            "the archive is not the one that its manifest states",
        ),
        (lambda assets: setattr(assets[0], "state", "starter"), "the archive is missing"),
        (
            lambda assets: setattr(assets[1], "content", b"{}"),
            "manifest.json.schema_version: Field required",
        ),
    ],
)
def test_a_damaged_version_is_named_with_the_way_out(
    damage: Callable[[list[Any]], object],
    complaint: str,
    github: GitHubServer,
    opened: Open,
    files: Files,
) -> None:
    opened().add_version(CLASSIFIER, files)
    (release,) = github.releases.values()
    damage(release.assets)
    message = refused(opened().manifests)
    assert f"the release {TAG} is damaged: {complaint}; upload the file" in message


def test_many_releases_are_listed_page_by_page(
    github: GitHubServer, opened: Open, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().add_version(CLASSIFIER, files)
    for number in range(3):
        github.add(f"v1.{number}")
    github.page = 2
    assert list(opened().manifests()) == [CLASSIFIER]
    monkeypatch.setattr("publisher.destinations.github.releases.MOST_PAGES", 1)
    assert "more releases than GitHub lists" in refused(opened().manifests)


def test_immutable_releases_are_published_and_only_their_page_changes(
    github: GitHubServer, opened: Open, files: Files
) -> None:
    github.immutable = True
    opened().add_version(CLASSIFIER, files)
    opened().write(f"{FOLDER}/README.md", b"**Withdrawn.**\n")
    after = {TAG: shown(files) | {"": b"**Withdrawn.**\n"}}
    assert github.public == after
    message = refused(lambda: opened().write(f"{FOLDER}/manifest.json", b"{}\n"))
    assert "the release is immutable, and but for its page never changes" in message
    assert github.public == after


@pytest.mark.parametrize("immutable", [False, True])
def test_it_says_whether_its_versions_are_sealed(
    immutable: bool, github: GitHubServer, opened: Open, files: Files
) -> None:
    """Then publishing asks for no other manifest, and goes on with the page."""
    github.immutable = immutable
    destination = opened()
    assert not destination.seals_versions
    destination.add_version(CLASSIFIER, files)
    destination.manifests()
    assert destination.seals_versions == immutable


def test_rules_of_the_repository_are_told(github: GitHubServer, opened: Open, files: Files) -> None:
    reason = "Cannot create ref due to creations being restricted."
    github.faults = [Fault(422, "POST /repos/sayakpaul/models/git/refs", message=reason)]
    message = refused(lambda: opened().add_version(CLASSIFIER, files))
    assert f"GitHub answered 422 ({reason}); see to the repository's rules" in message
    assert github.public == {}


# May one write at all


def test_a_check_leaves_nothing_behind(github: GitHubServer, destination: GitHub) -> None:
    destination.check()
    assert (github.releases, github.tags, github.objects) == ({}, {}, {})


def change(**fields: Any) -> Callable[[GitHubServer], None]:
    def apply(github: GitHubServer) -> None:
        for name, value in fields.items():
            setattr(github, name, value)

    return apply


MOVED = Fault(301, "GET", headers={"Location": "/repositories/1"}, message="Moved Permanently")


@pytest.mark.parametrize(
    ("environment", "apply", "complaints"),
    [
        (
            {"GITHUB_TOKEN": ""},
            change(),
            ["no token", "set GITHUB_TOKEN or GH_TOKEN", "gh auth token", "Contents: write"],
        ),
        (
            {"GITHUB_TOKEN": "github_pat_wrong"},
            change(),
            ["answered 401 (Bad credentials)", "make another and set it"],
        ),
        ({}, change(may_write=False), ["the token may not (403 Resource not", "Contents: write"]),
        (
            {},
            change(may_write=False, scopes="gist, read:org"),
            ["its scopes are 'gist, read:org'", "a classic token: the scope repo"],
        ),
        ({}, change(push=False, scopes="repo"), ["the token's owner may not push there"]),
        ({}, change(repository={"archived": True}), ["it is archived; unarchive it"]),
        ({}, change(empty=True), ["has no commit", "push one first"]),
        ({}, change(faults=[Fault(404, "GET", message="Not Found")]), ["404", "see that it is"]),
        ({}, change(faults=[MOVED]), ["another name now: correct `to` in models.yaml"]),
    ],
)
def test_who_may_not_write_is_told_before_any_work(
    environment: dict[str, str],
    apply: Callable[[GitHubServer], None],
    complaints: list[str],
    github: GitHubServer,
    opened: Open,
) -> None:
    apply(github)
    message = refused(opened(**environment).check)
    for complaint in complaints:
        assert complaint in message
    assert (github.releases, github.tags, github.objects) == ({}, {}, {})


def test_an_app_may_write_though_github_says_that_it_may_not(
    github: GitHubServer, destination: GitHub
) -> None:
    """The token of GitHub Actions is one of an app, and all its permissions are false."""
    github.push = False
    destination.check()


def test_either_variable_has_the_token(github: GitHubServer, opened: Open) -> None:
    opened(GITHUB_TOKEN="", GH_TOKEN=TOKEN).check()
    opened(GITHUB_TOKEN=f"{TOKEN}\n").check()


def test_everybody_can_see_what_is_there(github: GitHubServer, opened: Open, files: Files) -> None:
    """A plan needs no token."""
    opened().add_version(CLASSIFIER, files)
    visitor = opened(GITHUB_TOKEN="")
    assert list(visitor.manifests()) == [CLASSIFIER]
    assert visitor.read(f"{FOLDER}/README.md") == files["README.md"]


def test_a_token_is_not_told_even_by_github(github: GitHubServer, destination: GitHub) -> None:
    github.faults = [Fault(403, message=f"no\n{TOKEN}\x1b[2J may not", times=100)]
    message = refused(destination.check)
    assert "no *** [2J may not" in message.replace("***[", "*** [")


@pytest.mark.parametrize(
    "token", [f"{TOKEN}\nX-Other: 1", f"{TOKEN} b", f"{TOKEN}é"], ids=["line", "space", "letter"]
)
def test_what_cannot_be_a_token_is_refused(token: str, github: GitHubServer, opened: Open) -> None:
    message = refused(lambda: opened(GITHUB_TOKEN=token))
    assert "has characters that no token has; set it again" in message


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        ({"Retry-After": "3600"}, "the rate limit is used up until"),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}, "until 2286-11-20"),
    ],
)
@pytest.mark.parametrize("status", [403, 429])
def test_a_rate_limit_that_lasts_is_told(
    status: int,
    headers: dict[str, str],
    complaint: str,
    github: GitHubServer,
    destination: GitHub,
    pauses: list[float],
) -> None:
    github.faults = [Fault(status, headers=headers, times=100)]
    message = refused(destination.manifests)
    assert complaint in message
    assert message.endswith("UTC: run again then")
    assert pauses == []


def test_a_rate_limit_that_ends_soon_is_waited_for(
    github: GitHubServer, destination: GitHub, pauses: list[float]
) -> None:
    soon = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 60)}
    github.faults = [Fault(403, headers=soon)]
    assert destination.manifests() == {}
    assert len(pauses) == 1
    assert 30 < pauses[0] <= 60


# Where the token goes


@pytest.mark.parametrize(
    ("base", "template", "good"),
    [
        (ADDRESS, "https://uploads.github.com/repos/a/b/releases/1/assets{?name,label}", True),
        (ADDRESS, "https://api.github.com/repos/a/b/releases/1/assets{?name,label}", True),
        (ADDRESS, "http://uploads.github.com/repos/a/b/releases/1/assets{?name,label}", False),
        (ADDRESS, "https://uploads.github.com.example.org/assets{?name,label}", False),
        (ADDRESS, "https://github.com@example.org/assets{?name,label}", False),
        (ADDRESS, "https://user@uploads.github.com/assets{?name,label}", False),
        (ADDRESS, "https://uploads.github.com:8443/assets{?name,label}", False),
        (ADDRESS, "https://127.0.0.1/assets{?name,label}", False),
        (ADDRESS, "https://uploads.github.com/assets?token=1{?name,label}", False),
        (ADDRESS, "https://uploads.github.com/as sets", False),
        (ADDRESS, "https://[/assets", False),
        (ADDRESS, "", False),
        ("https://git.example.org/api/v3", "https://git.example.org/api/uploads/assets", True),
        ("https://git.example.org/api/v3", "https://uploads.github.com/assets", False),
        ("https://api.a.ghe.com", "https://uploads.a.ghe.com/assets", True),
        ("http://127.0.0.1:80/api", "http://127.0.0.1:81/uploads/assets", True),
        ("http://127.0.0.1:80/api", "https://uploads.github.com/assets", False),
    ],
)
def test_uploads_go_to_github_only(base: str, template: str, good: bool) -> None:
    api = Api("github", {"GITHUB_API_URL": base, "GITHUB_TOKEN": TOKEN}, Retry())
    if good:
        assert api.upload_address(template) == template.partition("{")[0]
    else:
        message = refused(lambda: api.upload_address(template))
        assert "the place for uploads that is named is not GitHub's own" in message


def test_an_address_that_is_no_api_is_refused(github: GitHubServer, opened: Open) -> None:
    message = refused(lambda: opened(GITHUB_API_URL=f"https://user:{TOKEN}@api.github.com"))
    assert "GITHUB_API_URL is no address of a service; leave it out (https://api.git" in message


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("ftp://127.0.0.1/file", "is not secure"),
        (None, "leads through more than 3 redirects"),
    ],
)
def test_downloads_are_followed_with_care(
    location: str | None, complaint: str, github: GitHubServer, opened: Open, files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    there = location or f"{github.storage}/1?signature={SIGNATURE}"
    elsewhere = Fault(302, "GET /storage", headers={"Location": there}, times=100)
    github.faults = [elsewhere]
    assert complaint in refused(opened().manifests)


# The whole flow


def test_a_registry_is_published_and_then_there_is_nothing_to_do(
    github: GitHubServer, opened: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "build")

    def publish(**options: Any) -> list[str]:
        destination = opened()
        destination.check()
        github.calls.clear()
        prepared = prepare(
            options.get("registry", registry),
            options.get("built", built),
            destination,
            target=TARGET,
            allow_synthetic=True,
        )
        carry_out(prepared, destination)
        return [change.status for change in prepared.plan.changes]

    assert publish() == ["new"] * 3
    assert sorted(github.public) == sorted(tag_of(TARGET, handle) for handle in HANDLES)
    before = github.public
    assert publish() == ["unchanged"] * 3
    assert github.writes == []
    figures = build(registry, tmp_path / "better", error=1e-6)
    assert publish(built=figures) == ["page"] * 3
    assert github.public != before
    assert publish(built=figures) == ["unchanged"] * 3
    assert github.writes == []

    text = edited((f"- handle: {EXTRACTOR}", f"- handle: {EXTRACTOR}\n    withdrawn: Wrong data."))
    withdrawn = registry_of(tmp_path / "withdrawn", text)
    offers = [
        (variant, *(rest if variant.handle != EXTRACTOR else (None, None)))
        for variant, (_, *rest) in zip(withdrawn.variants, figures, strict=True)
    ]
    assert publish(registry=withdrawn, built=offers) == ["unchanged", "withdraw", "unchanged"]
    page = github.public["small_features-v1"][""].decode()
    assert page.startswith(f"**Withdrawn: do not use `{EXTRACTOR}`.** Wrong data.")
    assert len(github.writes) == 1


def test_models_yaml_opens_it(github: GitHubServer, tmp_path: Path) -> None:
    destinations = f"destinations:\n  there:\n    kind: github\n    to: {REPOSITORY}\n"
    registry = registry_of(tmp_path / "named", edited(("variants:", destinations + "variants:")))
    environment = {"GITHUB_API_URL": github.api, "GITHUB_TOKEN": TOKEN}
    destination = open_destination(registry, "there", environment, tmp_path / "folder")
    assert isinstance(destination, GitHub)
    assert destination.name == "there"
    destination.check()
    assert not (tmp_path / "folder").exists()

"""The Hugging Face Hub: huggingface_hub against a server that behaves as the Hub does."""

import logging
import os
import ssl
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http
from pytest_httpserver import HTTPServer

from publisher.destinations.base import ConflictError, DestinationError
from publisher.destinations.huggingface.destination import HuggingFace
from publisher.destinations.open import open_destination
from publisher.pages.huggingface import archive_address
from publisher.pages.styles import style_of
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.release.publish import carry_out
from tests.destinations.servers.huggingface import (
    ORGANIZATION,
    OWNER,
    SIGNATURE,
    TOKEN,
    Fault,
    Held,
    HubServer,
    Kind,
)
from tests.destinations.versions import Files, contents, patient, version_files
from tests.releases import CLASSIFIER, EXTRACTOR, HANDLES, build, edited, prepare, registry_of

TARGET = Target(kind="huggingface", to=OWNER)
MODEL = "small_classification"
FOLDER = f"models/{CLASSIFIER}"
SECOND = CLASSIFIER.replace("/1", "/2")
ARCHIVE = bytes(range(256)) * 2048  # some pieces of an upload
ATTEMPTS = 3
LIBRARY_ATTEMPTS = 6  # huggingface_hub's own, for a file
COMMIT, TAG, PUT = f"{OWNER}/{MODEL}/commit", f"{OWNER}/{MODEL}/tag", "PUT /storage"

Open = Callable[..., HuggingFace]


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token of the developer's, no proxy to loopback."""
    for name in os.environ:
        if name.startswith("HF_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "home" / "tokens"))


@pytest.fixture(scope="module", autouse=True)
def one_context() -> Iterator[None]:
    """Certificates are read once; every client reads them again, and here none is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="module")
def running_server() -> Iterator[HTTPServer]:
    """One server for all tests, because stopping one takes half a second."""
    with HTTPServer(threaded=True) as running:
        yield running


@pytest.fixture
def hub(
    running_server: HTTPServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[HubServer]:
    """An owner without models; in the end no secret must be found where it does not belong."""
    running_server.clear()
    server = HubServer(running_server)
    caplog.set_level(logging.WARNING, logger="werkzeug")  # the server's own
    caplog.set_level(logging.DEBUG)
    yield server
    server.released.set()
    assert server.strangers == []
    told = "".join([*(r.getMessage() for r in caplog.get_records("call")), *capfd.readouterr()])
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "token":
            told += path.read_bytes().decode(errors="replace")
    assert TOKEN not in told
    assert SIGNATURE not in told
    assert not {agent for agent in server.agents if "agent/" in agent or "torch" in agent}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, in seconds; none is really made."""
    made: list[float] = []
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=made.append))
    return made


@pytest.fixture
def opened(hub: HubServer, pauses: list[float], tmp_path: Path) -> Open:
    """Open the destination as a new run does."""

    def call(target: Target = TARGET, timeout: float = 20.0, **environment: str) -> HuggingFace:
        known = {"HF_ENDPOINT": hub.api, "HF_TOKEN": TOKEN} | environment
        retry = patient(ATTEMPTS, timeout, pauses.append)
        return HuggingFace("hf", target, known, tmp_path / "folder", retry=retry)

    return call


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path / "project")


def files_of(
    registry: Registry, folder: Path, archive: bytes = ARCHIVE, index: int = 0, **facts: Any
) -> Files:
    """The files of a version as a build leaves them."""
    style = style_of("huggingface")
    return version_files(style, TARGET, registry, folder, archive, index, **facts)


@pytest.fixture
def files(registry: Registry, tmp_path: Path) -> Files:
    return files_of(registry, tmp_path / "build")


@pytest.fixture
def other_files(registry: Registry, tmp_path: Path) -> Files:
    """Another build of the same version."""
    return files_of(registry, tmp_path / "other", ARCHIVE[::-1])


@pytest.fixture
def better_files(registry: Registry, tmp_path: Path) -> Files:
    """The same archive with another manifest, and so with another page."""
    return files_of(registry, tmp_path / "better", error=1e-6)


@pytest.fixture
def second_files(tmp_path: Path) -> Files:
    """The next version of the same model."""
    registry = registry_of(
        tmp_path / "second", edited((f"handle: {CLASSIFIER}", f"handle: {SECOND}"))
    )
    return files_of(registry, tmp_path / "build", ARCHIVE[::-1])


def shown(files: Files, *, version: str = "v1", card: bool = True) -> dict[str, bytes]:
    """What a repository should hold of these files."""
    found = {f"{version}/{name}": content for name, content in contents(files).items()}
    return found | ({"README.md": contents(files)["README.md"]} if card else {})


def held(hub: HubServer) -> Held:
    (repository,) = hub.models.values()
    return repository


def is_published(hub: HubServer, files: Files, *, tags: tuple[str, ...] = ("v1",)) -> bool:
    """Whether a model holds exactly these files, and its tags lead to them."""
    if not hub.models:
        return False
    there = held(hub)
    tagged = all(there.commits[commit] is not None for commit in there.tags.values())
    return hub.files(MODEL) == shown(files) and tuple(there.tags) == tags and tagged


def clear(hub: HubServer) -> None:
    hub.models, hub.objects, hub.parts, hub.calls, hub.faults = {}, {}, {}, [], []


def refused(call: Callable[[], object], kind: type[DestinationError] = DestinationError) -> str:
    """Return the message of what a call raises; nothing in it or behind it tells a secret."""
    with pytest.raises(kind) as caught:
        call()
    error: BaseException | None = caught.value
    told = "".join(traceback.format_exception(caught.value))
    while error is not None:
        told += f"{error} {error!r} {error.args!r}"
        error = error.__cause__ or error.__context__
    assert TOKEN not in told
    assert SIGNATURE not in told
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("hf: ")
    return message


def run(destination: HuggingFace, files: Files) -> None:
    """Publish as `carry_out` does: what is there is left alone."""
    if CLASSIFIER not in destination.manifests():
        destination.add_version(CLASSIFIER, files)


def test_a_version_appears_byte_for_byte(hub: HubServer, opened: Open, files: Files) -> None:
    opened().add_version(CLASSIFIER, files)
    assert is_published(hub, files)
    assert held(hub).messages == ["initial commit", f"Publish {CLASSIFIER}"]
    assert held(hub).tags == {"v1": held(hub).head}
    destination = opened()
    manifests = destination.manifests()
    assert list(manifests) == [CLASSIFIER]
    assert manifests[CLASSIFIER].as_bytes() == files["manifest.json"]
    for name in ("README.md", "manifest.json"):
        assert destination.read(f"{FOLDER}/{name}") == files[name]


def test_until_it_is_whole_nobody_sees_it(hub: HubServer, opened: Open, files: Files) -> None:
    seen: list[dict[str, bytes]] = []
    hub.faults = [Fault(lambda: seen.append(hub.files(MODEL) if hub.models else {}), times=100)]
    opened().add_version(CLASSIFIER, files)
    assert {} in seen
    assert all(there in ({}, shown(files)) for there in seen)


def test_a_second_run_writes_nothing(hub: HubServer, opened: Open, files: Files) -> None:
    run(opened(), files)
    before, hub.calls = held(hub).head, []
    destination = opened()
    run(destination, files)
    for name in ("README.md", "manifest.json"):
        destination.write(f"{FOLDER}/{name}", contents(files)[name])
    assert hub.writes == []
    assert held(hub).head == before


@pytest.mark.parametrize("same", [True, False])
def test_a_version_that_is_there_is_never_touched(
    same: bool, hub: HubServer, opened: Open, files: Files, other_files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    hub.calls = []
    again = files if same else other_files
    message = refused(lambda: opened().add_version(CLASSIFIER, again), ConflictError)
    assert f"is published there already, as v1 of {OWNER}/{MODEL}; raise the version" in message
    assert hub.writes == []
    assert is_published(hub, files)


def test_what_is_not_there_is_not_read(hub: HubServer, opened: Open, files: Files) -> None:
    destination = opened()
    assert destination.manifests() == {}
    for path in (f"{FOLDER}/README.md", f"{FOLDER}/manifest.json", "index.json", "", "../x"):
        assert destination.read(path) is None
    destination.add_version(CLASSIFIER, files)
    assert destination.read(f"{FOLDER}/model.sig") is None
    assert destination.read(f"models/{SECOND}/README.md") is None


def test_a_model_has_the_name_that_models_yaml_gives_it(
    hub: HubServer, opened: Open, files: Files
) -> None:
    target = Target(kind="huggingface", to=OWNER, names={CLASSIFIER[:-2]: "small"})
    opened(target).add_version(CLASSIFIER, files)
    assert list(hub.models) == [f"{OWNER}/small"]
    assert list(opened(target).manifests()) == [CLASSIFIER]
    # Under the other name it is not ours.
    assert opened().manifests() == {}


@pytest.mark.parametrize("visibility", ["public", "private"])
def test_a_model_that_is_made_is_seen_by_whom_models_yaml_says(
    visibility: str, hub: HubServer, opened: Open, files: Files
) -> None:
    target = TARGET.model_copy(update={"visibility": visibility})
    opened(target).add_version(CLASSIFIER, files)
    assert held(hub).private == (visibility == "private")
    assert list(opened(target).manifests()) == [CLASSIFIER]
    visitor = opened(target, HF_TOKEN="")
    assert list(visitor.manifests()) == ([] if held(hub).private else [CLASSIFIER])


def test_a_model_that_is_there_stays_as_visible_as_it_is(
    hub: HubServer, opened: Open, files: Files
) -> None:
    hub.put(MODEL, {"notes.txt": b"A person's notes.\n"})
    opened().add_version(CLASSIFIER, files)
    assert not held(hub).private
    assert hub.files(MODEL) == {**shown(files), "notes.txt": b"A person's notes.\n"}


def test_a_large_archive_goes_in_parts(hub: HubServer, opened: Open, files: Files) -> None:
    hub.part_size = 100_000
    opened().add_version(CLASSIFIER, files)
    assert len([call for call in hub.calls if call.startswith("PUT")]) == 6
    assert is_published(hub, files)


# Versions and the card


def test_the_card_is_the_page_of_the_newest_version(
    hub: HubServer, opened: Open, files: Files, second_files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    opened().add_version(SECOND, second_files)
    both = shown(files, card=False) | shown(second_files, version="v2")
    assert hub.files(MODEL) == both
    assert list(held(hub).tags) == ["v1", "v2"]
    assert list(opened().manifests()) == [CLASSIFIER, SECOND]


def test_an_older_version_that_comes_late_leaves_the_card(
    hub: HubServer, opened: Open, files: Files, second_files: Files
) -> None:
    opened().add_version(SECOND, second_files)
    opened().add_version(CLASSIFIER, files)
    assert hub.files(MODEL) == shown(files, card=False) | shown(second_files, version="v2")


@pytest.mark.parametrize("newest", [True, False])
def test_a_page_is_replaced_in_one_commit(
    newest: bool,
    hub: HubServer,
    opened: Open,
    files: Files,
    second_files: Files,
    better_files: Files,
) -> None:
    opened().add_version(CLASSIFIER, files)
    if not newest:
        opened().add_version(SECOND, second_files)
    before, hub.calls = hub.files(MODEL), []
    page = contents(better_files)["README.md"]
    destination = opened()
    assert destination.read(f"{FOLDER}/README.md") == files["README.md"]
    destination.write(f"{FOLDER}/README.md", page)
    card = {"README.md": page} if newest else {}
    assert hub.files(MODEL) == {**before, "v1/README.md": page, **card}
    assert len([call for call in hub.writes if "/commit/" in call]) == 1
    assert destination.read(f"{FOLDER}/README.md") == page


def test_a_manifest_is_replaced(
    hub: HubServer, opened: Open, files: Files, better_files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    better = contents(better_files)["manifest.json"]
    destination = opened()
    destination.write(f"{FOLDER}/manifest.json", better)
    assert hub.files(MODEL) == shown(files) | {"v1/manifest.json": better}
    assert destination.manifests()[CLASSIFIER].as_bytes() == better


def test_a_signature_is_published_or_added(hub: HubServer, opened: Open, files: Files) -> None:
    opened().add_version(CLASSIFIER, {**files, "bom.json": b"{}\n"})
    destination = opened()
    assert destination.read(f"{FOLDER}/bom.json") == b"{}\n"
    destination.write(f"{FOLDER}/model.sig", b"{}\n\n")
    assert hub.files(MODEL)["v1/model.sig"] == b"{}\n\n"
    assert destination.read(f"{FOLDER}/model.sig") == b"{}\n\n"


def test_a_card_that_somebody_edited_is_seen_and_put_right(
    hub: HubServer, opened: Open, files: Files
) -> None:
    """The card is what people see, so that is what the newest version's page is read from."""
    opened().add_version(CLASSIFIER, files)
    hub.put(MODEL, {"README.md": b"Edited.\n"})
    destination = opened()
    assert destination.read(f"{FOLDER}/README.md") == b"Edited.\n"
    destination.write(f"{FOLDER}/README.md", contents(files)["README.md"])
    assert hub.files(MODEL) == shown(files)


@pytest.mark.parametrize("name", ["README.md", "manifest.json", "model.sig"])
def test_what_somebody_changed_meanwhile_is_left_as_it_is(
    name: str, hub: HubServer, opened: Open, files: Files, better_files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    theirs = {**contents(better_files), "model.sig": b"theirs\n"}[name]
    destination, other = opened(), opened()
    destination.read(f"{FOLDER}/{name}")
    other.write(f"{FOLDER}/{name}", theirs)
    before = hub.files(MODEL)
    message = refused(lambda: destination.write(f"{FOLDER}/{name}", b"mine\n"), ConflictError)
    assert "somebody changed it meanwhile" in message
    assert hub.files(MODEL) == before


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("index.json", "only the page, the manifest and other small files"),
        (f"{FOLDER}/../x", "only the page, the manifest and other small files"),
        (f"{FOLDER}/model.tar.gz", "only the page, the manifest and other small files"),
        (f"{FOLDER}/README.md", "sayakpaul/small_classification is not there"),
        (f"models/{EXTRACTOR}/manifest.json", "there is no such version; publish it first"),
    ],
)
def test_nothing_is_written_but_small_files_of_a_version(
    path: str, complaint: str, hub: HubServer, opened: Open
) -> None:
    hub.put("small_features", {"notes.txt": b"A person's.\n"})
    assert complaint in refused(lambda: opened().write(path, b"new\n"))
    assert hub.writes == []


def test_a_card_that_the_hub_refuses_stops_before_anything_is_sent(
    hub: HubServer, opened: Open, files: Files
) -> None:
    page = contents(files)["README.md"].replace(b"license: apache-2.0", b"license: free", 1)
    message = refused(lambda: opened().add_version(CLASSIFIER, files | {"README.md": page}))
    assert '("license" must be one of apache-2.0, mit, other)' in message
    assert "correct what models.yaml says of it" in message
    assert (hub.writes, hub.models) == ([], {})
    opened().add_version(CLASSIFIER, files)
    hub.calls = []
    assert "must be one of" in refused(lambda: opened().write(f"{FOLDER}/README.md", page))
    assert hub.writes == []


@pytest.mark.parametrize("case", ["another", "gone"])
def test_an_archive_that_is_not_the_manifests_is_not_sent(
    case: str, hub: HubServer, opened: Open, files: Files, tmp_path: Path
) -> None:
    path = tmp_path / "model.tar.gz"
    if case == "another":
        path.write_bytes(ARCHIVE[::-1])
    message = refused(lambda: opened().add_version(CLASSIFIER, files | {"model.tar.gz": path}))
    assert {"another": "is not the one that its manifest states", "gone": "cannot be read"}[
        case
    ] in message
    assert hub.writes == []


@pytest.mark.parametrize("name", ["-small", "small--1", "a..b", "small.git", "s" * 97])
def test_a_name_that_the_hub_does_not_take_is_told(name: str, opened: Open, files: Files) -> None:
    target = TARGET.model_copy(update={"names": {CLASSIFIER[:-2]: name}})
    message = refused(lambda: opened(target).add_version(CLASSIFIER, files))
    assert "cannot be the name of a repository at Hugging Face" in message


# Interruptions


def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(
    hub: HubServer, opened: Open, files: Files
) -> None:
    """After each request in turn: it was done, its answer did not come, and all ended."""
    deaths = 0
    for number in range(100):
        clear(hub)
        hub.dies_at, hub.part_size = number, 200_000
        try:
            run(opened(), files)
        except DestinationError:
            deaths += 1
            assert not hub.models or hub.files(MODEL) in ({}, shown(files))
        hub.dies_at = None
        arrived = bool(hub.objects)
        hub.calls = []
        run(opened(), files)
        assert is_published(hub, files), number
        assert len(held(hub).messages) == 2
        # What arrived is not sent again.
        assert not arrived or not [call for call in hub.calls if call.startswith("PUT")]
        if deaths <= number:
            break
    assert deaths > 14


def test_a_change_that_was_killed_anywhere_is_finished_by_the_next(
    hub: HubServer, opened: Open, files: Files, better_files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    page, path = contents(better_files)["README.md"], f"{FOLDER}/README.md"
    deaths = 0
    for number in range(100):
        opened().write(path, contents(files)["README.md"])
        hub.calls, hub.dies_at = [], number
        try:
            opened().write(path, page)
        except DestinationError:
            deaths += 1
        hub.dies_at = None
        opened().write(path, page)
        assert hub.files(MODEL) == shown(files) | {"v1/README.md": page, "README.md": page}
        if deaths <= number:
            break
    assert deaths > 5


def test_a_version_without_its_tag_does_not_count_until_it_has_it(
    hub: HubServer, opened: Open, files: Files, better_files: Files
) -> None:
    hub.faults = [Fault(500, TAG, times=100)]
    refused(lambda: opened().add_version(CLASSIFIER, files))
    hub.faults = []
    assert hub.files(MODEL) == shown(files)
    assert opened().manifests() == {}
    assert opened().read(f"{FOLDER}/README.md") is None
    # What was rendered anew meanwhile takes the place of the old.
    opened().add_version(CLASSIFIER, better_files)
    assert is_published(hub, better_files)


def faulty_runs(hub: HubServer, attempt: Callable[[], None], **fault: Any) -> int:
    """Attempt once for each request, at which the fault strikes; return how many there were."""
    for number in range(100):
        clear(hub)
        hub.faults = [Fault(**fault, skip=number)]
        attempt()
        if hub.faults[0].times:
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
        {"kind": 429, "headers": {"RateLimit": '"api";r=0;t=55'}},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_what_passes_is_waited_for_at_every_request(
    fault: dict[str, Any], hub: HubServer, opened: Open, files: Files, pauses: list[float]
) -> None:
    def attempt() -> None:
        pauses.clear()
        run(opened(), files)
        assert is_published(hub, files)
        assert len(held(hub).messages) == 2
        struck = fault.get("times", 1) - hub.faults[0].times
        if struck > 0 and "headers" in fault:
            assert max(pauses) >= (7 if "Retry-After" in fault["headers"] else 55)

    # A cut of an empty answer is none.
    assert faulty_runs(hub, attempt, **fault) > 14


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (500, "Hugging Face answered 500 (no, 3 attempts); wait a while and run again"),
        (429, "Hugging Face answered 429 (no, 3 attempts); wait a while and run again"),
        ("drop", ", 3 attempts; see to the network and run again"),
        (507, "Hugging Face answered 507 (no); free space there, or have quota"),
        (413, "Hugging Face answered 413 (no); free space there, or have quota"),
        (402, "Hugging Face answered 402 (no); free space there, or have quota"),
        (403, "Hugging Face answered 403 (no); let this token write to the models of that"),
        (422, "Hugging Face answered 422 (no); mend that and run again"),
        (307, "Hugging Face answered 307 (it leads elsewhere); it has another name now: correct"),
        (412, "others write to sayakpaul/small_classification all the time; run again later"),
        (409, "others write to sayakpaul/small_classification all the time; run again later"),
    ],
)
def test_what_does_not_pass_is_told(
    kind: Kind, complaint: str, hub: HubServer, opened: Open, files: Files
) -> None:
    hub.faults = [Fault(kind, COMMIT, times=100)]
    message = refused(lambda: opened().add_version(CLASSIFIER, files))
    assert complaint in message
    assert CLASSIFIER in message
    assert hub.files(MODEL) == {}
    hub.faults = []
    run(opened(), files)
    assert is_published(hub, files)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (500, "Hugging Face answered 500; wait a while and run again"),
        (403, "Hugging Face answered 403; let this token write"),
        ("drop", "see to the network and run again"),
        ("half", "see to the network and run again"),
    ],
)
def test_a_file_that_cannot_be_sent_is_told(
    kind: Kind, complaint: str, hub: HubServer, opened: Open, files: Files
) -> None:
    hub.faults = [Fault(kind, PUT, times=100, message=f"see https://x/?s={SIGNATURE}")]
    message = refused(lambda: opened().add_version(CLASSIFIER, files))
    assert message.startswith(f"hf: sending model.tar.gz of {CLASSIFIER}: ")
    assert complaint in message
    assert hub.files(MODEL) == {}
    hub.faults = []
    run(opened(), files)
    assert is_published(hub, files)


def test_a_storage_that_is_full_is_told(hub: HubServer, opened: Open, files: Files) -> None:
    hub.faults = [Fault("refuse", "/objects/batch")]
    message = refused(lambda: opened().add_version(CLASSIFIER, files))
    assert "Private repository storage limit reached" in message
    assert "free space there, or have quota" in message


@pytest.mark.parametrize("call", ["GET /api/models", "/validate-yaml", PUT, COMMIT])
def test_a_stall_ends(call: str, hub: HubServer, opened: Open, files: Files) -> None:
    hub.faults = [Fault("stall", call, times=100)]
    message = refused(lambda: run(opened(timeout=0.05), files))
    assert "timed out" in message
    assert message.endswith("see to the network and run again")


@pytest.mark.parametrize("call", ["/refs", PUT])
@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {"RateLimit": '"api";r=0;t=3600'}])
def test_a_rate_limit_that_lasts_is_told(
    call: str,
    headers: dict[str, str],
    hub: HubServer,
    opened: Open,
    files: Files,
    pauses: list[float],
) -> None:
    hub.faults = [Fault(429, call, headers=headers, times=100)]
    message = refused(lambda: opened().add_version(CLASSIFIER, files))
    assert "Hugging Face answered 429 (for 3,60" in message
    assert message.endswith("wait a while and run again")
    assert pauses == []


def test_a_model_that_cannot_be_made_yet_is_waited_for(
    hub: HubServer, opened: Open, files: Files, pauses: list[float]
) -> None:
    """The library would ask again at once, for ever."""
    busy = "Cannot create repo: another conflicting operation is in progress"
    hub.faults = [Fault(409, "/repos/create", message=busy)]
    opened().add_version(CLASSIFIER, files)
    assert len(pauses) == 1
    clear(hub)
    hub.faults = [Fault(409, "/repos/create", message=busy, times=100)]
    assert busy in refused(lambda: opened().add_version(CLASSIFIER, files))


# Two publishers


@pytest.mark.parametrize("theirs", ["another build", "another page", "the same"])
def test_of_two_publishers_one_wins_wherever_they_meet(
    theirs: str,
    hub: HubServer,
    opened: Open,
    files: Files,
    other_files: Files,
    better_files: Files,
) -> None:
    """The second does all its work between two requests of the first."""
    second = {"another build": other_files, "another page": better_files, "the same": files}[theirs]
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
        assert len(won) == 1 or (theirs != "another build" and len(won) == 2) or not won
        assert any(hub.files(MODEL) == shown(winner) for winner in won or [files])

    assert faulty_runs(hub, attempt, kind=other) > 12


def test_a_commit_of_somebody_else_is_kept(hub: HubServer, opened: Open, files: Files) -> None:
    def edit() -> None:
        hub.put(MODEL, {"notes.txt": b"A person's.\n"})

    hub.faults = [Fault(edit, COMMIT)]
    opened().add_version(CLASSIFIER, files)
    assert hub.files(MODEL) == {**shown(files), "notes.txt": b"A person's.\n"}
    assert len([call for call in hub.calls if call.startswith("PUT")]) == 1


def test_a_change_meets_a_commit_of_somebody_else(
    hub: HubServer, opened: Open, files: Files, better_files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    page = contents(better_files)["README.md"]
    for theirs in ("notes.txt", "README.md"):
        destination = opened()
        destination.read(f"{FOLDER}/README.md")
        new = {theirs: b"A person's.\n"}
        hub.faults = [Fault(lambda new=new: hub.put(MODEL, new), COMMIT)]  # type: ignore[misc]
        if theirs == "notes.txt":
            destination.write(f"{FOLDER}/README.md", page)
            assert hub.files(MODEL)["README.md"] == page
        else:
            change = contents(files)["README.md"]
            refused(lambda: destination.write(f"{FOLDER}/README.md", change), ConflictError)  # noqa: B023
            assert hub.files(MODEL)["README.md"] == b"A person's.\n"
        assert hub.files(MODEL)["notes.txt"] == b"A person's.\n"


@pytest.mark.parametrize("tagged", [True, False])
def test_what_somebody_made_under_that_number_is_not_taken(
    tagged: bool, hub: HubServer, opened: Open, files: Files
) -> None:
    there = hub.put(MODEL, {"a.txt": b"a"} if tagged else {"v1/README.md": b"Mine.\n"})
    there.tags = {"v1": there.head} if tagged else {}
    message = refused(lambda: opened().add_version(CLASSIFIER, files), ConflictError)
    expected = "that tag is there and marks something else" if tagged else "is not for these files"
    assert expected in message
    assert hub.writes == []


def test_a_tag_that_somebody_makes_meanwhile_is_noticed(
    hub: HubServer, opened: Open, files: Files
) -> None:
    def mark() -> None:
        held(hub).tags["v1"] = next(iter(held(hub).commits))

    hub.faults = [Fault(mark, TAG)]
    message = refused(lambda: opened().add_version(CLASSIFIER, files), ConflictError)
    assert "the tag v1 of sayakpaul/small_classification marks something else" in message


def test_a_model_is_not_put_among_versions_of_another(
    hub: HubServer, opened: Open, files: Files, registry: Registry, tmp_path: Path
) -> None:
    names = {CLASSIFIER[:-2]: "both", EXTRACTOR[:-2]: "both"}
    target = TARGET.model_copy(update={"names": names})
    opened(target).add_version(CLASSIFIER, files)
    second = f"{EXTRACTOR[:-2]}/2"
    text = edited((f"handle: {EXTRACTOR}", f"handle: {second}"))
    others = files_of(registry_of(tmp_path / "more", text), tmp_path / "more", index=1)
    hub.calls = []
    message = refused(lambda: opened(target).add_version(second, others))
    assert f"{OWNER}/both holds versions of {CLASSIFIER[:-2]}; give {EXTRACTOR[:-2]}" in message
    assert hub.writes == []


# A server that lies


@pytest.mark.parametrize(
    ("kind", "call", "complaint"),
    [
        (
            "ignore",
            COMMIT,
            "took v1/model.tar.gz without an error and does not hold it as it was sent",
        ),
        (
            "spoil",
            COMMIT,
            "took v1/model.tar.gz without an error and does not hold it as it was sent",
        ),
        ("ignore", TAG, "took the tag v1 without an error and does not hold it as it was sent"),
        ("ignore", PUT, "Error during lfs-verify"),
        ("spoil", PUT, "Error during lfs-verify"),
    ],
)
def test_success_that_is_none_is_noticed(
    kind: str, call: str, complaint: str, hub: HubServer, opened: Open, files: Files
) -> None:
    hub.faults = [Fault(kind, call, times=100)]
    assert complaint in refused(lambda: opened().add_version(CLASSIFIER, files))
    assert opened().manifests() == {}


def test_an_archive_that_the_storage_lost_is_noticed(
    hub: HubServer, opened: Open, files: Files
) -> None:
    hub.faults = [Fault(lambda: hub.objects.clear(), COMMIT)]
    message = refused(lambda: opened().add_version(CLASSIFIER, files))
    assert "an LFS pointer pointed to a file that does not exist" in message
    hub.faults = []
    run(opened(), files)
    assert is_published(hub, files)


def test_a_page_that_is_not_kept_is_noticed(
    hub: HubServer, opened: Open, files: Files, better_files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    hub.faults = [Fault("ignore", COMMIT)]
    page = contents(better_files)["README.md"]
    message = refused(lambda: opened().write(f"{FOLDER}/README.md", page))
    assert "took v1/README.md without an error and does not hold it as it was sent" in message


@pytest.mark.parametrize("name", [".gitattributes", ".gitignore"])
def test_a_repository_that_would_not_keep_the_archive_is_told(
    name: str, hub: HubServer, opened: Open, files: Files
) -> None:
    hub.put(MODEL, {name: b".gz\n"})
    message = refused(lambda: opened().add_version(CLASSIFIER, files))
    assert "would not keep it as a large file; see to .gitattributes" in message
    assert not [call for call in hub.calls if "/commit/" in call]


def test_other_bytes_than_the_hub_says_are_noticed(
    hub: HubServer, opened: Open, files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    hub.faults = [Fault("spoil", "/resolve-cache/", times=100)]
    message = refused(opened().manifests)
    assert "other bytes came than Hugging Face says that it holds" in message


@pytest.mark.parametrize(
    "answer",
    ["", "<html>", "[]", "null", '{"name": 1}', '{"branches": 1}', "[" * 100_000],
)
def test_an_answer_that_is_none_of_the_hub_is_told(
    answer: str, running_server: HTTPServer, hub: HubServer, opened: Open, files: Files
) -> None:
    running_server.clear()
    running_server.expect_request("/api/models").respond_with_data("[]")
    running_server.expect_request("/api/whoami-v2").respond_with_data(answer)
    place = f"/api/models/{OWNER}/{MODEL}/refs"
    running_server.expect_request(place).respond_with_data(answer)
    for call in (opened().check, lambda: opened().add_version(CLASSIFIER, files)):
        assert "an answer came that is not understood" in refused(call)


@pytest.mark.parametrize("place", ["tree", "models"])
def test_a_list_that_leads_elsewhere_is_not_followed(
    place: str, hub: HubServer, opened: Open, files: Files
) -> None:
    opened().add_version(CLASSIFIER, files)
    for number in range(3):
        hub.put(f"another-{number}", {})
    hub.page, hub.next_page = 2, f"{hub.storage}/{place}"
    message = refused(opened().manifests)
    assert "it leads elsewhere, where the token must not go" in message


def test_no_redirect_leads_out_of_http(hub: HubServer, opened: Open, files: Files) -> None:
    opened().add_version(CLASSIFIER, files)
    hub.faults = [Fault(302, "/resolve/", headers={"Location": "ftp://127.0.0.1/file"})]
    message = refused(lambda: opened().read(f"{FOLDER}/README.md"))
    assert "it redirects to ftp://127.0.0.1/file, which is not secure" in message


def test_lists_are_read_page_by_page_up_to_a_bound(
    hub: HubServer, opened: Open, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().add_version(CLASSIFIER, files)
    hub.page = 2
    for number in range(5):
        hub.put(f"another-{number}", {"config.json": b"{}"})
    assert list(opened().manifests()) == [CLASSIFIER]
    monkeypatch.setattr("publisher.destinations.huggingface.destination.MOST_MODELS", 5)
    assert "has more than 5 models" in refused(opened().manifests)
    monkeypatch.undo()
    monkeypatch.setattr("publisher.destinations.huggingface.repository.MOST_ENTRIES", 5)
    assert "holds more than 5 files and folders" in refused(
        lambda: opened().read(f"{FOLDER}/README.md")
    )


def test_an_endless_answer_is_cut_off(
    hub: HubServer, opened: Open, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().add_version(CLASSIFIER, files)
    monkeypatch.setattr("publisher.destinations.huggingface.http.LARGEST_ANSWER", 100)
    assert "it sends more than 100 bytes" in refused(opened().manifests)
    monkeypatch.undo()
    monkeypatch.setattr("publisher.destinations.huggingface.repository.LARGEST_SMALL", 100)
    message = refused(lambda: opened().read(f"{FOLDER}/README.md"))
    assert "where at most 100 are read" in message


def test_lists_without_an_end_end(
    hub: HubServer, opened: Open, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.destinations.huggingface.http.MOST_REQUESTS", 20)
    for number in range(3):
        hub.put(f"another-{number}", {})
    hub.page = 0
    assert "there is no end to it" in refused(opened().manifests)


# What else is there


def test_other_repositories_are_passed_over(
    hub: HubServer, opened: Open, files: Files, registry: Registry
) -> None:
    opened().add_version(CLASSIFIER, files)
    manifest = contents(files)["manifest.json"]
    theirs: list[tuple[str, dict[str, bytes], str]] = [
        ("bert", {"config.json": b"{}"}, OWNER),
        ("plugin", {"v1/manifest.json": b'{"name": "a plugin"}'}, OWNER),
        ("large", {"v1/manifest.json": b" " * ((16 << 20) + 1)}, OWNER),
        ("copy", {f"v1/{name}": content for name, content in contents(files).items()}, OWNER),
        (MODEL, {"v1/manifest.json": manifest}, f"{OWNER}2"),
        (MODEL, {"v3/manifest.json": manifest, "old/v1/manifest.json": manifest}, OWNER),
    ]
    for name, content, owner in theirs:
        there = hub.put(name, content, owner=owner)
        there.tags |= {tag: there.head for tag in ("v1", "v3") if tag not in there.tags}
    assert list(opened().manifests()) == [CLASSIFIER]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda files: files.pop("v1/model.tar.gz"), "the archive is missing"),
        (
            lambda files: files.update({"v1/model.tar.gz": files["v1/README.md"]}),
            "the archive is not the one that its manifest states",
        ),
    ],
)
def test_a_damaged_version_is_named_with_the_way_out(
    damage: Callable[[dict[str, Any]], object],
    complaint: str,
    hub: HubServer,
    opened: Open,
    files: Files,
) -> None:
    opened().add_version(CLASSIFIER, files)
    damage(held(hub).files)
    message = refused(opened().manifests)
    assert f"v1 of {OWNER}/{MODEL} is damaged: {complaint}; put back" in message


def test_a_list_that_lags_behind_hides_nothing_that_was_just_published(
    hub: HubServer, opened: Open, files: Files
) -> None:
    hub.lists = False
    destination = opened()
    destination.add_version(CLASSIFIER, files)
    assert list(destination.manifests()) == [CLASSIFIER]


# May one write at all


def fine_grained(name: str, *permissions: str) -> dict[str, Any]:
    scope = {"entity": {"type": "user", "name": name}, "permissions": list(permissions)}
    return {"role": "fineGrained", "fineGrained": {"global": [], "scoped": [scope]}}


def change(**fields: Any) -> Callable[[HubServer], None]:
    def apply(hub: HubServer) -> None:
        for name, value in fields.items():
            setattr(hub, name, value)

    return apply


IN_GROUP = TARGET.model_copy(update={"to": ORGANIZATION})
READER = {"name": OWNER, "orgs": [{"name": ORGANIZATION, "roleInOrg": "read"}]}


@pytest.mark.parametrize(
    ("target", "access"),
    [
        (TARGET, {"role": "write"}),
        (IN_GROUP, {"role": "write"}),
        (TARGET, fine_grained(OWNER, "repo.content.read", "repo.write")),
        (TARGET, fine_grained(f"{OWNER}/{MODEL}", "repo.write")),
        (IN_GROUP, fine_grained(ORGANIZATION, "repo.write")),
        (TARGET, {}),  # of another kind of token
    ],
)
def test_a_check_leaves_nothing_behind(
    target: Target, access: dict[str, Any], hub: HubServer, opened: Open
) -> None:
    hub.access = access
    opened(target).check()
    assert (hub.models, hub.calls) == ({}, ["GET /api/whoami-v2"])


@pytest.mark.parametrize(
    ("target", "environment", "apply", "complaints"),
    [
        (TARGET, {"HF_TOKEN": ""}, change(), ["no token", "set HF_TOKEN", "`hf auth login`"]),
        (
            TARGET,
            {"HF_TOKEN": "hf_wrong"},
            change(),
            ["answered 401", "the token is not accepted: set HF_TOKEN"],
        ),
        (TARGET, {}, change(access={"role": "read"}), ["the token may only read; set HF_TOKEN"]),
        (
            TARGET,
            {},
            change(access=fine_grained(OWNER, "repo.content.read")),
            ["may not write to the models of sayakpaul; give it", "(repo.write)"],
        ),
        (
            IN_GROUP,
            {},
            change(access=fine_grained(OWNER, "repo.write")),
            ["may not write to the models of a-group"],
        ),
        (IN_GROUP, {}, change(user=READER), ["sayakpaul may only read in a-group"]),
        (
            TARGET.model_copy(update={"to": "google"}),
            {},
            change(),
            ["that of 'sayakpaul', who is neither google nor in an organization", "correct `to`"],
        ),
        (TARGET, {"HF_HUB_OFFLINE": "1"}, change(), ["HF_HUB_OFFLINE is set; unset it"]),
    ],
)
def test_who_may_not_write_is_told_before_any_work(
    target: Target,
    environment: dict[str, str],
    apply: Callable[[HubServer], None],
    complaints: list[str],
    hub: HubServer,
    opened: Open,
) -> None:
    apply(hub)
    message = refused(opened(target, **environment).check)
    for complaint in complaints:
        assert complaint in message
    assert hub.models == {}


def test_who_may_not_write_after_all_is_told(hub: HubServer, opened: Open, files: Files) -> None:
    hub.may_write = False
    message = refused(lambda: opened().add_version(CLASSIFIER, files))
    assert "answered 403 (You don't have the rights for this action); let this token" in message


def test_the_token_of_the_librarys_own_store_is_found(
    hub: HubServer, opened: Open, files: Files
) -> None:
    path = Path(constants.HF_TOKEN_PATH)
    path.parent.mkdir()
    path.write_text(f"{TOKEN}\n")
    destination = opened(HF_TOKEN="")
    destination.check()
    destination.add_version(CLASSIFIER, files)
    assert is_published(hub, files)


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_either_variable_has_the_token(name: str, hub: HubServer, opened: Open) -> None:
    opened(**{"HF_TOKEN": "", name: f"{TOKEN}\n"}).check()


def test_a_token_is_not_told_even_by_the_hub(hub: HubServer, opened: Open) -> None:
    hub.faults = [Fault(403, message=f"no\n{TOKEN}\x1b[2J at https://x/?s={SIGNATURE}")]
    assert "(no *** [2J at (address))" in refused(opened().check).replace("***[", "*** [")


@pytest.mark.parametrize("token", [f"{TOKEN}\nX-Other: 1", f"{TOKEN} b", f"{TOKEN}é"])
def test_what_cannot_be_a_token_is_refused(token: str, hub: HubServer, opened: Open) -> None:
    assert "has characters that no token has; set HF_TOKEN" in refused(
        lambda: opened(HF_TOKEN=token)
    )


def test_an_address_that_is_no_hub_is_refused(hub: HubServer, opened: Open) -> None:
    address = f"https://user:{TOKEN}@huggingface.co"
    message = refused(lambda: opened(HF_ENDPOINT=address))
    assert (
        "HF_ENDPOINT is no address of a service; leave it out (https://huggingface.co)" in message
    )


# The library


def test_the_library_is_left_as_it_was(
    hub: HubServer, opened: Open, files: Files, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its settings are those of the whole process."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "httpx2", "httpcore2")]

    def state() -> list[Any]:
        return [
            dict(os.environ),
            constants.HF_HUB_DISABLE_XET,
            constants.HF_HUB_DISABLE_TELEMETRY,
            _http._GLOBAL_CLIENT_FACTORY,
            _http._GLOBAL_CLIENT,
            [logger.level for logger in loggers],
            warnings.filters[:],
            huggingface_hub.utils.are_progress_bars_disabled(),
        ]

    before = state()
    opened().add_version(CLASSIFIER, files)
    hub.faults = [Fault(403, times=100)]
    refused(opened().manifests)
    assert state() == before
    assert capfd.readouterr() == ("", "")


# The whole flow


def test_a_registry_is_published_and_then_there_is_nothing_to_do(
    hub: HubServer, opened: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "build")

    def publish(**options: Any) -> list[str]:
        destination = opened()
        destination.check()
        hub.calls.clear()
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
    assert sorted(hub.models) == sorted(handle.rpartition("/")[0] for handle in HANDLES)
    assert publish() == ["unchanged"] * 3
    assert hub.writes == []
    figures = build(registry, tmp_path / "better", error=1e-6)
    assert publish(built=figures) == ["page"] * 3
    assert publish(built=figures) == ["unchanged"] * 3
    assert hub.writes == []

    text = edited((f"- handle: {EXTRACTOR}", f"- handle: {EXTRACTOR}\n    withdrawn: Wrong data."))
    withdrawn = registry_of(tmp_path / "withdrawn", text)
    offers = [
        (variant, *(rest if variant.handle != EXTRACTOR else (None, None)))
        for variant, (_, *rest) in zip(withdrawn.variants, figures, strict=True)
    ]
    assert publish(registry=withdrawn, built=offers) == ["unchanged", "withdraw", "unchanged"]
    card = hub.files("small_features")["README.md"].decode()
    assert "**Withdrawn: do not use this version.** Wrong data." in card
    assert "\n- withdrawn\n" in card
    assert len([call for call in hub.writes if "/commit/" in call]) == 1


def test_the_address_on_the_card_leads_to_the_archive(
    hub: HubServer, opened: Open, files: Files
) -> None:
    """As tensorflow_hub asks for it."""
    target = TARGET.model_copy(update={"visibility": "public"})
    opened(target).add_version(CLASSIFIER, files)
    address = archive_address(target, CLASSIFIER)
    assert address in hub.files(MODEL)["README.md"].decode()
    here = address.replace("https://huggingface.co", hub.api) + "?tf-hub-format=compressed"
    with urlopen(here) as answer:
        assert answer.read() == ARCHIVE


def test_models_yaml_opens_it(hub: HubServer, tmp_path: Path) -> None:
    destinations = f"destinations:\n  there:\n    kind: huggingface\n    to: {OWNER}\n"
    registry = registry_of(tmp_path / "named", edited(("variants:", destinations + "variants:")))
    environment = {"HF_ENDPOINT": hub.api, "HF_TOKEN": TOKEN}
    destination = open_destination(registry, "there", environment, tmp_path / "folder")
    assert isinstance(destination, HuggingFace)
    assert destination.name == "there"
    destination.check()
    assert not (tmp_path / "folder").exists()

"""What holds for every kind of destination; see `Destination`."""

import re
import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from publisher.destinations.base import ConflictError, DestinationError
from publisher.destinations.open import open_destination
from publisher.registry import Registry
from publisher.release.publish import carry_out
from tests.destinations.contract import NAME, HuggingFacePlace, Place, Versions, page_path
from tests.destinations.servers.faulty import ALWAYS, Answer, Request
from tests.destinations.versions import FOLDER, MANIFEST, PAGE, SECOND, Files, contents
from tests.releases import (
    CLASSIFIER,
    EXTRACTOR,
    HANDLES,
    REGISTRY,
    build,
    edited,
    prepare,
    registry_of,
    times,
)

SERVED = ["gcs", "s3", "kaggle", "huggingface", "github"]
HOLDING = ["directory", *SERVED]
ALL = [*HOLDING, "tfhub"]
CHANGING = [kind for kind in HOLDING if kind != "kaggle"]
TOO_LARGE = (64 << 20) + 1  # bytes; no answer of a service that is read is larger


def of_kinds(kinds: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", kinds, indirect=True)


def manifest_in(files: Files) -> bytes:
    return contents(files)["manifest.json"]


def is_published(place: Place, versions: Versions, but: Sequence[str] = ()) -> bool:
    """Whether exactly these versions are there, byte for byte, and nothing is left `but` that."""
    there = place.open()
    manifests = {handle: m.as_bytes() for handle, m in there.manifests().items()}
    same = manifests == {handle: manifest_in(files) for handle, files in versions.items()}
    newest = list(versions)[-1]
    page = there.read(page_path(newest)) == contents(versions[newest])["README.md"]
    left = [name for name in place.leftovers() if name not in but]
    return same and page and place.shown() == place.expected(versions) and not left


# Nothing there yet


@of_kinds(ALL)
def test_what_it_is(place: Place) -> None:
    there = place.open()
    assert {name: getattr(there, name) for name in place.traits} == place.traits
    assert there.name == NAME


@of_kinds(ALL)
def test_it_is_empty_at_first_and_looking_leaves_nothing_behind(place: Place) -> None:
    before = place.shown(), times(place.folder)
    there = place.open()
    there.check()
    assert there.manifests() == {}
    for path in (place.page, f"{FOLDER}/manifest.json", "index.json"):
        assert there.read(path) is None
    assert (place.shown(), times(place.folder)) == before
    assert place.leftovers() == []


@of_kinds(ALL)
def test_models_yaml_opens_it(place: Place) -> None:
    there = f"destinations:\n  {NAME}:\n    kind: {place.target.kind}\n    to: {place.target.to}\n"
    registry = registry_of(place.folder / "named", f"{REGISTRY}{there}")
    opened = open_destination(registry, NAME, place.environment, place.folder / "folders")
    assert type(opened) is type(place.open())
    assert opened.name == NAME
    opened.check()
    assert not (place.folder / "folders").exists()


@of_kinds(["s3"])
def test_a_client_library_that_is_missing_is_named_with_its_extra(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ["boto3", "publisher.util.gone"]

    def gone(name: str) -> None:
        raise ModuleNotFoundError(name=missing[0])

    monkeypatch.setattr("publisher.destinations.open.import_module", gone)
    there = f"destinations:\n  {NAME}:\n    kind: s3\n    to: {place.target.to}\n"
    registry = registry_of(place.folder / "named", f"{REGISTRY}{there}")
    message = place.refused(lambda: open_destination(registry, NAME, {}, place.folder))
    assert (
        message == f"{NAME}: boto3 is missing; install the extra: pip install 'bit-publisher[s3]'"
    )
    del missing[0]  # a fault of ours
    with pytest.raises(ModuleNotFoundError):
        open_destination(registry, NAME, {}, place.folder)


# A new version


@of_kinds(HOLDING)
def test_a_version_appears_byte_for_byte(place: Place) -> None:
    files = place.files() | {"model.sig": b"signed\n", "bom.json": b"{}\n"}
    there = place.open()
    assert there.manifests() == {}
    there.add_version(CLASSIFIER, files)
    assert is_published(place, {CLASSIFIER: files})
    for name, content in contents(files).items():
        if name != "model.tar.gz":
            assert there.read(f"{FOLDER}/{name}") == content
    assert there.read(f"{FOLDER}/provenance.json") is None
    assert there.read(page_path(SECOND).replace("README.md", "manifest.json")) is None


@of_kinds(HOLDING)
def test_a_second_run_writes_nothing(place: Place, files: Files) -> None:
    place.run(files)
    before = place.shown()
    if place.served:
        place.server.clear()
    place.run(files)
    place.open().write(MANIFEST, manifest_in(files))
    assert place.writes() == []
    assert place.shown() == before


@of_kinds(HOLDING)
@pytest.mark.parametrize("same", [True, False], ids=["the same", "another"])
def test_a_published_version_never_changes(
    same: bool, place: Place, files: Files, other: Files
) -> None:
    place.open().add_version(CLASSIFIER, files)
    if place.served:
        place.server.clear()
    again = files if same else other
    message = place.refused(lambda: place.open().add_version(CLASSIFIER, again), ConflictError)
    assert re.search("a published version never changes|raise the version", message)
    assert place.writes() == []
    assert is_published(place, {CLASSIFIER: files})


@of_kinds(HOLDING)
def test_versions_stand_beside_each_other(place: Place, files: Files) -> None:
    later = place.files(SECOND, seed=2)
    place.run(files)
    place.run(later, SECOND)
    assert is_published(place, {CLASSIFIER: files, SECOND: later})


@pytest.mark.parametrize(
    ("place", "case"),
    [(kind, case) for kind in SERVED for case in ("another", "gone")],
    indirect=["place"],
)
def test_an_archive_that_is_not_the_manifests_is_not_sent(
    case: str, place: Place, files: Files, other: Files
) -> None:
    if case == "another" and place.target.kind in ("github", "kaggle"):
        pytest.skip("it is noticed once it is there")
    path = other["model.tar.gz"] if case == "another" else place.folder / "gone.tar.gz"
    message = place.refused(
        lambda: place.open().add_version(CLASSIFIER, {**files, "model.tar.gz": path})
    )
    assert str(path) in message or "is not the one that its manifest states" in message
    assert place.shown() == {}


@of_kinds(["kaggle", "huggingface", "github"])
def test_a_model_has_the_name_that_models_yaml_gives_it(place: Place) -> None:
    names = {CLASSIFIER.rpartition("/")[0]: "small"}
    place.target = place.target.model_copy(update={"names": names})
    place.model = "small"
    files = place.files()
    place.open().add_version(CLASSIFIER, files)
    assert is_published(place, {CLASSIFIER: files})
    # Under the other name it is not ours.
    place.target = place.target.model_copy(update={"names": {}})
    assert place.open().manifests() == {}


# Pages and small files


@of_kinds(ALL)
def test_a_page_is_replaced_and_nothing_else(place: Place) -> None:
    if place.traits["holds_versions"]:
        place.run(place.files())
    before = place.files()["README.md"]
    page = bytes(place.files(error=1e-6)["README.md"])
    if not place.traits["holds_versions"]:
        place.open().write(place.page, bytes(before))
    if place.served:
        place.server.clear()
    there = place.open()
    assert there.read(place.page) == before
    there.write(place.page, page)
    assert there.read(place.page) == page
    if place.traits["holds_versions"]:
        assert is_published(place, {CLASSIFIER: place.files() | {"README.md": page}})
    writes = len(place.writes())
    assert writes <= 2
    there.write(place.page, page)
    assert len(place.writes()) == writes


@of_kinds(CHANGING)
@pytest.mark.parametrize("name", ["manifest.json", "model.sig"])
def test_a_small_file_is_replaced_or_added(name: str, place: Place, files: Files) -> None:
    place.run(files)
    path = f"{FOLDER}/{name}"
    better = {**contents(place.files(error=1e-6)), "model.sig": b"signed\n\n"}[name]
    there = place.open()
    there.read(path)
    there.write(path, better)
    assert there.read(path) == better
    assert is_published(place, {CLASSIFIER: {**files, name: better}})


@of_kinds(["directory", "gcs", "s3"])
def test_a_release_has_its_index_and_documents(place: Place, files: Files) -> None:
    place.run(files)
    there = place.open()
    paths = ("index.json", "SHA256SUMS", "tfhub.dev/assets/docs/sayakpaul/sayakpaul.md")
    for path in paths:
        there.write(path, b"one\n")
        there.write(path, b"two\n")
        assert there.read(path) == b"two\n"
    more = dict.fromkeys(paths, b"two\n")
    assert place.shown() == {**place.expected({CLASSIFIER: files}), **more}
    assert list(there.manifests()) == [CLASSIFIER]


@of_kinds(["kaggle", "huggingface", "github", "tfhub"])
@pytest.mark.parametrize("path", ["index.json", "SHA256SUMS", f"{FOLDER}/../x", "", "/x"])
def test_nothing_but_versions_and_their_pages_is_held(path: str, place: Place) -> None:
    before = place.shown()
    assert place.open().read(path) is None
    message = place.refused(lambda: place.open().write(path, b"new\n"))
    assert message.startswith(f"{NAME}: ")
    assert place.writes() == []
    assert place.shown() == before


@of_kinds(["directory", "gcs", "s3"])
@pytest.mark.parametrize(
    "path",
    [
        "",
        "..",
        "a/../../x",
        "/etc/hostname",
        "a//b",
        "a/./b",
        "x/",
        ".git/a",
        "a\\b",
        "a\0b",
        "a\nb",
    ],
)
def test_no_path_leads_out_of_a_release(path: str, place: Place) -> None:
    there = place.open()
    for call in (
        lambda: there.read(path),
        lambda: there.write(path, b"escaped"),
        lambda: there.add_version(path, {"model.tar.gz": b"", "manifest.json": b""}),
    ):
        assert "not a path within a release" in place.refused(call)
    assert place.shown() == {}


@of_kinds(["kaggle", "huggingface", "github"])
def test_a_page_without_its_version_is_refused(place: Place, files: Files) -> None:
    message = place.refused(lambda: place.open().write(PAGE, contents(files)["README.md"]))
    assert re.search("publish (it|a version) first", message)
    assert place.writes() == []


@of_kinds(ALL)
def test_what_somebody_changed_meanwhile_is_left_as_it_is(place: Place) -> None:
    """And what somebody wrote as it should be is no conflict."""
    pages = [bytes(place.files(error=error)["README.md"]) for error in (1e-5, 1e-6, 1e-7)]
    if place.traits["holds_versions"]:
        place.run(place.files(error=1e-5))
    else:
        place.open().write(place.page, pages[0])
    mine = place.open()
    assert mine.read(place.page) == pages[0]
    place.open().write(place.page, pages[1])
    message = place.refused(lambda: mine.write(place.page, pages[2]), ConflictError)
    assert "run again" in message
    assert place.open().read(place.page) == pages[1]
    mine.write(place.page, pages[1])
    assert mine.read(place.page) == pages[1]
    mine.write(place.page, pages[2])
    assert mine.read(place.page) == pages[2]


# Interruptions


def kinds_of(steps: list[str]) -> list[int]:
    """Return the first, the middle, the last but one, and the first of each kind of step."""
    plain = [re.sub(r"[0-9a-f-]{12,}|\d+", "#", step) for step in steps]
    chosen = {0, len(steps) // 2, max(len(steps) - 2, 0)}
    return sorted(chosen | {plain.index(step) for step in plain})


@of_kinds(HOLDING)
@pytest.mark.parametrize("first", [True, False], ids=["first version", "second version"])
def test_an_upload_that_was_killed_anywhere_shows_nothing_and_is_finished(
    first: bool, place: Place
) -> None:
    """All that was there after each step is looked at; from some of them on a run goes on."""
    before: dict[str, Files] = {} if first else {CLASSIFIER: place.files()}
    handle = CLASSIFIER if first else SECOND
    files = place.files(handle, seed=2)
    if before:
        place.run(before[CLASSIFIER])
    after = {**before, handle: files}
    if isinstance(place, HuggingFacePlace):
        place.server.part_size = 250_000
    states = place.states(lambda: place.open().add_version(handle, files))
    assert len(states) >= 3
    assert is_published(place, after)
    old, new = place.expected(before), place.expected(after)
    seen = []
    for step, back in states:
        back()
        listed = {h: m.as_bytes() for h, m in place.open().manifests().items()}
        assert listed in [{h: manifest_in(f) for h, f in v.items()} for v in (before, after)], step
        assert place.shown() in (old, new), step
        assert place.shown() == new or handle not in listed, step
        seen.append(listed)
    assert len(seen[0]) == len(before)
    for number in kinds_of([step for step, _ in states]):
        step, back = states[number]
        back()
        if place.served:
            place.server.clear()
        place.run(files, handle)
        assert is_published(place, after), step


@of_kinds(CHANGING)
@pytest.mark.parametrize("name", ["README.md", "manifest.json"])
def test_a_change_that_was_killed_anywhere_is_finished_by_the_next(
    name: str, place: Place, files: Files
) -> None:
    """It is a version all the time, and whoever plans sees that there is something to do."""
    better = contents(place.files(error=1e-6))[name]
    path = f"{FOLDER}/{name}"
    place.run(files)

    def change() -> None:
        there = place.open()
        if there.read(path) != better:
            there.write(path, better)

    for step, back in place.states(change):
        back()
        assert list(place.open().manifests()) == [CLASSIFIER], step
        change()
        assert is_published(place, {CLASSIFIER: {**files, name: better}}), step


def sent(place: Place) -> int:
    """Return the bytes of all requests."""
    return sum(len(request.body) for request in place.server.requests)


@of_kinds(SERVED)
def test_what_arrived_is_not_sent_again(place: Place, files: Files) -> None:
    """The version is complete but for its last step."""
    states = place.states(lambda: place.open().add_version(CLASSIFIER, files))
    total = sent(place)
    _, back = states[len(states) - 2]
    back()
    place.server.clear()
    place.run(files)
    assert sent(place) < total / 10
    assert is_published(place, {CLASSIFIER: files})


# Two publishers


@of_kinds(SERVED)
@pytest.mark.parametrize("theirs", ["another build", "another page", "the same"])
def test_of_two_publishers_one_wins_wherever_they_meet(
    theirs: str, place: Place, files: Files, other: Files
) -> None:
    """The second does all its work right before a step of the first."""
    better = contents(place.files(error=1e-6))["README.md"]
    page = {**files, "README.md": better}
    second = {"another build": other, "another page": page, "the same": files}[theirs]
    empty = place.state()
    place.open().add_version(CLASSIFIER, files)
    lines = [request.call for request in place.server.requests]
    chosen = kinds_of(lines) if theirs != "the same" else [0, len(lines) - 1]
    for number in chosen:
        place.restore(empty)
        place.server.clear()
        for kept in ("kept", "theirs"):
            shutil.rmtree(place.folder / kept, ignore_errors=True)
        won: list[Files] = []

        def publish(files: Files, kept: str, won: list[Files] = won) -> None:
            try:
                # The server of S3 says of every upload that it began in 2010.
                stale = timedelta(days=100_000)
                place.open(kept=kept, stale=stale).add_version(CLASSIFIER, files)
                won.append(files)
            except ConflictError as error:
                assert str(error).startswith(NAME)

        def they(_: Request, publish: Callable[..., None] = publish) -> None:
            publish(second, "theirs")

        place.server.add(they, skip=number)
        publish(files, "kept")
        # Nothing tells those apart who publish the same bytes.
        assert len(won) <= (1 if theirs == "another build" else 2), lines[number]
        listed = place.open().manifests()
        assert listed[CLASSIFIER].as_bytes() in [manifest_in(w) for w in won or [files, second]]
        if theirs == "another build":
            assert won, lines[number]
        shown = place.shown()
        for winner in won or [files, second]:
            there = place.expected({CLASSIFIER: winner})
            if there.items() <= shown.items():
                break
        else:
            raise AssertionError(lines[number])


# What is damaged there


DAMAGES: list[tuple[str, bytes | None]] = [
    ("model.tar.gz", None),
    ("model.tar.gz", b"others"),
    ("manifest.json", b"{}"),
    ("manifest.json", b"\xff\x00"),
    ("manifest.json", None),
]


@of_kinds(HOLDING)
@pytest.mark.parametrize(("name", "content"), DAMAGES)
def test_a_damaged_version_is_none(
    name: str, content: bytes | None, place: Place, files: Files
) -> None:
    """Most are named with the way out; what has no manifest may be anybody's."""
    place.run(files)
    place.put(name, content)
    anybodys = {"kaggle", "huggingface"} | ({"gcs", "s3"} if content is None else set())
    if place.target.kind in anybodys and (name == "manifest.json" or place.target.kind == "kaggle"):
        assert place.open().manifests() == {}
        return
    if place.target.kind in ("google-cloud-storage", "s3") and (name, content) == DAMAGES[-1]:
        assert place.open().manifests() == {}
        return
    message = place.refused(place.open().manifests)
    words = "archive (is|has)" if name == "model.tar.gz" else r"manifest\.json"
    assert re.search(rf"damaged: .*{words}.*; \w", message), message


# A service that fails


PASSING: dict[str, Any] = {
    "drop": "drop",
    "lose": "lose",
    "cut": "cut",
    "tear": "tear",
    "500": 500,
    "503": 503,
    "429": 429,
    "429 and a pause": 429,
}


@of_kinds(SERVED)
@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_waited_for_at_every_request(name: str, place: Place, files: Files) -> None:
    """Every different request fails once."""
    once = place.unrepeated if name[0] != "4" else "^$"
    pause = {"Retry-After": "7"} if name == "429 and a pause" else {}
    call = f"^(?!.*{once})"
    place.server.add(PASSING[name], call, each=True, times=ALWAYS, headers=pause)
    place.run(files, attempts=30)
    assert len(place.server.faults[0].struck) > 6
    place.server.faults.clear()
    # Of a request without an answer nobody knows what it began.
    assert is_published(place, {CLASSIFIER: files}, but=place.uploads())
    if name == "429 and a pause" and place.target.kind != "google-cloud-storage":
        assert len([pause for pause in place.pauses if pause >= 7]) > 6 or place.target.kind == "s3"


@of_kinds(SERVED)
@pytest.mark.parametrize("name", ["500", "429", "drop", "stall"])
@pytest.mark.parametrize("at", ["first", "writing"])
def test_what_does_not_pass_is_told_and_the_next_run_finishes(
    name: str, at: str, place: Place, files: Files
) -> None:
    call = "" if at == "first" else "^(PUT|PATCH|POST .*(tag|/commit/))"
    place.server.add("stall" if name == "stall" else PASSING[name], call, times=ALWAYS)
    timeout = 0.05 if name == "stall" else 20.0
    message = place.refused(lambda: place.run(files, attempts=2, timeout=timeout))
    assert re.search("(wait a while|check the network),? and run again|run again", message)
    assert message.startswith(f"{NAME}: ")
    if name == "stall":
        assert "timed out" in message
    if name in ("500", "429"):
        assert f" {name}" in message
    place.server.clear()
    assert place.open().manifests() == {}
    assert place.shown() == {}
    place.run(files)
    assert is_published(place, {CLASSIFIER: files})


NONSENSE = [b"", b"<html>", b"[]", b"null", b"{", b'"x"', b'{"name": 1}', b"[" * 100_000]


@of_kinds(SERVED)
@pytest.mark.parametrize("body", NONSENSE, ids=lambda body: body[:8].decode())
def test_an_answer_that_is_none_is_told(body: bytes, place: Place, files: Files) -> None:
    there = place.open(attempts=1)
    place.server.add(Answer(200, body, {"Content-Type": "application/json"}), times=ALWAYS)
    place.refused(lambda: there.add_version(CLASSIFIER, files))
    for call in (there.check, there.manifests, lambda: there.read(MANIFEST)):
        try:
            found = call()
        except DestinationError as error:
            assert "\n" not in str(error)
        else:
            assert found in (None, {}, body)
    place.server.clear()
    assert place.shown() == {}


@of_kinds(SERVED)
def test_an_endless_answer_is_cut_off(place: Place) -> None:
    place.server.add(Answer(200, b" " * TOO_LARGE), times=ALWAYS)
    assert re.search("more than [0-9,]+ bytes", place.refused(lambda: place.open().read(PAGE)))


@of_kinds(["gcs", "s3", "huggingface", "github"])
def test_a_host_that_is_not_there_is_named(place: Place) -> None:
    there: Any = {place.address: "http://127.0.0.1:1"}
    message = place.refused(place.open(attempts=1, **there).check)
    assert "connection refused" in message
    assert "run again" in message


@of_kinds(["huggingface", "github"])
def test_a_rate_limit_that_lasts_is_told(place: Place) -> None:
    place.server.add(429, times=ALWAYS, headers={"Retry-After": "3600"})
    message = place.refused(place.open().manifests)
    assert " 429 (" in message
    assert "run again" in message
    assert place.pauses == []


@of_kinds(["kaggle", "huggingface", "github"])
def test_a_page_that_is_not_kept_is_noticed(place: Place, files: Files) -> None:
    place.run(files)
    page = contents(place.files(error=1e-6))["README.md"]
    place.server.add("ignore", "^PATCH|/commit/|UpdateModelInstance$")
    message = place.refused(lambda: place.open().write(PAGE, page))
    assert re.search("not return it|not hold it as it was sent|shows it otherwise", message)


# Who may write


@of_kinds(SERVED)
def test_missing_credentials_are_told_before_any_work(place: Place) -> None:
    message = place.refused(place.open(**place.nobody).check)
    assert re.search("no (usable )?(credentials|token)", message)
    assert re.search("set [A-Z_]+", message)
    if place.served:
        assert place.writes() == []


@of_kinds(["kaggle", "huggingface", "github"])
def test_wrong_credentials_are_told_before_any_work(place: Place) -> None:
    assert place.stranger is not None
    message = place.refused(place.open(**place.stranger).check)
    assert " 401" in message
    assert re.search("(is|are) not accepted.* set", message)
    assert not [secret for secret in place.stranger.values() if secret in message]
    assert place.writes() == []


@of_kinds(["s3", "huggingface", "github"])
def test_everybody_can_see_what_is_public(place: Place, files: Files) -> None:
    """A plan needs no credentials."""
    place.target = place.target.model_copy(update={"visibility": "public"})
    place.run(files)
    visitor = place.open(**place.nobody)
    assert list(visitor.manifests()) == [CLASSIFIER]
    assert visitor.read(PAGE) == files["README.md"]


@of_kinds(["huggingface", "github"])
def test_either_variable_has_the_token(place: Place) -> None:
    for name in place.tokens:
        token: Any = dict.fromkeys(place.tokens, "") | {name: f"{place.secrets[0]}\n"}
        place.open(**token).check()


@of_kinds(["huggingface", "github"])
@pytest.mark.parametrize("more", ["\nX-Other: 1", " b", "é"], ids=["line", "space", "letter"])
def test_what_cannot_be_a_token_is_refused(more: str, place: Place) -> None:
    token: Any = {place.tokens[0]: f"{place.secrets[0]}{more}"}
    message = place.refused(lambda: place.open(**token))
    assert "contains invalid characters; set" in message


@of_kinds(["huggingface", "github"])
@pytest.mark.parametrize(
    "address",
    [
        "http://api.example.org",
        "ftp://127.0.0.1",
        "api.example.org",
        "https://",
        "https://a b",
        "https://[",
        "https://user:SECRET@api.example.org",
        "https://api.example.org/?token=SECRET",
        "https://api.example.org/#SECRET",
        "https://api.example.org:99999",
    ],
)
def test_an_address_that_is_none_of_a_service_is_refused(address: str, place: Place) -> None:
    there: Any = {place.address: address.replace("SECRET", place.secrets[0])}
    message = place.refused(lambda: place.open(**there))
    assert f"{place.address} is not a service address" in message
    assert "unset it (default: https://" in message


@of_kinds(["s3", "kaggle", "huggingface", "github"])
def test_a_secret_is_not_told_even_by_the_service(place: Place) -> None:
    odd = "" if place.target.kind == "s3" else "\x1b[2J"  # which no XML may hold
    place.server.add(403, message=f"no\n{place.secrets[0]}{odd} may not", times=ALWAYS)
    assert " may not" in place.refused(place.open(attempts=1).check)


# The whole flow


@of_kinds(HOLDING)
def test_a_registry_is_published_and_then_there_is_nothing_to_do(
    place: Place, registry: Registry
) -> None:
    if place.target.kind == "kaggle":
        pytest.skip("its archives have to be SavedModels")
    built = build(registry, place.folder / "variants", synthetic=False)

    def publish(registry: Registry = registry, built: Any = built) -> list[str]:
        there = place.open()
        there.check()
        if place.served:
            place.server.clear()
        prepared = prepare(registry, built, there, target=place.target)
        carry_out(prepared, there)
        return [change.status for change in prepared.plan.changes]

    assert publish() == ["new"] * 3
    assert sorted(place.open().manifests()) == sorted(HANDLES)
    assert publish() == ["unchanged"] * 3
    assert place.writes() == []
    figures = build(registry, place.folder / "better", synthetic=False, error=1e-6)
    assert publish(built=figures) == ["page"] * 3
    assert publish(built=figures) == ["unchanged"] * 3
    assert place.writes() == []
    text = edited((f"- handle: {EXTRACTOR}", f"- handle: {EXTRACTOR}\n    withdrawn: Wrong data."))
    withdrawn = registry_of(place.folder / "withdrawn", text)
    offers = [
        (variant, *(rest if variant.handle != EXTRACTOR else (None, None)))
        for variant, (_, *rest) in zip(withdrawn.variants, figures, strict=True)
    ]
    # A card that is rendered for the destination no longer leads to its withdrawn sibling.
    sibling = "unchanged" if place.open().style == "tfhub" else "page"
    assert publish(withdrawn, offers) == [sibling, "withdraw", "unchanged"]
    page = place.open().read(page_path(EXTRACTOR))
    assert page is not None
    assert b"**Withdrawn: do not use" in page

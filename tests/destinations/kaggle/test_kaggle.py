"""Kaggle: what holds there and nowhere else, and what kagglehub makes of it."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kagglehub
import pytest
from kagglesdk import kaggle_env
from kagglesdk.kaggle_env import KaggleEnv

from publisher.destinations.base import ConflictError, DestinationError
from publisher.documents.manifest import read_manifest
from publisher.formats.archive import pack
from publisher.pages.kaggle import MODEL_CARD
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.release.publish import carry_out
from publisher.util.files import json_bytes, write_whole
from tests.destinations.contract import KagglePlace
from tests.destinations.servers.faulty import json_answer
from tests.destinations.servers.kaggle import KEY, TOKEN, USER
from tests.destinations.versions import (
    MANIFEST,
    PAGE,
    SECOND,
    WEIGHTS,
    Files,
    contents,
    page_of,
)
from tests.releases import CLASSIFIER, EXTRACTOR, Built, edited, prepare, registry_of

SLUG = "small-classification"
TARGET = KagglePlace.target
CREATE = "/CreateModelInstance$"


def offered(
    kaggle: KagglePlace, files: Files, handle: str = CLASSIFIER, *edits: tuple[str, str]
) -> tuple[Registry, Built]:
    """Return a version as a release takes it."""
    text = edited((f"- handle: {CLASSIFIER}", f"- handle: {handle}"), *edits)
    registry = registry_of(kaggle.folder / "offered", text)
    (variant,) = [variant for variant in registry.variants if variant.handle == handle]
    archive = files["model.tar.gz"]
    assert isinstance(archive, Path)
    manifest = contents(files)["manifest.json"]
    write_whole(archive.with_name("manifest.json"), manifest)
    return registry, [(variant, read_manifest(manifest), archive.parent)]


def publish(
    kaggle: KagglePlace, registry: Registry, built: Any, target: Target = TARGET
) -> list[str]:
    """Publish, and return what became of each version."""
    there = kaggle.open(target)
    prepared = prepare(registry, built, there, target=target)
    carry_out(prepared, there)
    return [change.status for change in prepared.plan.changes]


def names(calls: list[str]) -> list[str]:
    return [call.rpartition("/")[2] for call in calls]


# Cards, versions and who sees them


def test_a_registry_is_published_and_then_there_is_nothing_to_do(
    kaggle: KagglePlace, files: Files
) -> None:
    registry, built = offered(kaggle, files)
    assert publish(kaggle, registry, built) == ["new"]
    kaggle.server.clear()
    assert publish(kaggle, registry, built) == ["unchanged"]
    assert kaggle.server.writes == []
    changed, built = offered(kaggle, files, CLASSIFIER, ("Made up.", "Made up anew."))
    assert publish(kaggle, changed, built) == ["page"]
    assert names(kaggle.server.writes) == ["UpdateModelInstance"]
    mark = (f"- handle: {CLASSIFIER}", f"- handle: {CLASSIFIER}\n    withdrawn: It is wrong.")
    withdrawing, built = offered(kaggle, files, CLASSIFIER, mark)
    offers = [(built[0][0], None, None)]
    assert publish(kaggle, withdrawing, offers) == ["withdraw"]
    assert publish(kaggle, withdrawing, offers) == ["withdrawn"]
    overview = kaggle.server.models[USER, "bit"]["instances"][SLUG]["overview"]
    assert overview.startswith(f"**Withdrawn: do not use `{CLASSIFIER}`.** It is wrong.")
    assert kaggle.server.numbers(SLUG) == [1]


@pytest.mark.parametrize("enums", ["MODEL_FRAMEWORK_TENSOR_FLOW_2", "TENSOR_FLOW_2", "tensorFlow2"])
def test_cards_are_read_back_as_they_were_written(
    enums: str, kaggle: KagglePlace, files: Files
) -> None:
    kaggle.server.enums = enums
    kaggle.open().add_version(CLASSIFIER, files)
    assert kaggle.open().read(PAGE) == files["README.md"]
    card = json.loads(contents(files)["README.md"])
    there = kaggle.server.models[USER, "bit"]["instances"][SLUG]
    assert (there["usage"], there["fineTunable"]) == (card["usage"], True)


def test_the_model_is_made_public_last_and_does_not_become_private(
    kaggle: KagglePlace, files: Files
) -> None:
    target = TARGET.model_copy(update={"visibility": "public"})
    offer = offered(kaggle, files)
    publish(kaggle, *offer, target)
    writes = names(kaggle.server.writes)
    assert (writes[0], writes[-1]) == ("CreateModel", "UpdateModel")
    made = next(r for r in kaggle.server.requests if r.call.endswith("CreateModel"))
    assert made.json()["isPrivate"] is True
    model = kaggle.server.models[USER, "bit"]
    assert (model["isPrivate"], model["title"]) == (False, "BiT-ResNet")
    kaggle.open(target).check()
    for call in (kaggle.open().check, lambda: publish(kaggle, *offer)):
        assert "is public at Kaggle and would become private" in kaggle.refused(call)
    assert kaggle.server.models[USER, "bit"]["isPrivate"] is False


def test_a_new_version_is_a_new_version_of_the_variation(kaggle: KagglePlace, files: Files) -> None:
    publish(kaggle, *offered(kaggle, files))
    second = kaggle.files(SECOND, seed=1)
    assert publish(kaggle, *offered(kaggle, second, SECOND)) == ["new", "left over"]
    versions = kaggle.server.models[USER, "bit"]["instances"][SLUG]["versions"]
    digest = json.loads(contents(second)["manifest.json"])["archive"]["sha256"]
    assert [v["notes"] for v in versions] == ["", f"handle={SECOND} sha256={digest}"]
    # A version never changes there, and people get what was uploaded last.
    there = kaggle.open()
    there.write(MANIFEST, contents(files)["manifest.json"])
    kaggle.server.clear()
    better = contents(kaggle.files(error=1e-6))["manifest.json"]
    assert "Kaggle never changes the files of a version" in kaggle.refused(
        lambda: there.write(MANIFEST, better)
    )
    assert kaggle.server.writes == []


def test_an_older_version_does_not_come_behind_a_newer_one(
    kaggle: KagglePlace, files: Files
) -> None:
    kaggle.run(kaggle.files(SECOND, seed=1), SECOND)
    kaggle.server.clear()
    message = kaggle.refused(lambda: kaggle.open().add_version(CLASSIFIER, files))
    assert "Kaggle serves the last upload" in message
    assert kaggle.server.writes == []


def test_two_models_do_not_share_a_variation(kaggle: KagglePlace, files: Files) -> None:
    kaggle.run(files)
    target = TARGET.model_copy(update={"names": {EXTRACTOR.rpartition("/")[0]: SLUG}})
    message = kaggle.refused(lambda: kaggle.open(target).add_version(EXTRACTOR, files))
    assert "give sayakpaul/small_features another name" in message
    assert kaggle.server.numbers(SLUG) == [1]


def test_a_card_of_the_model_that_somebody_changed_is_left_alone(
    kaggle: KagglePlace, files: Files
) -> None:
    publish(kaggle, *offered(kaggle, files))
    ours, theirs = kaggle.open(), kaggle.open()
    card = json.loads(ours.read(MODEL_CARD) or b"")
    theirs.write(MODEL_CARD, json_bytes({**card, "title": "Theirs"}))
    mine = json_bytes({**card, "title": "Ours"})
    message = kaggle.refused(lambda: ours.write(MODEL_CARD, mine), ConflictError)
    assert "another publisher changed it meanwhile" in message
    assert json.loads(ours.read(MODEL_CARD) or b"")["title"] == "Theirs"
    ours.write(MODEL_CARD, mine)
    assert ours.read(MODEL_CARD) == mine


@pytest.mark.parametrize(
    ("content", "path"),
    [(b"# Markdown", PAGE), (b'{"overview": "x"}', PAGE), (b"[]", MODEL_CARD)],
)
def test_what_is_no_card_is_not_written(
    content: bytes, path: str, kaggle: KagglePlace, files: Files
) -> None:
    kaggle.run(files)
    kaggle.server.clear()
    message = kaggle.refused(lambda: kaggle.open().write(path, content))
    assert "is not a card with the fields" in message
    assert kaggle.server.writes == []


# Uploads that go on


def cut_short(kaggle: KagglePlace, files: Files) -> Path:
    """Let the largest file, which is sent last but one, break off; return what is kept."""
    kaggle.server.add("cut", "^PUT", skip=2)
    message = kaggle.refused(lambda: kaggle.open(attempts=1).add_version(CLASSIFIER, files))
    assert f"{WEIGHTS}: no answer" in message
    (kept,) = (kaggle.folder / "kept").iterdir()
    kaggle.server.clear()
    return kept


def test_an_interrupted_upload_goes_on_where_it_stopped(kaggle: KagglePlace, files: Files) -> None:
    kept = cut_short(kaggle, files)
    # An address is a secret, and kept as long as it is of use.
    parts = json.loads(kept.read_text())["files"]
    assert [name for name, part in parts.items() if part["address"]] == [WEIGHTS]
    assert dict(kaggle.server.spans)[Path(WEIGHTS).name] == 300_000
    kaggle.server.spans.clear()
    kaggle.open().add_version(CLASSIFIER, files)
    assert dict(kaggle.server.spans)[Path(WEIGHTS).name] == 300_000
    assert not {"saved_model.pb", "manifest.json"} & {name for name, _ in kaggle.server.spans}
    assert kaggle.shown() == kaggle.expected({CLASSIFIER: files})
    assert kaggle.leftovers() == []


@pytest.mark.parametrize("kept", [b"", b"{}", b'{"key": 1}', b"\xff", b"[" * 100_000, None])
def test_what_was_kept_of_other_content_or_is_damaged_is_not_used(
    kept: bytes | None, kaggle: KagglePlace, files: Files, other: Files
) -> None:
    place = cut_short(kaggle, files)
    if kept is not None:
        place.write_bytes(kept)
    kaggle.open().add_version(CLASSIFIER, other)
    assert kaggle.shown() == kaggle.expected({CLASSIFIER: other})
    assert kaggle.leftovers() == []


@pytest.mark.parametrize(
    ("status", "old", "sent_again"),
    [(403, False, False), (429, False, False), (400, False, True), (403, True, True)],
)
def test_what_was_uploaded_is_used_when_the_version_is_refused_at_first(
    status: int, old: bool, sent_again: bool, kaggle: KagglePlace, files: Files
) -> None:
    """But not after some days, nor where the service may not know it any longer."""
    kaggle.server.add(status, CREATE)
    kaggle.refused(lambda: kaggle.open(attempts=1).add_version(CLASSIFIER, files))
    if old:
        (kept,) = (kaggle.folder / "kept").iterdir()
        kept.write_text(json.dumps({**json.loads(kept.read_text()), "began": 0.0}))
    kaggle.server.spans.clear()
    kaggle.open().add_version(CLASSIFIER, files)
    assert bool(kaggle.server.spans) == sent_again


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_the_storage_has_forgotten_begins_anew(
    status: int, kaggle: KagglePlace, files: Files
) -> None:
    kaggle.server.add(status, "^PUT", skip=1)
    kaggle.open().add_version(CLASSIFIER, files)
    assert kaggle.shown() == kaggle.expected({CLASSIFIER: files})


def test_bytes_are_sent_over_encrypted_connections_only(
    kaggle: KagglePlace, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kaggle_env._env_to_endpoint, KaggleEnv.PROD, kaggle.server.api)
    there = kaggle.open(KAGGLE_API_ENVIRONMENT="")
    message = kaggle.refused(lambda: there.add_version(CLASSIFIER, files))
    assert "the upload address is not encrypted" in message
    assert kaggle.server.spans == []


def test_the_service_says_how_long_to_wait(kaggle: KagglePlace) -> None:
    for seconds in ("7", "99999"):
        kaggle.server.add(429, headers={"Retry-After": seconds})
    kaggle.open().manifests()
    assert kaggle.pauses == [7.0, 120.0]


def test_a_request_for_a_version_is_not_repeated_when_it_gets_no_answer(
    kaggle: KagglePlace, files: Files
) -> None:
    kaggle.server.add("lose", CREATE)
    message = kaggle.refused(lambda: kaggle.open().add_version(CLASSIFIER, files))
    assert "no answer" in message
    assert message.endswith("run again")
    kaggle.open().add_version(CLASSIFIER, files)  # it is there meanwhile
    assert names(kaggle.server.calls).count("CreateModelInstance") == 1
    assert kaggle.server.numbers(SLUG) == [1]
    assert kaggle.leftovers() == []


def test_a_version_that_is_still_made_is_waited_for(kaggle: KagglePlace, files: Files) -> None:
    kaggle.server.delay = 5
    there = kaggle.open(patience={"processing": 0.0})
    message = kaggle.refused(lambda: there.add_version(CLASSIFIER, files))
    assert "shows no such version after 0 s" in message
    assert kaggle.open().manifests() == {}
    kaggle.open(patience={"settling": 20.0}).add_version(CLASSIFIER, files)
    assert kaggle.server.numbers(SLUG) == [1]


REFUSALS: dict[str, tuple[Any, str, str]] = {
    "the model exists": (409, "/CreateModel$", "409.*another publisher"),
    "no permission": (403, "StartBlobUpload", "403.*let this user edit"),
    "a wrong field": (
        json_answer({"error": "Invalid\n license", "errorCode": 0}),
        CREATE,
        r"400 \(Invalid license\); check",
    ),
    "no room": (413, "^PUT", "413.*free space"),
    "a quota": (
        json_answer({"error": "Quota exceeded"}),
        CREATE,
        "Quota exceeded.*free space there, or check quota",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_what_to_do_and_a_second_run_finishes(
    name: str, kaggle: KagglePlace, files: Files
) -> None:
    kind, call, words = REFUSALS[name]
    kaggle.server.add(kind, call)
    with pytest.raises(DestinationError, match=f"^there: .*{words}") as caught:
        kaggle.open().add_version(CLASSIFIER, files)
    assert "\n" not in str(caught.value)
    kaggle.run(files)
    assert kaggle.shown() == kaggle.expected({CLASSIFIER: files})
    assert kaggle.leftovers() == []


LIES = {
    "no version": (CREATE, "ignore", "shows no such version"),
    "no bytes": ("^PUT", "ignore", "its files have"),
    "a byte too few": ("^PUT", "short", "its files have"),
    "other bytes": ("^PUT", "corrupt", f"{WEIGHTS} are not those that were sent"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_service_that_claims_success_is_not_believed(
    name: str, kaggle: KagglePlace, files: Files
) -> None:
    call, kind, words = LIES[name]
    kaggle.server.add(kind, call, skip=2 if call == "^PUT" else 0)
    there = kaggle.open(patience={"processing": 0.0})
    assert words in kaggle.refused(lambda: there.add_version(CLASSIFIER, files))
    assert kaggle.open().manifests() == {}
    if kaggle.server.numbers(SLUG):
        # Not a second one beside it: somebody has to look.
        again = kaggle.refused(lambda: kaggle.open().add_version(CLASSIFIER, files))
        assert "delete that version there, and run again" in again
        assert kaggle.server.numbers(SLUG) == [1]
        kaggle.server.models.clear()
    kaggle.open().add_version(CLASSIFIER, files)
    assert kaggle.shown() == kaggle.expected({CLASSIFIER: files})


def test_of_two_publishers_one_is_told_before_it_makes_a_second_version(
    kaggle: KagglePlace, files: Files
) -> None:
    kaggle.run(files)
    first, second = (kaggle.files(SECOND, seed=seed) for seed in (1, 2))
    kaggle.server.add(
        lambda _: kaggle.open(kept="theirs").add_version(SECOND, second), "^PUT", skip=2
    )
    message = kaggle.refused(lambda: kaggle.open().add_version(SECOND, first), ConflictError)
    assert f"{SECOND} exists already" in message
    assert kaggle.server.numbers(SLUG) == [1, 2]


def test_two_publishers_in_the_same_moment_are_told_of_both_versions(
    kaggle: KagglePlace, files: Files
) -> None:
    kaggle.run(files)
    first, second = (kaggle.files(SECOND, seed=seed) for seed in (1, 2))
    kaggle.server.add(
        lambda _: kaggle.open(kept="theirs").add_version(SECOND, second),
        "CreateModelInstanceVersion",
    )
    message = kaggle.refused(lambda: kaggle.open().add_version(SECOND, first), ConflictError)
    assert "as the versions 2, 3 of" in message
    assert "; 2 counts" in message
    manifest = kaggle.open().manifests()[SECOND].as_bytes()
    assert manifest == contents(second)["manifest.json"]


# What else is there


def test_what_others_put_there_is_left_alone(kaggle: KagglePlace, files: Files) -> None:
    kaggle.run(files)
    versions = kaggle.server.models[USER, "bit"]["instances"][SLUG]["versions"]
    for number, manifest in enumerate((None, b"", b"{}", b'{"handle": "../../x/1"}')):
        theirs = {"saved_model.pb": b"graph"}
        theirs |= {} if manifest is None else {"manifest.json": manifest}
        versions.append({"number": number + 2, "notes": "", "files": theirs, "waits": 0})
    assert list(kaggle.open().manifests()) == [CLASSIFIER]
    kaggle.run(kaggle.files(SECOND, seed=1), SECOND)
    assert kaggle.server.numbers(SLUG) == [1, 2, 3, 4, 5, 6]
    assert list(kaggle.open().manifests()) == [CLASSIFIER, SECOND]


def test_notes_that_contradict_the_manifest_make_it_no_version(
    kaggle: KagglePlace, files: Files
) -> None:
    kaggle.run(files)
    version = kaggle.server.models[USER, "bit"]["instances"][SLUG]["versions"][0]
    version["notes"] = "Made by hand."
    assert list(kaggle.open().manifests()) == [CLASSIFIER]
    version["notes"] = f"handle={CLASSIFIER} sha256={'0' * 64}"
    assert kaggle.open().manifests() == {}


@pytest.mark.parametrize("change", [{"zips": True}, {"tells_hashes": False}])
def test_files_may_come_as_zips_and_without_checksums(
    change: dict[str, bool], kaggle: KagglePlace, files: Files
) -> None:
    for name, value in change.items():
        setattr(kaggle.server, name, value)
    kaggle.run(files)
    manifest = kaggle.open().manifests()[CLASSIFIER].as_bytes()
    assert manifest == contents(files)["manifest.json"]


def test_no_redirect_leads_out_of_http(kaggle: KagglePlace, files: Files) -> None:
    kaggle.run(files)
    there = {"Location": "ftp://127.0.0.1/file"}
    kaggle.server.add(302, "DownloadModelInstanceVersion$", headers=there)
    message = kaggle.refused(kaggle.open().manifests)
    assert "which is not secure" in message


def test_lists_and_manifests_are_read_up_to_a_bound(
    kaggle: KagglePlace, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.run(files)
    kaggle.server.page = 0
    assert "more than 100 pages" in kaggle.refused(kaggle.open().manifests)
    kaggle.server.page = 2
    kaggle.put("manifest.json", b" " * ((16 << 20) + 1))
    assert kaggle.open().manifests() == {}


@pytest.mark.parametrize(
    "answer",
    [
        {"instances": 1},
        {"instances": [{"slug": 1}]},
        {"instances": [{"framework": "unheard-of"}]},
        {"instances": ["x"]},
    ],
)
def test_an_answer_of_another_kind_is_no_traceback(
    answer: Any, kaggle: KagglePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.server.models[USER, "bit"] = {"instances": {}}
    monkeypatch.setattr(kaggle.server, "_list_model_instances", lambda body: answer)
    try:
        assert kaggle.open().manifests() == {}
    except DestinationError as error:
        assert "not understood" in str(error)


# Before anything is sent


def test_more_files_than_kaggle_takes_one_by_one_are_refused(kaggle: KagglePlace) -> None:
    files = kaggle.files(assets=50)
    message = kaggle.refused(lambda: kaggle.open().add_version(CLASSIFIER, files))
    assert "54 files, and Kaggle accepts 50" in message
    assert "CreateModelInstance" not in names(kaggle.server.calls)


@pytest.mark.parametrize(
    ("unpacked", "content", "words"),
    [(1, None, "where the manifest states 1"), (0, b"no tar", "cannot be read")],
)
def test_an_archive_is_looked_at_before_it_is_unpacked(
    unpacked: int, content: bytes | None, words: str, kaggle: KagglePlace, files: Files
) -> None:
    archive = kaggle.folder / "model.tar.gz"
    archive.write_bytes(content or contents(files)["model.tar.gz"])
    manifest = json.loads(contents(files)["manifest.json"])
    manifest["archive"]["unpacked_size"] = unpacked
    odd: Files = {**files, "model.tar.gz": archive, "manifest.json": json_bytes(manifest)}
    assert words in kaggle.refused(lambda: kaggle.open().add_version(CLASSIFIER, odd))
    assert kaggle.server.writes == []
    assert kaggle.leftovers() == []


# Who may write

NONE = {"KAGGLE_USERNAME": "", "KAGGLE_KEY": ""}
STORE = json.dumps({"username": USER, "key": KEY})
CREDENTIALS: dict[str, tuple[Any, dict[str, str]]] = {
    "token": (NONE | {"KAGGLE_API_TOKEN": TOKEN}, {}),
    "token in a file": (NONE | {"KAGGLE_API_TOKEN": "home/token"}, {"home/token": TOKEN}),
    "token kept by the client": (NONE, {"home/.kaggle/access_token": f"{TOKEN}\n"}),
    "key kept by the client": (NONE, {"home/.kaggle/kaggle.json": STORE}),
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_are_found_where_kaggles_clients_find_them(
    name: str, kaggle: KagglePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, files = CREDENTIALS[name]
    for path, content in files.items():
        write_whole(kaggle.folder / path, content.encode())
    monkeypatch.chdir(kaggle.folder)
    kaggle.open(**environment).check()
    assert kaggle.server.writes == []


def test_credentials_that_are_not_whole_or_wrong_are_told(kaggle: KagglePlace) -> None:
    half: Any = {"KAGGLE_KEY": ""}
    assert "no credentials for Kaggle; set KAGGLE_API_TOKEN" in kaggle.refused(
        kaggle.open(**half).check
    )
    wrong: Any = {**NONE, "KAGGLE_API_TOKEN": "wrong-token-1"}
    message = kaggle.refused(kaggle.open(**wrong).check)
    assert "401" in message
    assert "wrong" not in message


def test_an_environment_of_kaggles_that_is_not_known(kaggle: KagglePlace) -> None:
    message = kaggle.refused(lambda: kaggle.open(KAGGLE_API_ENVIRONMENT="STAGING"))
    assert "KAGGLE_API_ENVIRONMENT" in message


def test_a_model_of_another_owner_has_to_be_there(kaggle: KagglePlace) -> None:
    target = TARGET.model_copy(update={"to": "an-organization/bit"})
    message = kaggle.refused(kaggle.open(target).check)
    assert "sayakpaul sees no model an-organization/bit" in message
    kaggle.server.models["an-organization", "bit"] = {"isPrivate": True, "instances": {}}
    kaggle.open(target).check()
    assert kaggle.server.writes == []


# kagglehub


@pytest.fixture
def in_environment(
    kaggle: KagglePlace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[None]:
    """Let kagglehub find the server and its credentials; what it tells is its own affair."""
    cache = {"KAGGLEHUB_CACHE": str(kaggle.folder / "home" / "cache")}
    for name, value in {**kaggle.environment, **cache}.items():
        monkeypatch.setenv(name, value)
    kaggle.server.page = 100
    yield
    capfd.readouterr()
    caplog.get_records("call").clear()


@pytest.mark.usefixtures("in_environment")
def test_the_same_files_uploaded_with_kagglehub_are_the_same_version(
    kaggle: KagglePlace, files: Files
) -> None:
    """And what was published is what people download."""
    archive = files["model.tar.gz"]
    assert isinstance(archive, Path)
    model = kaggle.folder / "model"
    with tarfile.open(archive) as tar:
        tar.extractall(model, filter="data")
    write_whole(model / "manifest.json", contents(files)["manifest.json"])
    address = f"sayakpaul/bit/tensorFlow2/{SLUG}"
    kagglehub.model_upload(address, str(model), "Apache 2.0", "by hand")
    assert kaggle.open().manifests()[CLASSIFIER].as_bytes() == contents(files)["manifest.json"]
    versions = kaggle.server.models[USER, "bit"]["instances"][SLUG]["versions"]
    versions.append({**versions[0], "number": 2})
    assert list(kaggle.open().manifests()) == [CLASSIFIER]
    folder = Path(kagglehub.model_download(address))
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert set(found) == set(kaggle.server.files(SLUG))
    assert found[WEIGHTS].read_bytes() == (model / WEIGHTS).read_bytes()


@pytest.mark.usefixtures("in_environment")
def test_the_snippet_on_a_card_runs(
    kaggle: KagglePlace, registry: Registry, files: Files, capfd: pytest.CaptureFixture[str]
) -> None:
    import tensorflow as tf

    class Mean(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.scale = tf.Variable(1.0)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
        def __call__(self, images: Any) -> Any:
            return self.scale * tf.reduce_mean(images, [1, 2])

    tf.saved_model.save(Mean(), str(kaggle.folder / "model"))
    write_whole(kaggle.folder / "model" / "assets" / "names.txt", b"cat\ndog\nowl\n")
    archive = kaggle.folder / "model.tar.gz"
    packed = pack(kaggle.folder / "model", archive)
    manifest = json.loads(contents(files)["manifest.json"])
    manifest["archive"] |= {
        "size": packed.size,
        "sha256": packed.sha256,
        "unpacked_size": packed.unpacked_size,
    }
    page = page_of("kaggle", registry, TARGET, read_manifest(json_bytes(manifest)))
    kaggle.run({"model.tar.gz": archive, "manifest.json": json_bytes(manifest), "README.md": page})
    usage = json.loads(kaggle.open().read(PAGE) or b"")["usage"]
    code = usage.partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "<card>", "exec"), {})  # noqa: S102
    said = capfd.readouterr().out.splitlines()
    assert "(1, 3)" in said
    assert {line.split()[-1] for line in said[-3:]} == {"cat", "dog", "owl"}

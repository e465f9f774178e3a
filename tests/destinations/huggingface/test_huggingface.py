"""The Hugging Face Hub: what holds there and nowhere else."""

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from publisher.destinations.base import ConflictError
from publisher.pages.huggingface import archive_address
from publisher.registry.models import Target
from tests.destinations.contract import HuggingFacePlace
from tests.destinations.servers.huggingface import (
    ORGANIZATION,
    OWNER,
    SIGNATURE,
    TOKEN,
    Held,
    HubServer,
)
from tests.destinations.versions import FOLDER, PAGE, SECOND, Files, contents
from tests.releases import CLASSIFIER, EXTRACTOR

TARGET = HuggingFacePlace.target
MODEL = "small_classification"
COMMIT, TAG, PUT = f"{OWNER}/{MODEL}/commit", f"{OWNER}/{MODEL}/tag", "PUT /storage"

Open = Callable[..., Any]


@pytest.fixture
def hub(huggingface: HuggingFacePlace) -> HuggingFacePlace:
    return huggingface


@pytest.fixture
def better_files(hub: HuggingFacePlace) -> Files:
    """The same archive with another manifest, and so with another page."""
    return hub.files(error=1e-6)


@pytest.fixture
def second_files(hub: HuggingFacePlace) -> Files:
    """The next version of the same model."""
    return hub.files(SECOND, seed=1)


def shown(files: Files, *, version: str = "v1", card: bool = True) -> dict[str, bytes]:
    """What a repository should hold of these files."""
    found = {f"{version}/{name}": content for name, content in contents(files).items()}
    return found | ({"README.md": contents(files)["README.md"]} if card else {})


def is_published(server: HubServer, files: Files) -> bool:
    """Whether a model holds exactly these files, and its tag leads to them."""
    return bool(server.models) and server.files(MODEL) == shown(files) and "v1" in held(server).tags


def held(server: HubServer) -> Held:
    (repository,) = server.models.values()
    return repository


@pytest.mark.parametrize("visibility", ["public", "private"])
def test_a_model_that_is_made_is_seen_by_whom_models_yaml_says(
    visibility: str, hub: HuggingFacePlace, files: Files
) -> None:
    target = TARGET.model_copy(update={"visibility": visibility})
    hub.open(target).add_version(CLASSIFIER, files)
    assert held(hub.server).private == (visibility == "private")
    assert list(hub.open(target).manifests()) == [CLASSIFIER]
    visitor = hub.open(target, HF_TOKEN="")
    assert list(visitor.manifests()) == ([] if held(hub.server).private else [CLASSIFIER])


def test_a_model_that_is_there_stays_as_visible_as_it_is(
    hub: HuggingFacePlace, files: Files
) -> None:
    hub.server.put(MODEL, {"notes.txt": b"A person's notes.\n"})
    hub.open().add_version(CLASSIFIER, files)
    assert not held(hub.server).private
    assert hub.server.files(MODEL) == {**shown(files), "notes.txt": b"A person's notes.\n"}


# Versions and the card


def test_an_older_version_that_comes_late_leaves_the_card(
    hub: HuggingFacePlace, files: Files, second_files: Files
) -> None:
    hub.open().add_version(SECOND, second_files)
    hub.open().add_version(CLASSIFIER, files)
    assert hub.server.files(MODEL) == shown(files, card=False) | shown(second_files, version="v2")


@pytest.mark.parametrize("newest", [True, False])
def test_a_page_is_replaced_in_one_commit(
    newest: bool,
    hub: HuggingFacePlace,
    files: Files,
    second_files: Files,
    better_files: Files,
) -> None:
    hub.open().add_version(CLASSIFIER, files)
    if not newest:
        hub.open().add_version(SECOND, second_files)
    before = hub.server.files(MODEL)
    hub.server.clear()
    page = contents(better_files)["README.md"]
    destination = hub.open()
    assert destination.read(f"{FOLDER}/README.md") == files["README.md"]
    destination.write(f"{FOLDER}/README.md", page)
    card = {"README.md": page} if newest else {}
    assert hub.server.files(MODEL) == {**before, "v1/README.md": page, **card}
    assert len([call for call in hub.server.writes if "/commit/" in call]) == 1
    assert destination.read(f"{FOLDER}/README.md") == page


def test_a_card_that_somebody_edited_is_seen_and_put_right(
    hub: HuggingFacePlace, files: Files
) -> None:
    """The card is what people see, so that is what the newest version's page is read from."""
    hub.open().add_version(CLASSIFIER, files)
    hub.server.put(MODEL, {"README.md": b"Edited.\n"})
    destination = hub.open()
    assert destination.read(f"{FOLDER}/README.md") == b"Edited.\n"
    destination.write(f"{FOLDER}/README.md", contents(files)["README.md"])
    assert hub.server.files(MODEL) == shown(files)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("index.json", "only small files of a version can be replaced"),
        (f"{FOLDER}/../x", "only small files of a version can be replaced"),
        (f"{FOLDER}/model.tar.gz", "only small files of a version can be replaced"),
        (f"{FOLDER}/README.md", "sayakpaul/small_classification does not exist"),
        (f"models/{EXTRACTOR}/manifest.json", "this version does not exist; publish it first"),
    ],
)
def test_nothing_is_written_but_small_files_of_a_version(
    path: str, complaint: str, hub: HuggingFacePlace
) -> None:
    hub.server.put("small_features", {"notes.txt": b"A person's.\n"})
    assert complaint in hub.refused(lambda: hub.open().write(path, b"new\n"))
    assert hub.server.writes == []


def test_a_card_that_the_hub_refuses_stops_before_anything_is_sent(
    hub: HuggingFacePlace, files: Files
) -> None:
    page = contents(files)["README.md"].replace(b"license: apache-2.0", b"license: free", 1)
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files | {"README.md": page}))
    assert '("license" must be one of apache-2.0, mit, other)' in message
    assert "correct its entry in models.yaml" in message
    assert (hub.server.writes, hub.server.models) == ([], {})
    hub.open().add_version(CLASSIFIER, files)
    hub.server.requests.clear()
    assert "must be one of" in hub.refused(lambda: hub.open().write(f"{FOLDER}/README.md", page))
    assert hub.server.writes == []


@pytest.mark.parametrize("name", ["-small", "small--1", "a..b", "small.git", "s" * 97])
def test_a_name_that_the_hub_does_not_take_is_told(
    hub: HuggingFacePlace, name: str, files: Files
) -> None:
    target = TARGET.model_copy(update={"names": {CLASSIFIER[:-2]: name}})
    message = hub.refused(lambda: hub.open(target).add_version(CLASSIFIER, files))
    assert "cannot be the name of a repository at Hugging Face" in message


# Interruptions


def test_a_version_without_its_tag_does_not_count_until_it_has_it(
    hub: HuggingFacePlace, files: Files, better_files: Files
) -> None:
    hub.server.add(500, TAG, times=100)
    hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))
    hub.server.clear()
    assert hub.server.files(MODEL) == shown(files)
    assert hub.open().manifests() == {}
    assert hub.open().read(f"{FOLDER}/README.md") is None
    # What was rendered anew meanwhile takes the place of the old.
    hub.open().add_version(CLASSIFIER, better_files)
    assert is_published(hub.server, better_files)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (500, "Hugging Face answered 500 (no, 3 attempts); wait a while and run again"),
        (429, "Hugging Face answered 429 (no, 3 attempts); wait a while and run again"),
        ("drop", ", 3 attempts; check the network and run again"),
        (507, "Hugging Face answered 507 (no); free space there, or check quota"),
        (413, "Hugging Face answered 413 (no); free space there, or check quota"),
        (402, "Hugging Face answered 402 (no); free space there, or check quota"),
        (403, "Hugging Face answered 403 (no); let this token write to the models of that"),
        (422, "Hugging Face answered 422 (no); fix that and run again"),
        (307, "Hugging Face answered 307 (it leads elsewhere); it was renamed: correct"),
        (412, "others keep committing to sayakpaul/small_classification; run again later"),
        (409, "others keep committing to sayakpaul/small_classification; run again later"),
    ],
)
def test_what_does_not_pass_is_told(
    kind: Any, complaint: str, hub: HuggingFacePlace, files: Files
) -> None:
    hub.server.add(kind, COMMIT, times=100)
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))
    assert complaint in message
    assert CLASSIFIER in message
    assert hub.server.files(MODEL) == {}
    hub.server.clear()
    hub.run(files)
    assert is_published(hub.server, files)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (500, "Hugging Face answered 500; wait a while and run again"),
        (403, "Hugging Face answered 403; let this token write"),
        ("drop", "check the network and run again"),
        ("cut", "check the network and run again"),
    ],
)
def test_a_file_that_cannot_be_sent_is_told(
    kind: Any, complaint: str, hub: HuggingFacePlace, files: Files
) -> None:
    hub.server.add(kind, PUT, times=100, message=f"see https://x/?s={SIGNATURE}")
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))
    assert message.startswith(f"there: sending model.tar.gz of {CLASSIFIER}: ")
    assert complaint in message
    assert hub.server.files(MODEL) == {}
    hub.server.clear()
    hub.run(files)
    assert is_published(hub.server, files)


def test_a_storage_that_is_full_is_told(hub: HuggingFacePlace, files: Files) -> None:
    hub.server.add("refuse", "/objects/batch")
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))
    assert "Private repository storage limit reached" in message
    assert "free space there, or check quota" in message


@pytest.mark.parametrize("call", ["/refs", PUT])
@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {"RateLimit": '"api";r=0;t=3600'}])
def test_a_rate_limit_that_lasts_is_told(
    call: str, headers: dict[str, str], hub: HuggingFacePlace, files: Files, pauses: list[float]
) -> None:
    hub.server.add(429, call, headers=headers, times=100)
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))
    assert "Hugging Face answered 429 (for 3,60" in message
    assert message.endswith("wait a while and run again")
    assert pauses == []


def test_a_model_that_cannot_be_made_yet_is_waited_for(
    hub: HuggingFacePlace, files: Files, pauses: list[float]
) -> None:
    """The library would ask again at once, for ever."""
    busy = "Cannot create repo: another conflicting operation is in progress"
    hub.server.add(409, "/repos/create", message=busy)
    hub.open().add_version(CLASSIFIER, files)
    assert len(pauses) == 1
    hub.server.begin()
    hub.server.add(409, "/repos/create", message=busy, times=100)
    assert busy in hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))


# Two publishers


def test_a_commit_of_somebody_else_is_kept(hub: HuggingFacePlace, files: Files) -> None:
    def edit(_: object) -> None:
        hub.server.put(MODEL, {"notes.txt": b"A person's.\n"})

    hub.server.add(edit, COMMIT)
    hub.open().add_version(CLASSIFIER, files)
    assert hub.server.files(MODEL) == {**shown(files), "notes.txt": b"A person's.\n"}
    assert len([call for call in hub.server.calls if call.startswith("PUT")]) == 1


def test_a_change_meets_a_commit_of_somebody_else(
    hub: HuggingFacePlace, files: Files, better_files: Files
) -> None:
    hub.open().add_version(CLASSIFIER, files)
    page = contents(better_files)["README.md"]
    for theirs in ("notes.txt", "README.md"):
        destination = hub.open()
        destination.read(f"{FOLDER}/README.md")

        def edit(_: object, theirs: str = theirs) -> None:
            hub.server.put(MODEL, {theirs: b"A person's.\n"})

        hub.server.add(edit, COMMIT)
        if theirs == "notes.txt":
            destination.write(f"{FOLDER}/README.md", page)
            assert hub.server.files(MODEL)["README.md"] == page
        else:
            change = contents(files)["README.md"]
            hub.refused(lambda: destination.write(f"{FOLDER}/README.md", change), ConflictError)  # noqa: B023
            assert hub.server.files(MODEL)["README.md"] == b"A person's.\n"
        assert hub.server.files(MODEL)["notes.txt"] == b"A person's.\n"


@pytest.mark.parametrize("tagged", [True, False])
def test_what_somebody_made_under_that_number_is_not_taken(
    tagged: bool, hub: HuggingFacePlace, files: Files
) -> None:
    there = hub.server.put(MODEL, {"a.txt": b"a"} if tagged else {"v1/README.md": b"Mine.\n"})
    there.tags = {"v1": there.head} if tagged else {}
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files), ConflictError)
    expected = "that tag exists and marks something else" if tagged else "holds other files"
    assert expected in message
    assert hub.server.writes == []


def test_a_tag_that_somebody_makes_meanwhile_is_noticed(
    hub: HuggingFacePlace, files: Files
) -> None:
    def mark(_: object) -> None:
        held(hub.server).tags["v1"] = next(iter(held(hub.server).commits))

    hub.server.add(mark, TAG)
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files), ConflictError)
    assert "the tag v1 of sayakpaul/small_classification marks something else" in message


def test_a_model_is_not_put_among_versions_of_another(hub: HuggingFacePlace, files: Files) -> None:
    names = {CLASSIFIER[:-2]: "both", EXTRACTOR[:-2]: "both"}
    target = TARGET.model_copy(update={"names": names})
    hub.open(target).add_version(CLASSIFIER, files)
    second = f"{EXTRACTOR[:-2]}/2"
    others = hub.files(SECOND)
    hub.server.requests.clear()
    message = hub.refused(lambda: hub.open(target).add_version(second, others))
    assert f"{OWNER}/both holds versions of {CLASSIFIER[:-2]}; give {EXTRACTOR[:-2]}" in message
    assert hub.server.writes == []


# A server that lies


@pytest.mark.parametrize(
    ("kind", "call", "complaint"),
    [
        (
            "ignore",
            COMMIT,
            "accepted v1/model.tar.gz but does not hold it as it was sent",
        ),
        (
            "spoil",
            COMMIT,
            "accepted v1/model.tar.gz but does not hold it as it was sent",
        ),
        ("ignore", TAG, "accepted the tag v1 but does not hold it as it was sent"),
        ("ignore", PUT, "Error during lfs-verify"),
        ("spoil", PUT, "Error during lfs-verify"),
    ],
)
def test_success_that_is_none_is_noticed(
    kind: str, call: str, complaint: str, hub: HuggingFacePlace, files: Files
) -> None:
    hub.server.add(kind, call, times=100)
    assert complaint in hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))
    assert hub.open().manifests() == {}


def test_an_archive_that_the_storage_lost_is_noticed(hub: HuggingFacePlace, files: Files) -> None:
    hub.server.add(lambda _: hub.server.objects.clear(), COMMIT)
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))
    assert "an LFS pointer pointed to a file that does not exist" in message
    hub.server.clear()
    hub.run(files)
    assert is_published(hub.server, files)


@pytest.mark.parametrize("name", [".gitattributes", ".gitignore"])
def test_a_repository_that_would_not_keep_the_archive_is_told(
    name: str, hub: HuggingFacePlace, files: Files
) -> None:
    hub.server.put(MODEL, {name: b".gz\n"})
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))
    assert "would not store it as a large file; correct .gitattributes" in message
    assert not [call for call in hub.server.calls if "/commit/" in call]


def test_other_bytes_than_the_hub_says_are_noticed(hub: HuggingFacePlace, files: Files) -> None:
    hub.open().add_version(CLASSIFIER, files)
    hub.server.add("spoil", "/resolve-cache/", times=100)
    message = hub.refused(hub.open().manifests)
    assert "the bytes received are not those that Hugging Face lists" in message


@pytest.mark.parametrize("at", ["tree", "models"])
def test_a_list_that_leads_elsewhere_is_not_followed(
    at: str, hub: HuggingFacePlace, files: Files
) -> None:
    hub.open().add_version(CLASSIFIER, files)
    for number in range(3):
        hub.server.put(f"another-{number}", {})
    hub.server.page, hub.server.next_page = 2, f"{hub.server.storage}/{at}"
    message = hub.refused(hub.open().manifests)
    assert "a redirect to another host, which must not get the token" in message


def test_no_redirect_leads_out_of_http(hub: HuggingFacePlace, files: Files) -> None:
    hub.run(files)
    hub.server.add(302, "/resolve/", headers={"Location": "ftp://127.0.0.1/file"})
    message = hub.refused(lambda: hub.open().read(PAGE))
    assert "it redirects to ftp://127.0.0.1/file, which is not secure" in message


def test_lists_are_read_page_by_page_up_to_a_bound(
    hub: HuggingFacePlace, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.open().add_version(CLASSIFIER, files)
    hub.server.page = 2
    for number in range(5):
        hub.server.put(f"another-{number}", {"config.json": b"{}"})
    assert list(hub.open().manifests()) == [CLASSIFIER]
    monkeypatch.setattr("publisher.destinations.huggingface.destination.MOST_MODELS", 5)
    assert "has more than 5 models" in hub.refused(hub.open().manifests)
    monkeypatch.undo()
    monkeypatch.setattr("publisher.destinations.huggingface.repository.MOST_ENTRIES", 5)
    assert "holds more than 5 files and folders" in hub.refused(
        lambda: hub.open().read(f"{FOLDER}/README.md")
    )


def test_an_endless_answer_is_cut_off(
    hub: HuggingFacePlace, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.open().add_version(CLASSIFIER, files)
    monkeypatch.setattr("publisher.destinations.huggingface.http.LARGEST_ANSWER", 100)
    assert "more than 100 bytes in one answer" in hub.refused(hub.open().manifests)
    monkeypatch.undo()
    monkeypatch.setattr("publisher.destinations.huggingface.repository.MAX_SMALL_FILE", 100)
    message = hub.refused(lambda: hub.open().read(f"{FOLDER}/README.md"))
    assert "and the limit is 100" in message


def test_lists_without_an_end_end(
    hub: HuggingFacePlace, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.destinations.huggingface.http.MOST_REQUESTS", 20)
    for number in range(3):
        hub.server.put(f"another-{number}", {})
    hub.server.page = 0
    assert "more than 20 requests for one call" in hub.refused(hub.open().manifests)


# What else is there


def test_other_repositories_are_passed_over(hub: HuggingFacePlace, files: Files) -> None:
    hub.open().add_version(CLASSIFIER, files)
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
        there = hub.server.put(name, content, owner=owner)
        there.tags |= {tag: there.head for tag in ("v1", "v3") if tag not in there.tags}
    assert list(hub.open().manifests()) == [CLASSIFIER]


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
    damage: Callable[[dict[str, Any]], object], complaint: str, hub: HuggingFacePlace, files: Files
) -> None:
    hub.open().add_version(CLASSIFIER, files)
    damage(held(hub.server).files)
    message = hub.refused(hub.open().manifests)
    assert f"v1 of {OWNER}/{MODEL} is damaged: {complaint}; restore" in message


def test_a_list_that_lags_behind_hides_nothing_that_was_just_published(
    hub: HuggingFacePlace, files: Files
) -> None:
    hub.server.lists = False
    destination = hub.open()
    destination.add_version(CLASSIFIER, files)
    assert list(destination.manifests()) == [CLASSIFIER]


# May one write at all


def fine_grained(name: str, *permissions: str) -> dict[str, Any]:
    scope = {"entity": {"type": "user", "name": name}, "permissions": list(permissions)}
    return {"role": "fineGrained", "fineGrained": {"global": [], "scoped": [scope]}}


def change(**fields: Any) -> Callable[[HubServer], None]:
    def apply(server: HubServer) -> None:
        for name, value in fields.items():
            setattr(server, name, value)

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
    target: Target, access: dict[str, Any], hub: HuggingFacePlace
) -> None:
    hub.server.access = access
    hub.open(target).check()
    assert (hub.server.models, hub.server.calls) == ({}, ["GET /api/whoami-v2"])


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
            [
                "belongs to 'sayakpaul', who is neither google nor in an organization",
                "correct `to`",
            ],
        ),
        (TARGET, {"HF_HUB_OFFLINE": "1"}, change(), ["HF_HUB_OFFLINE is set; unset it"]),
    ],
)
def test_who_may_not_write_is_told_before_any_work(
    target: Target,
    environment: Any,
    apply: Callable[[HubServer], None],
    complaints: list[str],
    hub: HuggingFacePlace,
) -> None:
    apply(hub.server)
    message = hub.refused(hub.open(target, **environment).check)
    for complaint in complaints:
        assert complaint in message
    assert hub.server.models == {}


def test_who_may_not_write_after_all_is_told(hub: HuggingFacePlace, files: Files) -> None:
    hub.server.may_write = False
    message = hub.refused(lambda: hub.open().add_version(CLASSIFIER, files))
    assert "answered 403 (You don't have the rights for this action); let this token" in message


def test_the_token_of_the_librarys_own_store_is_found(hub: HuggingFacePlace, files: Files) -> None:
    path = Path(constants.HF_TOKEN_PATH)
    path.parent.mkdir()
    path.write_text(f"{TOKEN}\n")
    destination = hub.open(HF_TOKEN="")
    destination.check()
    destination.add_version(CLASSIFIER, files)
    assert is_published(hub.server, files)


# The library


def test_the_library_is_left_as_it_was(
    hub: HuggingFacePlace, files: Files, capfd: pytest.CaptureFixture[str]
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
            are_progress_bars_disabled(),
        ]

    before = state()
    hub.open().add_version(CLASSIFIER, files)
    hub.server.add(403, times=100)
    hub.refused(hub.open().manifests)
    assert state() == before
    assert capfd.readouterr() == ("", "")


# The whole flow


def test_the_address_on_the_card_leads_to_the_archive(hub: HuggingFacePlace, files: Files) -> None:
    """As tensorflow_hub asks for it."""
    target = TARGET.model_copy(update={"visibility": "public"})
    hub.open(target).add_version(CLASSIFIER, files)
    address = archive_address(target, CLASSIFIER)
    assert address in hub.server.files(MODEL)["README.md"].decode()
    here = address.replace("https://huggingface.co", hub.server.api) + "?tf-hub-format=compressed"
    with urlopen(here) as answer:
        assert answer.read() == contents(files)["model.tar.gz"]

"""Kaggle: kagglesdk and kagglehub against a server that behaves as Kaggle's does."""

import copy
import itertools
import json
import logging
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kagglehub
import pytest
from kagglesdk import kaggle_env
from kagglesdk.kaggle_env import KaggleEnv
from pytest_httpserver import HTTPServer

from publisher.destinations.base import ConflictError, DestinationError
from publisher.destinations.kaggle.client import KaggleRetry
from publisher.destinations.kaggle.destination import Kaggle
from publisher.destinations.open import open_destination
from publisher.formats.archive import pack
from publisher.pages.kaggle import MODEL_CARD, render_version
from publisher.registry import Registry
from publisher.registry.models import Target
from publisher.release.publish import carry_out
from publisher.util.files import json_bytes, write_whole
from tests.destinations.servers.kaggle import KEY, SIGNATURE, TOKEN, USER, Fault, KaggleServer
from tests.releases import (
    CLASSIFIER,
    EXTRACTOR,
    TEMPLATES,
    Built,
    edited,
    manifest_of,
    prepare,
    registry_of,
)

SLUG, OTHER_SLUG = "small-classification", "small-features"
SECOND = CLASSIFIER.replace("/1", "/2")
TARGET = Target(kind="kaggle", to="sayakpaul/bit")
KEYS = {"KAGGLE_API_ENVIRONMENT": "TEST", "KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}
QUICK = KaggleRetry(
    attempts=3,
    first_pause=0.0,
    longest_pause=0.0,
    connect_timeout=10.0,
    read_timeout=20.0,
    processing=20.0,
    settling=0.1,
    look_again=0.001,
)
WITH_SECOND = edited((f"- handle: {CLASSIFIER}", f"- handle: {SECOND}"))
WEIGHTS = "variables/variables.data-00000-of-00001"
SECRETS = (KEY, TOKEN, SIGNATURE)

Open = Callable[..., Kaggle]


@pytest.fixture(scope="module")
def http() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1", port=0, threaded=True) as http:
        yield http


@pytest.fixture
def server(
    http: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[KaggleServer]:
    server = KaggleServer(http)
    # Its port is fixed in the client; here it is one that is free.
    monkeypatch.setitem(kaggle_env._env_to_endpoint, KaggleEnv.TEST, server.api)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    yield server
    server.released.set()
    http.clear()


@pytest.fixture
def kaggle(server: KaggleServer, tmp_path: Path) -> Open:
    def open_kaggle(
        target: Target = TARGET, *, folder: str = "build", environment: Any = KEYS, **patience: Any
    ) -> Kaggle:
        return Kaggle("kaggle", target, environment, tmp_path / folder, replace(QUICK, **patience))

    return open_kaggle


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path / "registry")


def build(
    registry: Registry,
    folder: Path,
    *,
    only: str = CLASSIFIER,
    weights: bytes = b"weights",
    assets: int = 0,
    model: Path | None = None,
    **facts: Any,
) -> Built:
    """Build variants whose archives are SavedModels in form, of a few made-up bytes.

    Or take a SavedModel that there is.
    """
    built: Built = []
    for variant in registry.variants:
        if only not in variant.handle:
            continue
        place = folder / variant.handle
        files = {
            "saved_model.pb": f"graph of {variant.handle}".encode(),
            "variables/variables.index": b"index",
            WEIGHTS: weights,
            **{f"assets/names{n}.txt": b"cat\n" for n in range(assets)},
        }
        for name, content in files.items() if model is None else ():
            write_whole(place / "model" / name, content)
        place.mkdir(parents=True, exist_ok=True)
        packed = pack(model or place / "model", place / "model.tar.gz")
        manifest = manifest_of(registry, variant, b"", **{"synthetic": False, **facts})
        stated = manifest.archive.model_copy(update=vars(packed))
        manifest = manifest.model_copy(update={"archive": stated})
        write_whole(place / "manifest.json", manifest.as_bytes())
        built.append((variant, manifest, place))
    return built


def files_of(registry: Registry, built: Built, target: Target = TARGET) -> dict[str, Any]:
    """What `add_version` is given for the first of the variants."""
    variant, manifest, place = built[0]
    page = render_version(registry, target, variant, manifest, TEMPLATES)
    return {
        "model.tar.gz": place / "model.tar.gz",
        "manifest.json": manifest.as_bytes(),
        "README.md": page.encode(),
    }


def publish(
    destination: Kaggle, registry: Registry, built: Built, target: Target = TARGET
) -> list[str]:
    """Publish, and return what became of each version."""
    prepared = prepare(registry, built, destination, target=target)
    carry_out(prepared, destination)
    return [change.status for change in prepared.plan.changes]


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*")]


def said_by(error: BaseException | None) -> str:
    """Everything an error says, and those it came from."""
    parts = []
    while error is not None:
        parts += [str(error), repr(error), repr(getattr(error, "args", ()))]
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


def test_a_first_publish_keeps_folders_and_bytes(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built", weights=os.urandom(1 << 16))
    assert publish(kaggle(), registry, built) == ["new"]
    _, manifest, place = built[0]
    model = {
        path.relative_to(place / "model").as_posix(): path.read_bytes()
        for path in (place / "model").rglob("*")
        if path.is_file()
    }
    assert server.files(SLUG) == {**model, "manifest.json": manifest.as_bytes()}
    assert kaggle().manifests() == {CLASSIFIER: manifest}
    assert kaggle().read(f"models/{CLASSIFIER}/manifest.json") == manifest.as_bytes()
    assert left_in(tmp_path / "build") == []


def test_a_second_publish_writes_nothing(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built", only="small")
    assert publish(kaggle(), registry, built) == ["new", "new"]
    before = len(server.writes)
    assert publish(kaggle(), registry, built) == ["unchanged", "unchanged"]
    assert server.writes[before:] == []


@pytest.mark.parametrize("enums", ["MODEL_FRAMEWORK_TENSOR_FLOW_2", "TENSOR_FLOW_2", "tensorFlow2"])
def test_cards_are_read_back_as_they_were_written(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, enums: str
) -> None:
    server.enums = enums
    built = build(registry, tmp_path / "built")
    files = files_of(registry, built)
    kaggle().add_version(CLASSIFIER, files)
    assert kaggle().read(f"models/{CLASSIFIER}/README.md") == files["README.md"]
    card = json.loads(files["README.md"])
    there = server.models[USER, "bit"]["instances"][SLUG]
    assert (there["usage"], there["fineTunable"]) == (card["usage"], True)


def test_the_model_is_made_public_last(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    target = TARGET.model_copy(update={"visibility": "public"})
    publish(kaggle(target), registry, build(registry, tmp_path / "built"), target)
    assert server.writes[0] == "CreateModel"
    assert server.writes[-1] == "UpdateModel"
    created = next(body for body in server.bodies if body.get("slug") == "bit")
    assert created["isPrivate"] is True
    assert server.models[USER, "bit"]["isPrivate"] is False
    assert server.models[USER, "bit"]["title"] == "BiT-ResNet"


def test_a_version_that_is_there_stays_as_it_is(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    publish(kaggle(), registry, build(registry, tmp_path / "built"))
    before, writes = dict(server.files(SLUG)), len(server.writes)
    other = build(registry, tmp_path / "other", weights=b"others")
    with pytest.raises(ConflictError, match=f"{CLASSIFIER} is there already, as version 1"):
        kaggle().add_version(CLASSIFIER, files_of(registry, other))
    assert server.files(SLUG) == before
    assert server.writes[writes:] == []


def test_a_new_version_is_a_new_version_of_the_variation(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    first = build(registry, tmp_path / "built")
    publish(kaggle(), registry, first)
    later = registry_of(tmp_path / "registry", WITH_SECOND)
    second = build(later, tmp_path / "built", only=SECOND, weights=b"better weights")
    assert publish(kaggle(), later, second) == ["new", "left over"]
    assert server.numbers(SLUG) == [1, 2]
    assert kaggle().manifests() == {CLASSIFIER: first[0][1], SECOND: second[0][1]}
    versions = server.models[USER, "bit"]["instances"][SLUG]["versions"]
    digest = second[0][1].archive.sha256
    assert [v["notes"] for v in versions] == ["", f"handle={SECOND} sha256={digest}"]
    card = json.loads(kaggle().read(f"models/{SECOND}/README.md") or b"")
    assert SECOND in card["usage"]


def test_a_changed_page_is_the_only_thing_written(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built")
    publish(kaggle(), registry, built)
    writes = len(server.writes)
    text = edited(("training: Made up.", "training: Made up anew."))
    changed = registry_of(tmp_path / "registry", text)
    again = [(changed.variants[0], *built[0][1:])]
    assert publish(kaggle(), changed, again) == ["page"]
    assert server.writes[writes:] == ["UpdateModelInstance"]
    assert "Made up anew." in server.models[USER, "bit"]["instances"][SLUG]["usage"]


def test_a_withdrawn_version_says_so_and_keeps_its_files(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built")
    publish(kaggle(), registry, built)
    text = edited(
        (f"- handle: {CLASSIFIER}", f"- handle: {CLASSIFIER}\n    withdrawn: It is wrong.")
    )
    withdrawing = registry_of(tmp_path / "registry", text)
    offers: Any = [(withdrawing.variants[0], None, None)]
    assert publish(kaggle(), withdrawing, offers) == ["withdraw"]
    assert publish(kaggle(), withdrawing, offers) == ["withdrawn"]
    instance = server.models[USER, "bit"]["instances"][SLUG]
    assert instance["overview"].startswith(
        f"**Withdrawn: do not use `{CLASSIFIER}`.** It is wrong."
    )
    assert server.numbers(SLUG) == [1]


def test_a_manifest_cannot_be_replaced(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built")
    publish(kaggle(), registry, built)
    path = f"models/{CLASSIFIER}/manifest.json"
    kaggle().write(path, built[0][1].as_bytes())
    writes = len(server.writes)
    with pytest.raises(DestinationError, match=r"never changes at Kaggle.*raise the version"):
        kaggle().write(path, built[0][1].model_copy(update={"aliases": ()}).as_bytes())
    assert server.writes[writes:] == []


def run_until(server: KaggleServer, number: int, run: Callable[[], Any]) -> bool:
    """Run while the server dies at that request; return whether it came to that."""
    server.dies_at = len(server.calls) + number
    try:
        run()
    except DestinationError:
        return True
    finally:
        died = len(server.calls) > server.dies_at
        server.dies_at = None
    return died


@pytest.mark.parametrize("first", [True, False], ids=["first version", "second version"])
def test_after_an_interruption_anywhere_a_second_run_finishes(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, first: bool
) -> None:
    built = build(registry, tmp_path / "built")
    wanted = {CLASSIFIER: built[0][1]}
    if not first:
        publish(kaggle(), registry, built)
        registry = registry_of(tmp_path / "registry", WITH_SECOND)
        built = build(registry, tmp_path / "built", only=SECOND)
        wanted[SECOND] = built[0][1]
    server.page = 100
    before = copy.deepcopy(server.models)
    # What comes before the last request for the version is the same for both.
    for number in range(0 if first else 14, 200):
        server.models = copy.deepcopy(before)
        struck = run_until(server, number, lambda: publish(kaggle(attempts=1), registry, built))
        publish(kaggle(), registry, built)
        assert kaggle().manifests() == wanted, number
        assert server.numbers(SLUG) == list(range(1, len(wanted) + 1)), number
        assert left_in(tmp_path / "build") == [], number
        if not struck:
            break
    assert number > 20


def test_an_interrupted_upload_goes_on_where_it_stopped(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built", weights=os.urandom(3 << 20))
    files = files_of(registry, built)
    # The largest file is sent last but one.
    server.faults = [Fault("half", "PUT", skip=2)]
    with pytest.raises(DestinationError, match=f"{WEIGHTS}: no answer.*run again"):
        kaggle(attempts=1).add_version(CLASSIFIER, files)
    kept = next((tmp_path / "build").iterdir())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    # An address is a secret, and kept as long as it is of use.
    parts = json.loads(kept.read_text())["files"]
    assert [name for name, part in parts.items() if part["address"]] == [WEIGHTS]
    sent = dict(server.spans)
    assert sent[Path(WEIGHTS).name] == 3 << 19
    server.spans.clear()
    kaggle().add_version(CLASSIFIER, files)
    assert dict(server.spans)[Path(WEIGHTS).name] == 3 << 19
    assert not {"saved_model.pb", "manifest.json"} & {name for name, _ in server.spans}
    assert server.files(SLUG)[WEIGHTS] == (built[0][2] / "model" / WEIGHTS).read_bytes()
    assert left_in(tmp_path / "build") == []


def test_what_was_kept_of_other_content_is_not_used(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    server.faults = [Fault("half", "PUT", skip=2)]
    with pytest.raises(DestinationError):
        built = build(registry, tmp_path / "built")
        kaggle(attempts=1).add_version(CLASSIFIER, files_of(registry, built))
    other = build(registry, tmp_path / "other", weights=b"others")
    kaggle().add_version(CLASSIFIER, files_of(registry, other))
    assert server.files(SLUG)[WEIGHTS] == b"others"
    assert left_in(tmp_path / "build") == []


def test_what_was_kept_for_too_long_is_not_used(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    files = files_of(registry, build(registry, tmp_path / "built"))
    server.faults = [Fault(403, "CreateModelInstance")]
    with pytest.raises(DestinationError):
        kaggle().add_version(CLASSIFIER, files)
    kept = next((tmp_path / "build").iterdir())
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "began": 0.0}))
    server.spans.clear()
    kaggle().add_version(CLASSIFIER, files)
    assert len(server.spans) == 4


@pytest.mark.parametrize(("status", "sent_again"), [(403, False), (429, False), (400, True)])
def test_what_was_uploaded_is_used_when_the_version_is_refused_at_first(
    server: KaggleServer,
    kaggle: Open,
    registry: Registry,
    tmp_path: Path,
    status: int,
    sent_again: bool,
) -> None:
    files = files_of(registry, build(registry, tmp_path / "built"))
    server.faults = [Fault(status, "CreateModelInstance")]
    with pytest.raises(DestinationError, match=str(status)):
        kaggle(attempts=1).add_version(CLASSIFIER, files)
    server.spans.clear()
    kaggle().add_version(CLASSIFIER, files)
    assert bool(server.spans) == sent_again


def test_bytes_are_sent_over_encrypted_connections_only(
    server: KaggleServer,
    kaggle: Open,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(kaggle_env._env_to_endpoint, KaggleEnv.PROD, server.api)
    files = files_of(registry, build(registry, tmp_path / "built"))
    environment = {**KEYS, "KAGGLE_API_ENVIRONMENT": ""}
    with pytest.raises(DestinationError, match="the address for the upload is not encrypted"):
        kaggle(environment=environment).add_version(CLASSIFIER, files)
    assert "PUT" not in server.calls


@pytest.mark.parametrize("kind", ["drop", "half", "lose", 503, 404, 410])
def test_an_upload_that_fails_once_is_tried_again(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, kind: Any
) -> None:
    server.faults = [Fault(kind, "PUT", skip=1)]
    built = build(registry, tmp_path / "built")
    kaggle().add_version(CLASSIFIER, files_of(registry, built))
    assert kaggle().manifests() == {CLASSIFIER: built[0][1]}


@pytest.mark.parametrize("kind", ["drop", "lose", 429, 500, 503])
@pytest.mark.parametrize("call", ["ListModelInstances", "DOWNLOAD", "FILE", "StartBlobUpload"])
def test_what_can_be_asked_again_is(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, call: str, kind: Any
) -> None:
    server.faults = [Fault(kind, call)]
    built = build(registry, tmp_path / "built")
    assert publish(kaggle(), registry, built) == ["new"]
    assert not server.faults[0].times


def test_the_service_says_how_long_to_wait(
    server: KaggleServer, kaggle: Open, registry: Registry
) -> None:
    paused: list[float] = []
    server.faults = [
        Fault(429, headers={"Retry-After": "7"}),
        Fault(429, headers={"Retry-After": "99999"}),
    ]
    kaggle(sleep=paused.append).manifests()
    assert paused == [7.0, 120.0]


def test_a_request_for_a_version_is_not_repeated_when_it_gets_no_answer(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built")
    files = files_of(registry, built)
    server.faults = [Fault("lose", "CreateModelInstance")]
    with pytest.raises(DestinationError, match=r"no answer.*run again"):
        kaggle().add_version(CLASSIFIER, files)
    assert server.calls.count("CreateModelInstance") == 1
    kaggle().add_version(CLASSIFIER, files)  # it is there meanwhile
    assert server.calls.count("CreateModelInstance") == 1
    assert server.numbers(SLUG) == [1]
    assert left_in(tmp_path / "build") == []


def test_a_version_that_is_still_made_is_waited_for(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    server.delay = 5
    built = build(registry, tmp_path / "built")
    files = files_of(registry, built)
    kaggle().add_version(CLASSIFIER, files)
    assert server.calls.count("ListModelInstanceVersions") > 5
    assert server.numbers(SLUG) == [1]


def test_a_second_run_waits_for_what_the_first_has_asked_for(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    server.delay = 5
    built = build(registry, tmp_path / "built")
    files = files_of(registry, built)
    with pytest.raises(DestinationError, match="shows no such version after 0 s"):
        kaggle(processing=0.0).add_version(CLASSIFIER, files)
    assert kaggle().manifests() == {}
    kaggle(settling=20.0).add_version(CLASSIFIER, files)
    assert server.numbers(SLUG) == [1]


REFUSALS = {
    "credentials": (Fault(401, "CreateModel"), "401.*kaggle.com/settings/api"),
    "no permission": (Fault(403, "CreateModel"), "403.*let this user edit"),
    "no permission to upload": (Fault(403, "StartBlobUpload"), "403.*let this user edit"),
    "the model exists": (Fault(409, "CreateModel"), "409.*somebody else"),
    "a wrong field": (
        Fault("error", "CreateModelInstance", message="Invalid\n license"),
        r"400 \(Invalid license\); look at",
    ),
    "no room": (Fault(413, "PUT"), "413.*free space"),
    "a full disk": (Fault(507, "PUT"), "507.*free space"),
    "a quota": (
        Fault("error", "CreateModelInstance", message="Quota exceeded"),
        r"Quota exceeded\); free space there, or have quota",
    ),
    "an upload that is refused": (Fault(403, "PUT"), "403.*let this user edit"),
    "a broken service": (Fault(500, times=99), "500.*wait a while and run again"),
    "a service that is away": (Fault("drop", times=99), "no answer.*run again"),
    "a broken storage": (Fault(503, "PUT", times=99), "503.*wait a while and run again"),
    "too many requests": (Fault(429, "CreateModelInstance", times=99), "429.*wait a while"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_what_to_do_and_a_second_run_finishes(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, name: str
) -> None:
    fault, message = REFUSALS[name]
    server.faults = [replace(fault)]
    built = build(registry, tmp_path / "built")
    with pytest.raises(DestinationError, match=f"^kaggle: .*{message}") as caught:
        publish(kaggle(), registry, built)
    assert "\n" not in str(caught.value)
    server.faults = []
    publish(kaggle(), registry, built)
    assert kaggle().manifests() == {CLASSIFIER: built[0][1]}
    assert server.numbers(SLUG) == [1]
    assert left_in(tmp_path / "build") == []


@pytest.mark.parametrize("call", ["ListModelInstances", "PUT", "FILE"])
def test_a_stall_ends(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, call: str
) -> None:
    server.faults = [Fault("stall", call, times=99)]
    with pytest.raises(DestinationError, match="timed out"):
        publish(kaggle(attempts=1, read_timeout=0.2), registry, build(registry, tmp_path / "built"))


LIES = {
    "no version": (Fault("ignore", "CreateModelInstance"), "shows no such version"),
    "no bytes": (Fault("ignore", "PUT", skip=2), "its files have"),
    "a byte too few": (Fault("cut", "PUT", skip=2), "its files have"),
    "other bytes": (Fault("corrupt", "PUT", skip=2), f"{WEIGHTS} has other bytes than were sent"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_service_that_claims_success_is_not_believed(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, name: str
) -> None:
    fault, message = LIES[name]
    server.faults = [replace(fault)]
    built = build(registry, tmp_path / "built")
    with pytest.raises(DestinationError, match=message):
        kaggle(processing=0.0).add_version(CLASSIFIER, files_of(registry, built))
    assert kaggle().manifests() == {}
    if server.numbers(SLUG):
        # Not a second one beside it: somebody has to look.
        with pytest.raises(DestinationError, match="remove that version there, and run again"):
            kaggle().add_version(CLASSIFIER, files_of(registry, built))
        assert server.numbers(SLUG) == [1]
        server.models.clear()
    kaggle().add_version(CLASSIFIER, files_of(registry, built))
    assert kaggle().manifests() == {CLASSIFIER: built[0][1]}


@pytest.mark.parametrize("call", ["PUT", "StartBlobUpload"])
def test_of_two_publishers_one_is_told_before_it_makes_a_second_version(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, call: str
) -> None:
    first, second = (build(registry, tmp_path / name, weights=name.encode()) for name in "ab")

    def faster() -> None:
        kaggle(folder="other").add_version(CLASSIFIER, files_of(registry, second))

    server.faults = [Fault(faster, call, skip=2)]
    with pytest.raises(ConflictError, match=f"{CLASSIFIER} is there already"):
        kaggle().add_version(CLASSIFIER, files_of(registry, first))
    assert server.numbers(SLUG) == [1]
    assert kaggle().manifests() == {CLASSIFIER: second[0][1]}


def test_two_publishers_in_the_same_moment_are_told_of_both_versions(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    publish(kaggle(), registry, build(registry, tmp_path / "built"))
    later = registry_of(tmp_path / "registry", WITH_SECOND)
    first, second = (
        build(later, tmp_path / name, only=SECOND, weights=name.encode()) for name in "ab"
    )

    def faster() -> None:
        kaggle(folder="other").add_version(SECOND, files_of(later, second))

    server.faults = [Fault(faster, "CreateModelInstanceVersion")]
    with pytest.raises(ConflictError, match=r"as the versions 2, 3 of .*; 2 counts"):
        kaggle().add_version(SECOND, files_of(later, first))
    assert kaggle().manifests()[SECOND] == second[0][1]


def test_two_publishers_who_make_the_variation_at_once(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    first, second = (build(registry, tmp_path / name, weights=name.encode()) for name in "ab")

    def faster() -> None:
        kaggle(folder="other").add_version(CLASSIFIER, files_of(registry, second))

    server.faults = [Fault(faster, "CreateModelInstance")]
    with pytest.raises(ConflictError, match=r"409.*somebody else"):
        kaggle().add_version(CLASSIFIER, files_of(registry, first))
    assert server.numbers(SLUG) == [1]
    assert kaggle().manifests() == {CLASSIFIER: second[0][1]}


@pytest.mark.parametrize("path", [MODEL_CARD, f"models/{CLASSIFIER}/README.md"])
def test_a_card_that_somebody_changed_since_it_was_read_is_left_alone(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, path: str
) -> None:
    publish(kaggle(), registry, build(registry, tmp_path / "built"))
    ours, theirs = kaggle(), kaggle()
    card = json.loads(ours.read(path) or b"")
    text = "title" if path == MODEL_CARD else "overview"
    theirs.write(path, json_bytes({**card, text: "Theirs"}))
    writes = len(server.writes)
    with pytest.raises(ConflictError, match="somebody changed it meanwhile"):
        ours.write(path, json_bytes({**card, text: "Ours"}))
    assert server.writes[writes:] == []
    assert json.loads(ours.read(path) or b"")[text] == "Theirs"
    ours.write(path, json_bytes({**card, text: "Ours"}))
    assert json.loads(ours.read(path) or b"")[text] == "Ours"


def test_a_card_that_is_not_shown_as_it_was_written_is_noticed(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    publish(kaggle(), registry, build(registry, tmp_path / "built"))
    path = f"models/{CLASSIFIER}/README.md"
    card = json.loads(kaggle().read(path) or b"")
    server.faults = [Fault("ignore", "UpdateModelInstance")]
    with pytest.raises(DestinationError, match=r"shows it otherwise \(overview\)"):
        kaggle().write(path, json_bytes({**card, "overview": "New"}))


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b"# Markdown", f"models/{CLASSIFIER}/README.md"),
        (b'{"overview": "x"}', f"models/{CLASSIFIER}/README.md"),
        (b"[]", MODEL_CARD),
    ],
)
def test_what_is_no_card_is_not_written(
    server: KaggleServer,
    kaggle: Open,
    registry: Registry,
    tmp_path: Path,
    content: bytes,
    path: str,
) -> None:
    publish(kaggle(), registry, build(registry, tmp_path / "built"))
    writes = len(server.writes)
    with pytest.raises(DestinationError, match="is no card with the fields"):
        kaggle().write(path, content)
    assert server.writes[writes:] == []


def test_an_older_version_does_not_come_behind_a_newer_one(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    later = registry_of(tmp_path / "registry", WITH_SECOND)
    publish(kaggle(), later, build(later, tmp_path / "built", only=SECOND))
    writes = len(server.writes)
    with pytest.raises(DestinationError, match="people get what was uploaded last"):
        files = files_of(registry, build(registry, tmp_path / "built"))
        kaggle().add_version(CLASSIFIER, files)
    assert server.writes[writes:] == []


def test_two_models_do_not_share_a_variation(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    target = TARGET.model_copy(update={"names": {EXTRACTOR.rpartition("/")[0]: SLUG}})
    publish(kaggle(target), registry, build(registry, tmp_path / "built"), target)
    with pytest.raises(DestinationError, match="give sayakpaul/small_features another name"):
        built = build(registry, tmp_path / "built", only=EXTRACTOR)
        publish(kaggle(target), registry, built, target)
    assert server.numbers(SLUG) == [1]


def test_a_model_has_the_name_that_models_yaml_gives_it(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    target = TARGET.model_copy(update={"names": {CLASSIFIER.rpartition("/")[0]: "r20x0.5"}})
    built = build(registry, tmp_path / "built")
    publish(kaggle(target), registry, built, target)
    assert server.numbers("r20x0.5") == [1]
    assert kaggle(target).manifests() == {CLASSIFIER: built[0][1]}
    # Under another name it is not what is looked for.
    assert kaggle().manifests() == {}


@pytest.fixture
def in_environment(server: KaggleServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let kagglehub find the server and its credentials, and say nothing."""
    for name, value in {**KEYS, "KAGGLEHUB_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging.getLogger("kagglehub"), "disabled", True)


@pytest.mark.usefixtures("in_environment")
def test_people_download_what_was_published(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    server.page = 100
    built = build(registry, tmp_path / "built", assets=1)
    publish(kaggle(), registry, built)
    folder = Path(kagglehub.model_download(f"sayakpaul/bit/tensorFlow2/{SLUG}"))
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == set(server.files(SLUG))
    assert (folder / WEIGHTS).read_bytes() == b"weights"


@pytest.mark.usefixtures("in_environment")
def test_the_snippet_on_a_card_runs(
    server: KaggleServer,
    kaggle: Open,
    registry: Registry,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import tensorflow as tf

    server.page = 100

    class Mean(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.scale = tf.Variable(1.0)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
        def __call__(self, images: Any) -> Any:
            return self.scale * tf.reduce_mean(images, [1, 2])

    tf.saved_model.save(Mean(), str(tmp_path / "model"))
    write_whole(tmp_path / "model" / "assets" / "names.txt", b"cat\ndog\nowl\n")
    built = build(registry, tmp_path / "built", model=tmp_path / "model")
    publish(kaggle(), registry, built)
    usage = json.loads(kaggle().read(f"models/{CLASSIFIER}/README.md") or b"")["usage"]
    code = usage.partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "<card>", "exec"), {})  # noqa: S102
    said = capsys.readouterr().out.splitlines()
    assert "(1, 3)" in said
    assert {line.split()[-1] for line in said[-3:]} == {"cat", "dog", "owl"}


@pytest.mark.usefixtures("in_environment")
def test_the_same_files_uploaded_with_kagglehub_are_the_same_version(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    variant, manifest, place = build(registry, tmp_path / "built", assets=1)[0]
    with tarfile.open(place / "model.tar.gz") as tar:
        tar.extractall(tmp_path / "model", filter="data")
    write_whole(tmp_path / "model" / "manifest.json", manifest.as_bytes())
    address = f"sayakpaul/bit/tensorFlow2/{SLUG}"
    kagglehub.model_upload(address, str(tmp_path / "model"), "Apache 2.0", "by hand")
    assert kaggle().manifests() == {variant.handle: manifest}
    kagglehub.model_upload(address, str(tmp_path / "model"), "Apache 2.0", "and again")
    assert server.numbers(SLUG) == [1, 2]
    assert kaggle().manifests() == {variant.handle: manifest}


@pytest.mark.usefixtures("in_environment")
@pytest.mark.parametrize("manifest", [None, b"", b"{}", b'{"handle": "../../x/1"}'])
def test_what_others_put_there_is_left_alone(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path, manifest: bytes | None
) -> None:
    write_whole(tmp_path / "model" / "saved_model.pb", b"graph")
    if manifest is not None:
        write_whole(tmp_path / "model" / "manifest.json", manifest)
    kagglehub.model_upload(f"sayakpaul/bit/tensorFlow2/{SLUG}", str(tmp_path / "model"))
    assert kaggle().manifests() == {}
    built = build(registry, tmp_path / "built")
    publish(kaggle(), registry, built)
    assert server.numbers(SLUG) == [1, 2]
    assert server.files(SLUG, 1)["saved_model.pb"] == b"graph"
    assert kaggle().manifests() == {CLASSIFIER: built[0][1]}


def test_notes_that_contradict_the_manifest_make_it_no_version(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built")
    publish(kaggle(), registry, built)
    version = server.models[USER, "bit"]["instances"][SLUG]["versions"][0]
    version["notes"] = "Made by hand."
    assert kaggle().manifests() == {CLASSIFIER: built[0][1]}
    version["notes"] = f"handle={CLASSIFIER} sha256={'0' * 64}"
    assert kaggle().manifests() == {}


def test_files_that_come_as_zips_are_read_too(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    server.zips = True
    built = build(registry, tmp_path / "built")
    assert publish(kaggle(), registry, built) == ["new"]
    assert publish(kaggle(), registry, built) == ["unchanged"]


def test_a_storage_that_tells_no_checksums_is_held_to_sizes(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    server.tells_hashes = False
    built = build(registry, tmp_path / "built")
    assert publish(kaggle(), registry, built) == ["new"]
    assert kaggle().manifests() == {CLASSIFIER: built[0][1]}


def test_answers_are_read_up_to_a_bound(
    server: KaggleServer,
    kaggle: Open,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(kaggle(), registry, build(registry, tmp_path / "built"))
    monkeypatch.setattr("publisher.destinations.kaggle.service.LARGEST", 1000)
    with pytest.raises(DestinationError, match="more than 1,000 bytes"):
        kaggle().manifests()
    monkeypatch.setattr("publisher.destinations.kaggle.versions.LARGEST", 1000)
    assert kaggle().manifests() == {}
    monkeypatch.undo()


def test_no_redirect_leads_out_of_http(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    publish(kaggle(), registry, build(registry, tmp_path / "built"))
    server.faults = [Fault(302, "DOWNLOAD", headers={"Location": "ftp://127.0.0.1/file"})]
    with pytest.raises(DestinationError, match=r"redirects to ftp://.*, which is not secure"):
        kaggle().manifests()


def test_a_list_without_end_is_given_up(
    server: KaggleServer,
    kaggle: Open,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(kaggle(), registry, build(registry, tmp_path / "built"))
    server.page = 0
    monkeypatch.setattr("publisher.destinations.kaggle.service.MOST_PAGES", 3)
    with pytest.raises(DestinationError, match="more than 3 pages"):
        kaggle().manifests()


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"instances": 1},
        {"instances": [{"slug": 1}]},
        {"instances": [{"framework": "unheard-of"}]},
        {"instances": ["x"]},
    ],
)
def test_an_answer_of_another_kind_is_no_traceback(
    server: KaggleServer, kaggle: Open, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.models[USER, "bit"] = {"instances": {}}
    monkeypatch.setattr(server, "_list_model_instances", lambda body: answer)
    try:
        assert kaggle().manifests() == {}
    except DestinationError as error:
        assert "not understood" in str(error)


def test_more_files_than_kaggle_takes_one_by_one_are_refused(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    files = files_of(registry, build(registry, tmp_path / "built", assets=50))
    with pytest.raises(DestinationError, match="54 files, and Kaggle takes 50"):
        kaggle().add_version(CLASSIFIER, files)
    assert "CreateModelInstance" not in server.calls


@pytest.mark.parametrize(
    ("unpacked", "content", "message"),
    [(1, None, "unpacks to .* where the manifest states 1"), (0, b"no tar", "cannot be read")],
)
def test_an_archive_is_looked_at_before_it_is_unpacked(
    server: KaggleServer,
    kaggle: Open,
    registry: Registry,
    tmp_path: Path,
    unpacked: int,
    content: bytes | None,
    message: str,
) -> None:
    built = build(registry, tmp_path / "built")
    if content is not None:
        (built[0][2] / "model.tar.gz").write_bytes(content)
    variant, manifest, place = built[0]
    stated = manifest.archive.model_copy(update={"unpacked_size": unpacked})
    built = [(variant, manifest.model_copy(update={"archive": stated}), place)]
    with pytest.raises(DestinationError, match=message):
        kaggle().add_version(CLASSIFIER, files_of(registry, built))
    assert server.writes == []
    assert left_in(tmp_path / "build") == []


def test_a_signature_lies_beside_the_manifest(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built")
    kaggle().add_version(CLASSIFIER, {**files_of(registry, built), "model.sig": b"signed"})
    assert server.files(SLUG)["model.sig"] == b"signed"
    assert kaggle().manifests() == {CLASSIFIER: built[0][1]}
    assert kaggle().read(f"models/{CLASSIFIER}/model.sig") == b"signed"
    assert kaggle().read(f"models/{CLASSIFIER}/provenance.json") is None


CREDENTIALS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "name and key": (KEYS, {}),
    "token": ({"KAGGLE_API_TOKEN": TOKEN}, {}),
    "token in a file": ({"KAGGLE_API_TOKEN": "token"}, {"token": TOKEN}),
    "token kept by the client": ({}, {"home/.kaggle/access_token": f"{TOKEN}\n"}),
    "key kept by the client": (
        {},
        {"home/.kaggle/kaggle.json": json.dumps({"username": USER, "key": KEY})},
    ),
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_are_found_where_kaggles_clients_find_them(
    server: KaggleServer,
    kaggle: Open,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    environment, files = CREDENTIALS[name]
    for path, content in files.items():
        write_whole(tmp_path / path, content.encode())
    monkeypatch.chdir(tmp_path)
    kaggle(environment={"KAGGLE_API_ENVIRONMENT": "TEST", **environment}).check()
    assert server.writes == []
    assert left_in(tmp_path / "build") == []


BAD_CREDENTIALS = {
    "none": ({}, "no credentials for Kaggle; set KAGGLE_API_TOKEN, or KAGGLE_USERNAME"),
    "half": ({"KAGGLE_USERNAME": USER}, "no credentials for Kaggle"),
    "a wrong key": ({"KAGGLE_USERNAME": USER, "KAGGLE_KEY": "wrong-key-1"}, "401.*new token"),
    "a wrong token": ({"KAGGLE_API_TOKEN": "wrong-token-1"}, "401.*new token"),
}


@pytest.mark.parametrize("name", BAD_CREDENTIALS)
def test_missing_and_wrong_credentials_are_told_apart(
    server: KaggleServer, kaggle: Open, name: str
) -> None:
    environment, message = BAD_CREDENTIALS[name]
    with pytest.raises(DestinationError, match=message) as caught:
        kaggle(environment={"KAGGLE_API_ENVIRONMENT": "TEST", **environment}).check()
    assert "-1" not in said_by(caught.value)


def test_an_environment_of_kaggles_that_is_not_known(kaggle: Open) -> None:
    with pytest.raises(DestinationError, match="KAGGLE_API_ENVIRONMENT"):
        kaggle(environment={"KAGGLE_API_ENVIRONMENT": "STAGING"})


def test_a_model_of_another_owner_has_to_be_there(server: KaggleServer, kaggle: Open) -> None:
    target = TARGET.model_copy(update={"to": "an-organization/bit"})
    with pytest.raises(DestinationError, match="sayakpaul sees no model an-organization/bit"):
        kaggle(target).check()
    server.models["an-organization", "bit"] = {"isPrivate": True, "instances": {}}
    kaggle(target).check()
    assert server.writes == []


def test_a_public_model_does_not_become_private(
    server: KaggleServer, kaggle: Open, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "built")
    public = TARGET.model_copy(update={"visibility": "public"})
    publish(kaggle(public), registry, built, public)
    kaggle(public).check()
    with pytest.raises(DestinationError, match="is public at Kaggle and would become private"):
        kaggle().check()
    with pytest.raises(DestinationError, match="is public at Kaggle and would become private"):
        publish(kaggle(), registry, built)
    assert server.models[USER, "bit"]["isPrivate"] is False


def test_no_secret_is_told_or_kept(
    server: KaggleServer,
    kaggle: Open,
    registry: Registry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, "werkzeug")  # the server's own
    built = build(registry, tmp_path / "built")
    said = ""
    calls = ("CreateModel", "PUT", "StartBlobUpload", "CreateModelInstance", "FILE")
    for call, kind in itertools.product(calls, ("drop", "half", 500, 403, "stall")):
        token = {"KAGGLE_API_TOKEN": TOKEN} if kind in ("drop", 403) else {}
        message = f"not with {token.get('KAGGLE_API_TOKEN', KEY)}"
        server.faults = [Fault(kind, call, message=message, times=99)]
        server.models.clear()
        try:
            opened = kaggle(environment={**KEYS, **token}, attempts=1, read_timeout=0.1)
            publish(opened, registry, built)
        except DestinationError as error:
            said += said_by(error)
            kept = [path for path in (tmp_path / "build").rglob("*") if path.is_file()]
            assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)
    server.faults, server.models = [], {}
    publish(kaggle(), registry, built)
    captured = capfd.readouterr()
    everything = [said, captured.out, captured.err, caplog.text, json.dumps(server.bodies)]
    everything += [path.read_text() for path in (tmp_path / "build").rglob("*") if path.is_file()]
    assert "***" in said
    assert [secret for secret in SECRETS for text in everything if secret in text] == []
    assert captured.out == ""


def test_models_yaml_leads_to_it(registry: Registry, tmp_path: Path) -> None:
    registry = registry.model_copy(update={"destinations": {"public": TARGET}})
    opened = open_destination(registry, "public", KEYS, tmp_path / "build")
    assert (opened.name, opened.style, opened.local) == ("public", "kaggle", False)
    assert opened.holds_versions
    assert opened.shares_page
    assert opened.seals_versions
    assert not opened.holds_index

"""What holds for a release in a bucket, whosever it is, against servers on loopback."""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from publisher.destinations.base import ConflictError, DestinationError
from publisher.destinations.bucket.objects import (
    LARGEST_SMALL,
    Begun,
    Objects,
    Source,
    Stored,
    headers_of,
    settings,
)
from publisher.destinations.local.directory import Directory
from publisher.destinations.open import open_destination
from publisher.destinations.sessions import Sessions
from publisher.registry import Registry
from publisher.release.catalogue import load
from publisher.release.sources.open import open_source
from tests.destinations.conftest import (
    FOLDER,
    LARGE,
    MODEL,
    PART,
    PREFIX,
    SMALL,
    Bucket,
    Files,
    stored,
)
from tests.destinations.faulty import WRITES, Answer, Request
from tests.releases import (
    CLASSIFIER,
    HANDLES,
    REGISTRY,
    build,
    manifest_of,
    publish,
    registry_of,
    tree,
)

NAMES = ("README.md", "manifest.json", "model.tar.gz")


def whole(destination: Objects) -> Any:
    """Return what the destination lists of the one version."""
    return destination.manifests().get(CLASSIFIER)


# A new version


def test_it_is_a_destination_of_whole_releases(bucket: Bucket) -> None:
    destination = bucket.open()
    assert (destination.name, destination.style, destination.local) == ("bucket", "tfhub", False)
    assert destination.holds_versions
    assert destination.holds_index
    assert not destination.shares_page
    assert not destination.seals_versions
    assert bucket.proxy.requests == []


@pytest.mark.parametrize("archive", [SMALL, LARGE], ids=["in one request", "in parts"])
def test_a_version_is_stored_byte_for_byte(
    archive: bytes, bucket: Bucket, made: Callable[..., Files], tmp_path: Path
) -> None:
    files = made(archive) | {"model.sig": b"signed", "bom.json": b"{}"}
    destination = bucket.open(part=PART)
    destination.check()
    assert destination.manifests() == {}
    destination.add_version(CLASSIFIER, files)
    assert bucket.contents() == stored(files)
    assert whole(bucket.open()).as_bytes() == files["manifest.json"]
    assert destination.read(f"{FOLDER}/README.md") == files["README.md"]
    assert destination.read(f"{FOLDER}/provenance.json") is None
    assert bucket.uploads() == []
    assert tree(tmp_path / "folder") == {}


def test_the_manifest_is_stored_last_and_the_page_before_it(
    bucket: Bucket, made: Callable[..., Files]
) -> None:
    files = dict(reversed(made().items()))
    bucket.open().add_version(CLASSIFIER, files)
    order = [name for line in bucket.proxy.writes() for name in NAMES if name in line]
    if bucket.proxy.writes()[0].startswith("POST"):  # whose names are in the bodies
        bodies = [request.body for request in bucket.proxy.requests if request.method in WRITES]
        order = [name for body in bodies for name in NAMES if f"/{name}".encode() in body[:2000]]
    assert order[-1] == "manifest.json"
    assert sorted(order) == sorted(NAMES)


@pytest.mark.parametrize("archive", [SMALL, LARGE], ids=["in one request", "in parts"])
def test_archives_are_kept_for_ever_and_pages_are_not(
    archive: bytes, bucket: Bucket, made: Callable[..., Files]
) -> None:
    destination = bucket.open(part=PART)
    destination.add_version(CLASSIFIER, made(archive))
    destination.write("SHA256SUMS", b"sums\n")
    kinds = {
        f"{FOLDER}/model.tar.gz": ("application/gzip", "public, max-age=31536000, immutable"),
        f"{FOLDER}/manifest.json": ("application/json", "no-cache"),
        f"{FOLDER}/README.md": ("text/markdown; charset=utf-8", "no-cache"),
        "SHA256SUMS": ("text/plain; charset=utf-8", "no-cache"),
    }
    for path, (kind, control) in kinds.items():
        assert bucket.headers(f"{PREFIX}/{path}") == {
            "Content-Type": kind,
            "Cache-Control": control,
            "Content-Encoding": None,
        }


def test_a_second_upload_does_nothing(bucket: Bucket, made: Callable[..., Files]) -> None:
    files = made()
    bucket.open().add_version(CLASSIFIER, files)
    bucket.proxy.clear()
    destination = bucket.open()
    assert whole(destination)
    for name in ("README.md", "manifest.json"):
        destination.write(f"{FOLDER}/{name}", bytes(files[name]))  # type: ignore[arg-type]
    assert bucket.proxy.writes() == []


@pytest.mark.parametrize("archive", [SMALL, b"others"], ids=["the same", "another"])
def test_a_version_that_is_there_is_never_touched(
    archive: bytes, bucket: Bucket, made: Callable[..., Files]
) -> None:
    files = made()
    bucket.open().add_version(CLASSIFIER, files)
    bucket.proxy.clear()
    with pytest.raises(ConflictError, match="a published version never changes: raise"):
        bucket.open().add_version(CLASSIFIER, made(archive, "other"))
    with pytest.raises(DestinationError, match="a published archive never changes"):
        bucket.open().write(f"{FOLDER}/model.tar.gz", b"others")
    assert bucket.proxy.writes() == []
    assert bucket.contents() == stored(files)


def test_an_archive_that_is_not_its_manifests_is_not_sent(
    bucket: Bucket, made: Callable[..., Files]
) -> None:
    files = made() | {"manifest.json": made(b"others", "other")["manifest.json"]}
    with pytest.raises(DestinationError, match=r"tar\.gz: is not the archive .*; build the"):
        bucket.open().add_version(CLASSIFIER, files)
    with pytest.raises(DestinationError, match=r"1: manifest\.json\..*; build the variant again"):
        bucket.open().add_version(CLASSIFIER, files | {"manifest.json": b"{}"})
    files["model.tar.gz"] = Path("not-there.tar.gz")
    with pytest.raises(DestinationError, match=r"not-there\.tar\.gz: cannot be read"):
        bucket.open().add_version(CLASSIFIER, files)
    assert bucket.contents() == {}


@pytest.mark.parametrize("path", ["../index.json", "/index.json", "a//b", "a/.hidden", "a b", ""])
def test_no_path_leads_out_of_the_release(path: str, bucket: Bucket) -> None:
    destination = bucket.open()
    with pytest.raises(DestinationError, match="no path within a release"):
        destination.read(path)
    with pytest.raises(DestinationError, match="no path within a release"):
        destination.write(path, b"")
    with pytest.raises(DestinationError, match="no path within a release"):
        destination.add_version(path, {"model.tar.gz": b"", "manifest.json": b""})
    assert bucket.proxy.requests == []


def test_a_bucket_without_prefix_holds_the_release_at_its_top(
    bucket: Bucket, made: Callable[..., Files]
) -> None:
    target = bucket.target.model_copy(update={"to": bucket.target.to.removesuffix(PREFIX)})
    files = made()
    destination = bucket.open(target=target)
    destination.add_version(CLASSIFIER, files)
    assert {f"/{name}": content for name, content in bucket.contents().items()} == stored(files, "")
    assert whole(destination)


# What is there


def test_only_whole_versions_are_listed(bucket: Bucket, made: Callable[..., Files]) -> None:
    destination = bucket.open()
    for path in ("model.tar.gz", "README.md", "manifest.json.part", "more/manifest.json"):
        bucket.put(f"{PREFIX}/models/a/b/1/{path}", b"{}")
    bucket.put(f"{PREFIX}/models/a/b/0/manifest.json", b"{}")
    bucket.put("models/a/b/1/manifest.json", b"{}")
    assert destination.manifests() == {}
    destination.add_version(CLASSIFIER, made())
    assert list(destination.manifests()) == [CLASSIFIER]


def test_a_release_that_was_copied_there_counts(bucket: Bucket, made: Callable[..., Files]) -> None:
    files = made()
    for path, content in stored(files).items():
        bucket.put(path, content)
    assert whole(bucket.open()).as_bytes() == files["manifest.json"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.tar.gz", None, "the archive is missing where the manifest states 23 bytes"),
        ("model.tar.gz", b"others", "the archive has 6 bytes where the manifest states 23"),
        ("manifest.json", b"{}", r"manifest\.json\.schema_version: Field required"),
        ("manifest.json", b"\xff\x00", r"manifest\.json"),
    ],
)
def test_a_damaged_version_is_named(
    name: str, content: bytes | None, words: str, bucket: Bucket, made: Callable[..., Files]
) -> None:
    destination = bucket.open()
    destination.add_version(CLASSIFIER, made())
    bucket.remove(f"{PREFIX}/{FOLDER}/{name}")
    if content is not None:
        bucket.put(f"{PREFIX}/{FOLDER}/{name}", content)
    with pytest.raises(DestinationError, match=f"{FOLDER} is damaged: {words}.*; restore it"):
        destination.manifests()


def test_an_archive_of_another_digest_than_stated_is_damage(
    bucket: Bucket, made: Callable[..., Files], registry: Registry
) -> None:
    destination = bucket.open()
    destination.add_version(CLASSIFIER, made())
    other = manifest_of(registry, registry.variants[0], SMALL[::-1])
    bucket.put(f"{PREFIX}/{FOLDER}/manifest.json", other.as_bytes())
    with pytest.raises(DestinationError, match="the archive is another one than its manifest"):
        destination.manifests()
    moved = manifest_of(registry, registry.variants[1], SMALL)
    bucket.put(f"{PREFIX}/{FOLDER}/manifest.json", moved.as_bytes())
    with pytest.raises(DestinationError, match="its manifest is that of"):
        destination.manifests()


def test_what_is_no_small_file_is_not_read(bucket: Bucket) -> None:
    bucket.put(f"{PREFIX}/index.json", b" " * (LARGEST_SMALL + 1))
    with pytest.raises(DestinationError, match=r"index\.json: has more than 16,777,216 bytes"):
        bucket.open().read("index.json")


def test_a_bucket_full_of_other_things_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.destinations.bucket.objects.MOST_OBJECTS", 2)
    for number in range(3):
        bucket.put(f"{PREFIX}/models/{number}", b"")
    with pytest.raises(DestinationError, match="more than 2 objects; choose a prefix"):
        bucket.open().manifests()


# Small files


def test_only_the_page_that_changed_is_sent(bucket: Bucket, made: Callable[..., Files]) -> None:
    bucket.open().add_version(CLASSIFIER, made())
    bucket.proxy.clear()
    destination = bucket.open()
    assert destination.read(f"{FOLDER}/README.md") == made()["README.md"]
    destination.write(f"{FOLDER}/README.md", b"# Another page\n")
    assert len(bucket.proxy.writes()) == 1
    assert bucket.contents() == stored(made() | {"README.md": b"# Another page\n"})
    destination.write(f"{FOLDER}/README.md", b"# A third\n")
    assert destination.read(f"{FOLDER}/README.md") == b"# A third\n"


@pytest.mark.parametrize("before", [None, b"one\n"], ids=["nothing there", "something there"])
def test_what_somebody_else_wrote_meanwhile_is_left(before: bytes | None, bucket: Bucket) -> None:
    one, other = bucket.open(), bucket.open()
    if before:
        one.write("index.json", before)
    assert one.read("index.json") == other.read("index.json") == before
    other.write("index.json", b"theirs\n")
    with pytest.raises(ConflictError, match=r"index\.json: somebody else wrote there"):
        one.write("index.json", b"mine\n")
    assert bucket.contents() == {f"{PREFIX}/index.json": b"theirs\n"}
    one.write("index.json", b"theirs\n")
    assert one.read("index.json") == b"theirs\n"
    one.write("index.json", b"mine\n")
    assert other.read("index.json") == b"mine\n"


def test_a_write_right_before_ours_is_left(bucket: Bucket) -> None:
    destination = bucket.open()
    destination.write("index.json", b"one\n")
    call = r"^(PUT .*index\.json|POST )"
    bucket.proxy.add(lambda _: bucket.put(f"{PREFIX}/index.json", b"theirs\n"), call)
    with pytest.raises(ConflictError, match="somebody else"):
        destination.write("index.json", b"mine\n")
    assert bucket.contents() == {f"{PREFIX}/index.json": b"theirs\n"}


# Interruptions


def test_a_run_that_died_anywhere_is_finished_by_the_next(
    bucket: Bucket, made: Callable[..., Files], tmp_path: Path
) -> None:
    dying, living = bucket.open(part=PART, again=False), bucket.open(part=PART)
    for died_after in count():
        handle = f"{MODEL}/{died_after + 1}"
        files = made(LARGE, version=died_after + 1)
        bucket.proxy.clear()
        bucket.proxy.die_after(died_after)
        try:
            dying.add_version(handle, files)
        except DestinationError as error:
            assert "; see to the network and run again" in str(error)
        else:
            break
        bucket.proxy.clear()
        if handle not in living.manifests():
            assert f"{PREFIX}/models/{handle}/manifest.json" not in bucket.contents()
            living.add_version(handle, files)
        assert bucket.contents() == stored(files, handle=handle)
        assert bucket.uploads() == []
        assert tree(tmp_path / "folder") == {}
        for path in bucket.contents():
            bucket.remove(path)
    assert died_after >= 12


def sent(bucket: Bucket) -> int:
    """Return the bytes that the bodies of writing requests had."""
    return sum(len(request.body) for request in bucket.proxy.requests)


def test_what_arrived_before_is_not_sent_again(
    bucket: Bucket, made: Callable[..., Files], tmp_path: Path
) -> None:
    files = made(LARGE)
    # The third request with a part does not arrive, nor does anything later.
    third = r"^PUT .*(partNumber|upload_id)="
    bucket.proxy.add("drop", third, skip=2, times=1000)
    with pytest.raises(DestinationError, match="no answer"):
        bucket.open(part=PART, again=False).add_version(CLASSIFIER, files)
    (kept,) = (tmp_path / "folder").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    bucket.proxy.clear()
    bucket.open(part=PART).add_version(CLASSIFIER, files)
    assert sent(bucket) < PART
    assert bucket.contents() == stored(files)
    bucket.proxy.clear()


def test_an_archive_that_arrived_is_not_sent_again(
    bucket: Bucket, made: Callable[..., Files]
) -> None:
    files = made(SMALL * 10_000)
    page = f"{PREFIX}/{FOLDER}/README.md"
    bucket.proxy.add("drop", r"README\.md", times=1000)
    with pytest.raises(DestinationError):
        bucket.open(again=False).add_version(CLASSIFIER, files)
    assert page not in bucket.contents()
    bucket.proxy.clear()
    bucket.open().add_version(CLASSIFIER, files)
    assert sent(bucket) < 50_000
    assert bucket.contents() == stored(files)


def test_an_upload_that_is_no_longer_known_begins_anew(
    bucket: Bucket, made: Callable[..., Files], tmp_path: Path
) -> None:
    files = made(LARGE)
    path = f"{FOLDER}/model.tar.gz"
    bucket.proxy.add("drop", r"^PUT .*(partNumber|upload_id)=", skip=2, times=1000)
    with pytest.raises(DestinationError):
        bucket.open(part=PART, again=False).add_version(CLASSIFIER, files)
    bucket.proxy.clear()
    sessions = Sessions(tmp_path / "folder", Begun)
    kept = sessions.get(path)
    assert kept is not None
    sessions.put(path, Begun(sha256=kept.sha256, key=f"{kept.key}-unknown"))
    bucket.open(part=PART).add_version(CLASSIFIER, files)
    assert bucket.contents() == stored(files)


def test_an_upload_of_other_content_is_given_up(
    bucket: Bucket, made: Callable[..., Files], tmp_path: Path
) -> None:
    bucket.proxy.add("drop", r"^PUT .*(partNumber|upload_id)=", skip=1, times=1000)
    with pytest.raises(DestinationError):
        bucket.open(part=PART, again=False).add_version(CLASSIFIER, made(LARGE))
    assert len(bucket.uploads()) == 1
    bucket.proxy.clear()
    files = made(LARGE[::-1], "other")
    bucket.open(part=PART).add_version(CLASSIFIER, files)
    assert bucket.contents() == stored(files)
    assert bucket.uploads() == []
    assert tree(tmp_path / "folder") == {}


# Two publishers


def attempt(
    who: str, destination: Objects, handle: str, files: Files, errors: dict[str, DestinationError]
) -> Callable[..., None]:
    """Return what publishes a version, and keeps the error if there is one."""

    def call(*_: Request) -> None:
        try:
            destination.add_version(handle, files)
        except DestinationError as error:
            errors[who] = error

    return call


@pytest.mark.parametrize(
    ("theirs", "patience"),
    [
        (SMALL, timedelta(hours=1)),
        (b"their archive", timedelta(hours=1)),
        (b"their archive", timedelta()),
    ],
    ids=["same archive", "another", "another, without patience"],
)
def test_of_two_publishers_at_once_one_wins(
    theirs: bytes, patience: timedelta, bucket: Bucket, made: Callable[..., Files]
) -> None:
    me = bucket.open(patience=patience, folder="me")
    they = bucket.open(patience=patience, folder="they", address=bucket.upstream)
    winners = set()
    for number in count():
        handle = f"{MODEL}/{number + 1}"
        mine = made(version=number + 1)
        others = made(theirs, "theirs", version=number + 1)
        errors: dict[str, DestinationError] = {}
        bucket.proxy.clear()
        fault = bucket.proxy.add(attempt("they", they, handle, others, errors), skip=number)
        attempt("me", me, handle, mine, errors)()
        if fault.times:
            break
        assert all(isinstance(error, ConflictError) for error in errors.values()), errors
        assert len(errors) == 1 or theirs == SMALL
        there = they.manifests()[handle]  # whole, whoever won
        if len(errors) == 1:
            winner = "me" if "they" in errors else "they"
            winners.add(winner)
            expected = mine if winner == "me" else others
            assert there.as_bytes() == expected["manifest.json"]
    if theirs != SMALL:
        assert winners == {"me", "they"}


def test_a_large_archive_gives_way_to_one_that_came_meanwhile(
    bucket: Bucket, made: Callable[..., Files], tmp_path: Path
) -> None:
    path = f"{PREFIX}/{FOLDER}/model.tar.gz"
    last = r"^(POST .*uploadId=|PUT .*upload_id=)"
    bucket.proxy.add(lambda _: bucket.put(path, b"theirs"), last)
    with pytest.raises(ConflictError, match="somebody else wrote there meanwhile"):
        bucket.open(part=PART).add_version(CLASSIFIER, made(LARGE))
    assert bucket.contents() == {path: b"theirs"}
    assert bucket.uploads() == []
    assert tree(tmp_path / "folder") == {}


def test_a_leftover_with_other_bytes_is_replaced_when_it_is_old(
    bucket: Bucket, made: Callable[..., Files]
) -> None:
    bucket.put(f"{PREFIX}/{FOLDER}/model.tar.gz", b"left over")
    bucket.put(f"{PREFIX}/{FOLDER}/README.md", b"left over")
    with pytest.raises(ConflictError, match=r"tar\.gz: .*; 1:00:00 after it came it is replaced"):
        bucket.open().add_version(CLASSIFIER, made())
    assert bucket.contents()[f"{PREFIX}/{FOLDER}/model.tar.gz"] == b"left over"
    bucket.open(patience=timedelta()).add_version(CLASSIFIER, made())
    assert bucket.contents() == stored(made())


# What servers do


def lie(bucket: Bucket, name: str, content: bytes | None) -> Callable[[Request], Answer]:
    """Return what answers that all went well, and keeps nothing or other bytes."""
    path = f"{PREFIX}/{name}"

    def kind(request: Request) -> Answer:
        answer = bucket.proxy.answer(request, whole=True)
        assert answer is not None
        if path in bucket.contents():
            bucket.remove(path)
            if content is not None:
                bucket.put(path, content)
        return answer

    return kind


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [None, b"others"], ids=["nothing", "others"])
def test_success_is_not_believed(
    name: str, content: bytes | None, bucket: Bucket, made: Callable[..., Files]
) -> None:
    call = "^(PUT|POST)"
    bucket.proxy.add(lie(bucket, f"{FOLDER}/{name}", content), call, times=1000)
    with pytest.raises(DestinationError, match=rf"took {FOLDER}/{re.escape(name)} without"):
        bucket.open().add_version(CLASSIFIER, made())


def test_other_bytes_of_the_same_size_are_noticed(
    bucket: Bucket, made: Callable[..., Files]
) -> None:
    bucket.proxy.add(lie(bucket, f"{FOLDER}/model.tar.gz", SMALL[::-1]), "^(PUT|POST)")
    with pytest.raises(DestinationError, match="does not hold what was sent"):
        bucket.open().add_version(CLASSIFIER, made())
    assert f"{PREFIX}/{FOLDER}/manifest.json" not in bucket.contents()


def test_a_write_that_was_not_kept_is_noticed(bucket: Bucket) -> None:
    destination = bucket.open()
    destination.write("index.json", b"one\n")
    bucket.proxy.add(lie(bucket, "index.json", b"one\n"), "^(PUT|POST)")
    with pytest.raises(DestinationError, match=r"took index\.json without an error and does not"):
        destination.write("index.json", b"two\n")
    assert destination.read("index.json") == b"one\n"


@pytest.mark.parametrize(
    "kind", [Answer(429), Answer(500), Answer(503), "drop", "lose", "cut", "tear"], ids=str
)
def test_what_passes_is_tried_again(kind: Any, bucket: Bucket, made: Callable[..., Files]) -> None:
    files = made(SMALL * 1000)
    bucket.proxy.add(kind, "^(PUT|POST)")
    bucket.proxy.add(kind, r"^GET .*README\.md")
    destination = bucket.open()
    destination.add_version(CLASSIFIER, files)
    assert destination.read(f"{FOLDER}/README.md") == files["README.md"]
    assert bucket.contents() == stored(files)
    assert [fault.times for fault in bucket.proxy.faults] == [0, 0]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Answer(500), "the service answered 500 .*; wait a while and run again"),
        (Answer(429), "the service answered 429 .*; wait a while and run again"),
        ("drop", "no answer .*; see to the network and run again"),
        ("cut", "no answer .*; see to the network and run again"),
    ],
    ids=str,
)
def test_what_does_not_pass_ends(
    kind: Any, said: str, bucket: Bucket, made: Callable[..., Files]
) -> None:
    bucket.proxy.add(kind, "^(PUT|POST)", times=1000)
    with pytest.raises(
        DestinationError, match=rf"bucket: sending {FOLDER}/model\.tar\.gz: .*{said}"
    ):
        bucket.open(again=False).add_version(CLASSIFIER, made())
    assert bucket.contents() == {}


@pytest.mark.parametrize("call", ["^(PUT|POST)", "^GET", "^HEAD|^GET"])
def test_a_stall_ends(call: str, bucket: Bucket, made: Callable[..., Files]) -> None:
    bucket.proxy.add("stall", call, times=1000)
    destination = bucket.open(again=False, timeout=0.1)
    with pytest.raises(DestinationError, match=r"no answer \(timed out\); see to the network"):
        destination.add_version(CLASSIFIER, made())
        destination.manifests()


def test_a_host_that_is_not_there_is_named(bucket: Bucket) -> None:
    destination = bucket.open(address="http://127.0.0.1:1", again=False)
    with pytest.raises(DestinationError, match=r"no answer \(connection refused\); see to the"):
        destination.check()


def test_check_leaves_nothing_behind(bucket: Bucket) -> None:
    destination = bucket.open()
    destination.check()
    destination.check()
    assert bucket.contents() == {}
    assert bucket.uploads() == []


def test_a_bucket_that_is_missing_is_named_with_how_to_make_it(bucket: Bucket) -> None:
    scheme = bucket.target.to.partition(":")[0]
    target = bucket.target.model_copy(update={"to": f"{scheme}://missing/models"})
    with pytest.raises(DestinationError, match=rf"404 .*; see .* {scheme}://missing makes it"):
        bucket.open(target=target).check()
    with pytest.raises(DestinationError, match=f"{scheme}://missing makes it"):
        bucket.open(target=target).manifests()


# The whole flow


def test_a_release_is_published_and_then_nothing_is_left_to_do(
    bucket: Bucket, registry: Registry, tmp_path: Path
) -> None:
    built = build(registry, tmp_path / "variants")
    changes = publish(registry, built, bucket.open(), allow_synthetic=True)
    assert [change.status for change in changes] == ["new"] * 3
    publish(registry, built, Directory(tmp_path / "dist"))
    release = tree(tmp_path / "dist")
    contents = bucket.contents()
    assert contents == {f"{PREFIX}/{path}": content for path, content in release.items()}

    bucket.proxy.clear()
    changes = publish(registry, built, bucket.open(), allow_synthetic=True)
    assert [change.status for change in changes] == ["unchanged"] * 3
    assert bucket.proxy.writes() == []
    assert bucket.contents() == contents

    catalogue = load(open_source(bucket.target.to, bucket.environment))
    assert sorted(catalogue.models) == sorted(HANDLES)


def test_models_yaml_opens_it(bucket: Bucket, tmp_path: Path) -> None:
    place = f"destinations:\n  bucket:\n    kind: {bucket.kind}\n    to: {bucket.target.to}\n"
    registry = registry_of(tmp_path / "with", f"{REGISTRY}{place}")
    destination = open_destination(registry, "bucket", {}, tmp_path / "folders")
    assert destination.name == "bucket"
    assert bucket.proxy.requests == []


def test_only_archives_may_be_cached() -> None:
    assert "immutable" in headers_of("models/a/b/1/model.tar.gz").cache_control
    for path in ("index.json", "SHA256SUMS", "models/a/b/1/model.sig", "tfhub.dev/a.md"):
        assert headers_of(path).cache_control == "no-cache"


@pytest.mark.parametrize(
    ("size", "sha256", "digest", "same"),
    [
        (3, "ab", "d1", True),
        (3, "", "", True),
        (4, "ab", "d1", False),
        (3, "cd", "d1", False),
        (3, "ab", "d2", False),
        (3, "cd", "", False),
        (3, "", "d2", False),
    ],
)
def test_an_object_is_known_by_all_that_its_service_tells(
    size: int, sha256: str, digest: str, same: bool
) -> None:
    stored = Stored(size, "tag", datetime.now(UTC), sha256, digest)
    assert stored.is_that(Source(b"abc", 3, "ab", "d1")) is same


def test_a_client_library_sees_only_the_settings_that_were_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ODD_ONE", "of this process")
    monkeypatch.setenv("ODD_TWO", "of this process")
    monkeypatch.setenv("OTHER", "of this process")
    before = dict(os.environ)
    with settings({"ODD_ONE": "given", "OTHER": "given", "ODD_NEW": "given"}, "ODD_"):
        there = {name: value for name, value in os.environ.items() if name[:3] in ("ODD", "OTH")}
    assert there == {"ODD_ONE": "given", "ODD_NEW": "given", "OTHER": "of this process"}
    assert dict(os.environ) == before
    with settings(os.environ, "ODD_"):
        assert dict(os.environ) == before
    with pytest.raises(ZeroDivisionError), settings({}, "ODD_"):
        raise ZeroDivisionError
    assert dict(os.environ) == before

"""What holds for a release in a bucket, whosever it is, and nowhere else."""

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from publisher.destinations.base import ConflictError, Payload
from publisher.destinations.bucket.objects import (
    MAX_SMALL_FILE,
    Stored,
    headers_of,
    in_os_environ,
)
from publisher.registry import Registry
from publisher.release.catalogue import load
from publisher.release.sources.open import open_source
from tests.destinations.contract import PREFIX, BucketPlace, in_release
from tests.destinations.servers.faulty import ALWAYS, Answer, Request
from tests.destinations.versions import ARCHIVE, FOLDER, MANIFEST, PAGE, Files, contents
from tests.releases import CLASSIFIER, HANDLES, build, manifest_of, publish

NAMES = ("README.md", "manifest.json", "model.tar.gz")
WHOLE = 8 << 20  # bytes of a part that holds all
PARTS = r"^PUT .*(partNumber|upload_id)="


def stored(files: Files, prefix: str = f"{PREFIX}/") -> dict[str, bytes]:
    """Return what a bucket holds of a version."""
    return {f"{prefix}{path}": content for path, content in in_release({CLASSIFIER: files}).items()}


@pytest.mark.parametrize("part", [WHOLE, 256 << 10], ids=["in one request", "in parts"])
def test_archives_are_kept_for_ever_and_pages_are_not(
    part: int, bucket: BucketPlace, files: Files
) -> None:
    there = bucket.open(part=part)
    there.add_version(CLASSIFIER, files)
    there.write("SHA256SUMS", b"sums\n")
    assert bucket.objects() == {**stored(files), f"{PREFIX}/SHA256SUMS": b"sums\n"}
    kinds = {
        ARCHIVE: ("application/gzip", "public, max-age=31536000, immutable"),
        MANIFEST: ("application/json", "no-cache"),
        PAGE: ("text/markdown; charset=utf-8", "no-cache"),
        "SHA256SUMS": ("text/plain; charset=utf-8", "no-cache"),
    }
    for path, (kind, control) in kinds.items():
        assert bucket.headers(f"{PREFIX}/{path}") == {
            "Content-Type": kind,
            "Cache-Control": control,
            "Content-Encoding": None,
        }


def test_the_manifest_is_stored_last(bucket: BucketPlace, files: Files) -> None:
    backwards = dict(reversed(files.items()))
    order: list[str] = []
    with bucket.watched(lambda _: order.extend(set(bucket.objects()) - set(order))):
        bucket.open().add_version(CLASSIFIER, backwards)
    assert order[-1] == f"{PREFIX}/{MANIFEST}"
    assert sorted(order) == sorted(stored(files))


def test_what_is_no_version_as_it_should_be_is_not_sent(bucket: BucketPlace, files: Files) -> None:
    odd: Files = {**files, "manifest.json": b"{}"}
    message = bucket.refused(lambda: bucket.open().add_version(CLASSIFIER, odd))
    assert re.search(r"1: manifest\.json\..*; build the variant again", message)
    bucket.run(files)
    message = bucket.refused(lambda: bucket.open().write(ARCHIVE, b"others"))
    assert "a published archive never changes" in message
    assert bucket.objects() == stored(files)


def test_a_bucket_without_prefix_holds_the_release_at_its_top(
    bucket: BucketPlace, files: Files
) -> None:
    target = bucket.target.model_copy(update={"to": bucket.target.to.removesuffix(PREFIX)})
    there = bucket.open(target)
    there.add_version(CLASSIFIER, files)
    assert bucket.objects() == stored(files, "")
    assert list(there.manifests()) == [CLASSIFIER]


# What is there


def test_only_whole_versions_are_listed(bucket: BucketPlace, files: Files) -> None:
    """And one that was copied there is one."""
    for path in ("model.tar.gz", "README.md", "manifest.json.part", "more/manifest.json"):
        bucket.set(f"{PREFIX}/models/a/b/1/{path}", b"{}")
    bucket.set(f"{PREFIX}/models/a/b/0/manifest.json", b"{}")
    bucket.set("models/a/b/1/manifest.json", b"{}")
    assert bucket.open().manifests() == {}
    for path, content in stored(files).items():
        bucket.set(path, content)
    manifest = bucket.open().manifests()[CLASSIFIER].as_bytes()
    assert manifest == contents(files)["manifest.json"]


def test_an_archive_of_another_digest_than_stated_is_damage(
    bucket: BucketPlace, files: Files, registry: Registry
) -> None:
    bucket.run(files)
    archive = contents(files)["model.tar.gz"]
    other = manifest_of(registry, registry.variants[0], archive[::-1])
    bucket.put("manifest.json", other.as_bytes())
    message = bucket.refused(bucket.open().manifests)
    assert "the archive is not the one that its manifest" in message
    moved = manifest_of(registry, registry.variants[1], archive)
    bucket.put("manifest.json", moved.as_bytes())
    assert "its manifest is that of" in bucket.refused(bucket.open().manifests)


def test_what_is_no_small_file_is_not_read(bucket: BucketPlace) -> None:
    bucket.set(f"{PREFIX}/index.json", b" " * (MAX_SMALL_FILE + 1))
    message = bucket.refused(lambda: bucket.open().read("index.json"))
    assert "index.json: has more than 16,777,216 bytes" in message


def test_a_bucket_full_of_other_things_is_refused(
    bucket: BucketPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.destinations.bucket.objects.MOST_OBJECTS", 2)
    for number in range(3):
        bucket.set(f"{PREFIX}/models/{number}", b"")
    message = bucket.refused(bucket.open().manifests)
    assert "more than 2 objects; choose a prefix" in message


def test_a_bucket_that_is_missing_is_named_with_how_to_make_it(bucket: BucketPlace) -> None:
    scheme = bucket.target.to.partition(":")[0]
    there = bucket.open(bucket.target.model_copy(update={"to": f"{scheme}://missing/models"}))
    for call in (there.check, there.manifests):
        message = bucket.refused(call)
        assert re.search(rf"404 .*; check .* {scheme}://missing creates it", message)


def test_everybody_reads_what_was_published(bucket: BucketPlace, registry: Registry) -> None:
    built = build(registry, bucket.folder / "variants", synthetic=False)
    publish(registry, built, bucket.open())
    catalogue = load(open_source(bucket.target.to, bucket.environment))
    assert sorted(catalogue.models) == sorted(HANDLES)


# Small files


def test_what_somebody_wrote_where_nothing_was_is_left(bucket: BucketPlace) -> None:
    one = bucket.open()
    assert one.read("index.json") is None
    bucket.open().write("index.json", b"theirs\n")
    message = bucket.refused(lambda: one.write("index.json", b"mine\n"), ConflictError)
    assert "index.json: another publisher wrote this file" in message
    assert bucket.objects() == {f"{PREFIX}/index.json": b"theirs\n"}


def test_a_write_right_before_ours_is_left(bucket: BucketPlace) -> None:
    there = bucket.open()
    there.write("index.json", b"one\n")
    call = r"^(PUT .*index\.json|POST )"
    bucket.server.add(lambda _: bucket.set(f"{PREFIX}/index.json", b"theirs\n"), call)
    message = bucket.refused(lambda: there.write("index.json", b"mine\n"), ConflictError)
    assert "another publisher" in message
    assert bucket.objects() == {f"{PREFIX}/index.json": b"theirs\n"}


# Uploads that go on


def cut_short(bucket: BucketPlace, files: Files) -> None:
    """Let the last request with a part not arrive, nor anything later."""
    bucket.server.add("drop", PARTS, skip=2, times=ALWAYS)
    message = bucket.refused(lambda: bucket.open(attempts=1).add_version(CLASSIFIER, files))
    assert "; check the network and run again" in message
    assert len(bucket.uploads()) == 1
    bucket.server.clear()


def test_a_large_archive_goes_on_with_the_part_that_is_missing(
    bucket: BucketPlace, files: Files
) -> None:
    cut_short(bucket, files)
    bucket.open().add_version(CLASSIFIER, files)
    parts = [r.body for r in bucket.server.requests if re.search(PARTS, r.line) and r.body]
    assert len(parts) == 1
    assert bucket.objects() == stored(files)
    assert bucket.leftovers() == []


def test_an_upload_that_is_no_longer_known_begins_anew(bucket: BucketPlace, files: Files) -> None:
    cut_short(bucket, files)
    (note,) = (bucket.folder / "kept").iterdir()
    kept = json.loads(note.read_text())
    note.write_text(json.dumps({k: v + ("" if k == "sha256" else "-x") for k, v in kept.items()}))
    bucket.open().add_version(CLASSIFIER, files)
    assert bucket.objects() == stored(files)


@pytest.mark.parametrize("known", [True, False])
def test_an_upload_of_other_content_is_given_up(
    known: bool, bucket: BucketPlace, files: Files, other: Files
) -> None:
    empty = bucket.state()
    cut_short(bucket, files)
    if not known:
        bucket.restore(empty)
    bucket.open().add_version(CLASSIFIER, other)
    assert bucket.objects() == stored(other)
    assert bucket.leftovers() == []


# Two publishers


def test_of_two_publishers_without_patience_one_wins(
    bucket: BucketPlace, files: Files, other: Files
) -> None:
    """The second does all its work right before a request of the first."""
    winners = []
    for number in range(20):
        for path in bucket.objects():
            bucket.set(path, None)
        won: list[Files] = []

        def add(files: Files, kept: str, won: list[Files] = won) -> None:
            try:
                bucket.open(kept=kept, patience=timedelta(), part=WHOLE).add_version(
                    CLASSIFIER, files
                )
                won.append(files)
            except ConflictError:
                pass

        def they(_: Request, add: Callable[..., None] = add) -> None:
            add(other, "theirs")

        bucket.server.clear()
        fault = bucket.server.add(they, skip=number)
        add(files, "kept")
        if fault.times:
            break
        assert len(won) == 1
        winners.append("they" if won == [other] else "I")
        manifest = bucket.open().manifests()[CLASSIFIER].as_bytes()  # whole, whoever won
        assert manifest == contents(won[0])["manifest.json"]
    assert len(winners) >= 3
    assert "they" in winners


def test_a_large_archive_gives_way_to_one_that_came_meanwhile(
    bucket: BucketPlace, files: Files
) -> None:
    last = r"^(POST .*uploadId=|PUT .*upload_id=)"
    bucket.server.add(lambda _: bucket.set(f"{PREFIX}/{ARCHIVE}", b"theirs"), last)
    message = bucket.refused(lambda: bucket.open().add_version(CLASSIFIER, files), ConflictError)
    assert "another publisher wrote this file meanwhile" in message
    assert bucket.objects() == {f"{PREFIX}/{ARCHIVE}": b"theirs"}
    assert bucket.uploads() == []


def test_a_leftover_with_other_bytes_is_replaced_when_it_is_old(
    bucket: BucketPlace, files: Files
) -> None:
    for path in (ARCHIVE, PAGE):
        bucket.set(f"{PREFIX}/{path}", b"left over")
    message = bucket.refused(lambda: bucket.open().add_version(CLASSIFIER, files), ConflictError)
    assert re.search(r"tar\.gz: .*; 1:00:00 after its upload it is replaced", message)
    assert bucket.objects()[f"{PREFIX}/{ARCHIVE}"] == b"left over"
    bucket.open(patience=timedelta()).add_version(CLASSIFIER, files)
    assert bucket.objects() == stored(files)


# A service that lies


def lie(bucket: BucketPlace, path: str, content: bytes | None) -> Callable[[Request], Answer]:
    """Return what answers that all went well, and keeps nothing or other bytes."""

    def kind(request: Request) -> Answer:
        answer = bucket.server.answer(request, "")
        assert isinstance(answer, Answer)
        if f"{PREFIX}/{path}" in bucket.objects():
            bucket.set(f"{PREFIX}/{path}", None)
            if content is not None:
                bucket.set(f"{PREFIX}/{path}", content)
        return answer

    return kind


@pytest.mark.parametrize("path", [ARCHIVE, MANIFEST, PAGE])
@pytest.mark.parametrize("kept", ["nothing", "other bytes"])
def test_success_is_not_believed(path: str, kept: str, bucket: BucketPlace, files: Files) -> None:
    name = path.rpartition("/")[2]
    content = None if kept == "nothing" else contents(files)[name][::-1]
    bucket.server.add(lie(bucket, path, content), "^(PUT|POST)", times=ALWAYS)
    message = bucket.refused(lambda: bucket.open().add_version(CLASSIFIER, files))
    assert f"accepted {path} but does not hold what was sent" in message


def test_a_write_that_was_not_kept_is_noticed(bucket: BucketPlace) -> None:
    there = bucket.open()
    there.write("index.json", b"one\n")
    bucket.server.add(lie(bucket, "index.json", b"one\n"), "^(PUT|POST)")
    message = bucket.refused(lambda: there.write("index.json", b"two\n"))
    assert "accepted index.json but does not" in message
    assert there.read("index.json") == b"one\n"


# What is the same for both


def test_only_archives_may_be_cached() -> None:
    assert "immutable" in headers_of(ARCHIVE).cache_control
    for path in ("index.json", "SHA256SUMS", f"{FOLDER}/model.sig", "tfhub.dev/a.md"):
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
    there = Stored(size, "tag", datetime.now(UTC), sha256, digest)
    assert there.matches(Payload(b"abc", 3, "ab", "d1")) is same


def test_a_client_library_sees_only_the_settings_that_were_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ODD_ONE", "of this process")
    monkeypatch.setenv("ODD_TWO", "of this process")
    monkeypatch.setenv("OTHER", "of this process")
    before = dict(os.environ)
    with in_os_environ({"ODD_ONE": "given", "OTHER": "given", "ODD_NEW": "given"}, "ODD_"):
        there = {name: value for name, value in os.environ.items() if name[:3] in ("ODD", "OTH")}
    assert there == {"ODD_ONE": "given", "ODD_NEW": "given", "OTHER": "of this process"}
    assert dict(os.environ) == before
    with pytest.raises(ZeroDivisionError), in_os_environ({}, "ODD_"):
        raise ZeroDivisionError
    assert dict(os.environ) == before

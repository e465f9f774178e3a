"""The TensorFlow Hub hosting protocol, as its clients and caches see it."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from publisher.hub.errors import HubError
from publisher.hub.settings import Settings
from publisher.release.catalogue import load
from publisher.release.sources.directory import DirectorySource
from publisher.util.files import sha256
from tests.hub.releases import ask, publish_into, served
from tests.releases import CLASSIFIER, EXTRACTOR, HANDLES, OTHER

COMPRESSED = f"/{CLASSIFIER}?tf-hub-format=compressed"
NAME = CLASSIFIER.removesuffix("/1")


@pytest.fixture
def archive(release: Path) -> bytes:
    return (release / "models" / CLASSIFIER / "model.tar.gz").read_bytes()


@pytest.mark.parametrize("handle", HANDLES)
def test_the_archive_comes_whole_and_may_be_kept_for_ever(
    hub: str, release: Path, handle: str
) -> None:
    content = (release / "models" / handle / "model.tar.gz").read_bytes()
    answer = ask(hub, f"/{handle}?tf-hub-format=compressed")
    assert answer.status == 200
    assert answer.body == content
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["etag"] == f'"{sha256(content)}"'
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-encoding" not in answer.headers


def test_the_paths_of_the_release_work_as_well(hub: str, release: Path) -> None:
    for path, kind in (
        (f"models/{EXTRACTOR}/model.tar.gz", "application/gzip"),
        (f"models/{EXTRACTOR}/manifest.json", "application/json"),
        (f"models/{EXTRACTOR}/README.md", "text/markdown; charset=utf-8"),
        ("index.json", "application/json"),
        ("SHA256SUMS", "text/plain; charset=utf-8"),
    ):
        answer = ask(hub, f"/{path}")
        assert (answer.status, answer.headers["content-type"]) == (200, kind), path
        assert answer.body == (release / path).read_bytes(), path
    # hub.load adds the format to whatever address it is given.
    answer = ask(hub, f"/models/{EXTRACTOR}/model.tar.gz?tf-hub-format=compressed")
    assert answer.body == (release / "models" / EXTRACTOR / "model.tar.gz").read_bytes()


@pytest.mark.parametrize("path", [COMPRESSED, f"/{CLASSIFIER}", "/", "/index.json"])
def test_head_tells_what_get_would_say_without_a_body(hub: str, path: str) -> None:
    got, told = ask(hub, path), ask(hub, path, "HEAD")
    assert told.body == b""
    assert (told.status, told.headers | {"date": ""}) == (200, got.headers | {"date": ""})
    assert int(told.headers["content-length"]) == len(got.body)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("{etag}", 304),
        ("W/{etag}", 304),
        ('"other", {etag}', 304),
        ("*", 304),
        ('"other"', 200),
        ("{etag}x", 200),
        ("nonsense", 200),
        ("", 200),
    ],
)
@pytest.mark.parametrize("path", [COMPRESSED, f"/{CLASSIFIER}", "/", "/SHA256SUMS"])
def test_what_a_client_has_is_not_sent_again(hub: str, path: str, header: str, status: int) -> None:
    etag = ask(hub, path).headers["etag"]
    answer = ask(hub, path, if_none_match=header.format(etag=etag))
    assert answer.status == status
    assert answer.headers["etag"] == etag
    assert bool(answer.body) == (status == 200)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-3", 0, 3),
        ("bytes=5-5", 5, 5),
        ("bytes=7-", 7, None),
        ("bytes=7-99999999999999999999999999", 7, None),
        ("bytes=-4", -4, None),
        ("bytes=-99999999999999999999999999", 0, None),
        ("BYTES=0-3", 0, 3),
    ],
)
def test_a_part_of_an_archive_comes_alone(
    hub: str, archive: bytes, asked: str, first: int, last: int | None
) -> None:
    size = len(archive)
    first = first if first >= 0 else size + first
    last = size - 1 if last is None else last
    answer = ask(hub, COMPRESSED, range=asked)
    assert answer.status == 206
    assert answer.body == archive[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert answer.headers["content-length"] == str(len(answer.body))


def test_an_interrupted_download_goes_on_where_it_was(hub: str, archive: bytes) -> None:
    etag = ask(hub, COMPRESSED, "HEAD").headers["etag"]
    start = ask(hub, COMPRESSED, range="bytes=0-19").body
    rest = ask(hub, COMPRESSED, range="bytes=20-", if_range=etag)
    assert rest.status == 206
    assert start + rest.body == archive


@pytest.mark.parametrize(
    "asked", ["bytes={size}-", "bytes=9999999-", f"bytes={'9' * 5000}-", "bytes=-0"]
)
def test_a_part_outside_of_the_archive_is_refused_with_its_size(
    hub: str, archive: bytes, asked: str
) -> None:
    answer = ask(hub, COMPRESSED, range=asked.format(size=len(archive)))
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(archive)}"
    assert "cache-control" in answer.headers
    assert "immutable" not in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=3-1",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1,4-5",
        "bytes=" + ",".join(["0-"] * 1000),
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=\u0661-",
        "pages=0-1",
        "0-1",
    ],
)
def test_what_is_no_single_part_gives_the_whole_archive(
    hub: str, archive: bytes, asked: str
) -> None:
    answer = ask(hub, COMPRESSED, range=asked.encode().decode("latin-1"))
    assert (answer.status, answer.body) == (200, archive)


@pytest.mark.parametrize(
    "condition", ['"other"', "W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT", "{etag}, {etag}", ""]
)
def test_a_part_of_another_archive_is_not_sent(hub: str, archive: bytes, condition: str) -> None:
    etag = ask(hub, COMPRESSED, "HEAD").headers["etag"]
    answer = ask(hub, COMPRESSED, range="bytes=0-3", if_range=condition.format(etag=etag))
    assert (answer.status, answer.body) == (200, archive)


def test_only_get_knows_parts(hub: str, archive: bytes) -> None:
    answer = ask(hub, COMPRESSED, "HEAD", range="bytes=0-3")
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(archive)))


def test_a_client_that_has_the_archive_gets_no_part_of_it(hub: str) -> None:
    etag = ask(hub, COMPRESSED, "HEAD").headers["etag"]
    assert ask(hub, COMPRESSED, if_none_match=etag, range="bytes=0-3").status == 304


def test_the_unpacked_model_is_named_in_the_body(release: Path) -> None:
    with served(release, uncompressed="gs://bucket/unpacked/") as base:
        answer = ask(base, f"/{CLASSIFIER}?tf-hub-format=uncompressed")
        assert (answer.status, answer.text) == (303, f"gs://bucket/unpacked/{CLASSIFIER}")
        assert "location" not in answer.headers
        # This is how tensorflow_hub reads it.
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{base}/{CLASSIFIER}?tf-hub-format=uncompressed")
        assert (caught.value.code, caught.value.read().decode()) == (303, answer.text)


def test_a_hub_without_unpacked_models_says_so(hub: str) -> None:
    answer = ask(hub, f"/{CLASSIFIER}?tf-hub-format=uncompressed")
    assert answer.status == 404
    assert "no unpacked models; ask for tf-hub-format=compressed" in answer.text


@pytest.mark.parametrize("place", ["s3://bucket/a", "gs://", "gs://bucket/a b", "/srv", "gs://B"])
def test_only_a_storage_path_can_hold_unpacked_models(place: str) -> None:
    with pytest.raises(HubError, match="not a storage path"):
        Settings(uncompressed=place)


@pytest.mark.parametrize(
    "query",
    [
        "tf-hub-format=zip",
        "tf-hub-format=",
        "tf-hub-format=compressed&tf-hub-format=compressed",
        "tf-hub-format=Compressed",
        "tf-hub-format=%3Cscript%3E",
    ],
)
def test_an_unknown_format_is_refused_in_plain_text(hub: str, query: str) -> None:
    answer = ask(hub, f"/{CLASSIFIER}?{query}", accept="text/html")
    assert answer.status == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "there are compressed and uncompressed" in answer.text


def test_other_parameters_do_not_matter(hub: str, archive: bytes) -> None:
    assert ask(hub, f"{COMPRESSED}&a=b").body == archive
    assert ask(hub, f"/{CLASSIFIER}?utm=b").headers["content-type"].startswith("text/html")


def test_a_name_without_a_version_leads_to_the_newest_for_now(hub: str) -> None:
    answer = ask(hub, f"/{NAME}?tf-hub-format=compressed")
    assert (answer.status, answer.headers["location"]) == (302, COMPRESSED)
    assert answer.headers["cache-control"] == "no-cache"


def test_the_newest_version_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    root = publish_into(tmp_path / "release", tmp_path / "9", (CLASSIFIER, f"{NAME}/9"))
    publish_into(root, tmp_path / "10", (CLASSIFIER, f"{NAME}/10"))
    with served(root) as base:
        assert ask(base, f"/{NAME}").headers["location"] == f"/{NAME}/10"
        assert ask(base, f"/{NAME}/9?tf-hub-format=compressed").status == 200
        assert ask(base, f"/{NAME}/1").status == 404


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/sayakpaul/old_small", f"/{NAME}"),
        ("/sayakpaul/old_small/1", f"/{CLASSIFIER}"),
        (
            "/sayakpaul/old_small/1?tf-hub-format=compressed&x=%0d%0aa",
            f"{COMPRESSED}&x=%0d%0aa",
        ),
        (f"/{CLASSIFIER}/", f"/{CLASSIFIER}"),
        (f"/{NAME}/?a=b", f"/{NAME}?a=b"),
    ],
)
def test_an_old_spelling_leads_to_the_model_for_good(hub: str, path: str, location: str) -> None:
    answer = ask(hub, path)
    assert (answer.status, answer.headers["location"]) == (301, location)


def test_an_archive_is_found_by_an_old_spelling_without_a_version(hub: str, archive: bytes) -> None:
    """Through two redirects, as the oldest clients follow them."""
    with urllib.request.urlopen(f"{hub}/sayakpaul/old_small?tf-hub-format=compressed") as response:
        assert response.read() == archive


@pytest.mark.parametrize("path", ["/sayakpaul", "/sayakpaul/collections/bit-resnet/1"])
def test_publisher_and_collection_lead_to_the_catalogue(hub: str, path: str) -> None:
    answer = ask(hub, path)
    assert (answer.status, answer.headers["location"]) == (302, "/")


def test_an_alias_that_means_two_models_leads_to_neither(own: Path) -> None:
    index = json.loads((own / "index.json").read_bytes())
    for model in index["models"][:2]:
        model["aliases"] = ["sayakpaul/shared"]
    (own / "index.json").write_text(json.dumps(index))
    with served(own) as base:
        answer = ask(base, "/sayakpaul/shared")
    assert answer.status == 404
    assert "location" not in answer.headers


def test_a_models_own_name_is_no_old_spelling_of_another(own: Path) -> None:
    index = json.loads((own / "index.json").read_bytes())
    [small] = [model for model in index["models"] if model["handle"] == CLASSIFIER]
    small["aliases"] = [OTHER.removesuffix("/1")]
    (own / "index.json").write_text(json.dumps(index))
    assert load(DirectorySource(own)).aliases == {}
    with served(own) as base:
        assert ask(base, f"/{OTHER}").status == 200


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/sayakpaul/small_clasification/1", CLASSIFIER),
        ("/sayakpaul/smal_features", EXTRACTOR),
        (f"/{NAME}/7", CLASSIFIER),
        ("/sayakpaul/old_smal", CLASSIFIER),
    ],
)
def test_what_is_unknown_names_near_handles(hub: str, path: str, near: str) -> None:
    plain = ask(hub, path, accept="*/*")
    assert plain.status == 404
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert f"near ones: {near}" in plain.text
    page = ask(hub, path, accept="text/html,application/xhtml+xml")
    assert page.status == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f'<a href="/{near}">{near}</a>' in page.text
    assert page.headers["vary"] == plain.headers["vary"] == "Accept"


def test_what_is_near_nothing_is_only_unknown(hub: str) -> None:
    assert ask(hub, "/zzz").text == "There is nothing at '/zzz'\n"

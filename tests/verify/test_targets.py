"""What a person named. The archives here are made up: nothing looks into them."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from publisher.errors import PublisherError
from publisher.hub.app import application
from publisher.release.sources.open import open_source
from publisher.util.files import sha256_file
from publisher.verify import targets
from publisher.verify.targets import Target, target_of
from tests.hub.releases import publish_into, served
from tests.releases import CLASSIFIER, EXTRACTOR, HANDLES, OTHER, tree

NAME = CLASSIFIER.removesuffix("/1")
ALIAS = "sayakpaul/old_small"
ARCHIVE = f"models/{CLASSIFIER}/model.tar.gz"
MANIFEST = f"models/{CLASSIFIER}/manifest.json"

Find = Callable[..., Target]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of three models. Not to be changed."""
    folder = tmp_path_factory.mktemp("targets")
    return publish_into(folder / "release", folder / "work")


@pytest.fixture(scope="module")
def hub(whole: Path) -> Iterator[str]:
    with served(whole) as base:
        yield base


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    """The same release, for one test alone."""
    return Path(shutil.copytree(whole, tmp_path / "release"))


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Finds what is meant; downloads go to a folder of their own."""
    folder = tmp_path / "downloads"
    folder.mkdir()

    def run(what: str | Path | None, release: str | Path = "dist", **environment: str) -> Target:
        return target_of(what and str(what), str(release), environment, folder)

    return run


@pytest.fixture
def store(httpserver: HTTPServer, whole: Path) -> dict[str, bytes]:
    """What a plain web host has below `/release/`, by path; tests change it."""
    objects = tree(whole)

    def answer(request: Request) -> Response:
        path = request.path.removeprefix("/release/")
        return Response(objects[path]) if path in objects else Response("nothing", 404)

    httpserver.expect_request(re.compile(".*")).respond_with_handler(answer)
    return objects


def complaint(find: Find, *arguments: str | Path | None) -> str:
    with pytest.raises(PublisherError) as caught:
        find(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# A release


def test_a_directory_is_a_release_with_all_its_archives(whole: Path, find: Find) -> None:
    target = find(None, whole)
    assert target.name == str(whole)
    assert set(target.archives) == set(target.manifests) == set(HANDLES)
    assert target.archives[CLASSIFIER] == whole / ARCHIVE
    assert target.root == whole
    assert target.catalogue is not None


def test_a_release_at_an_address_is_downloaded(
    httpserver: HTTPServer, store: dict[str, bytes], whole: Path, find: Find
) -> None:
    target = find(None, httpserver.url_for("/release/"))
    assert set(target.archives) == set(HANDLES)
    for handle, path in target.archives.items():
        assert path.read_bytes() == store[f"models/{handle}/model.tar.gz"]
        assert whole not in path.parents
    assert target.root is None
    assert target.catalogue is not None


def test_a_hub_is_a_release_at_an_address(hub: str, whole: Path, find: Find) -> None:
    target = find(None, hub)
    assert target.digests[CLASSIFIER] == sha256_file(whole / ARCHIVE)


@pytest.mark.parametrize("prefix", ["gs://bucket/release", "s3://bucket/release/1"])
def test_a_bucket_is_a_release_whatever_its_name_looks_like(
    prefix: str, httpserver: HTTPServer, whole: Path, find: Find
) -> None:
    objects = {f"/{prefix.partition('://')[2]}/{path}": body for path, body in tree(whole).items()}
    httpserver.expect_request(re.compile(".*")).respond_with_handler(
        lambda request: Response(objects.get(request.path), 200 if request.path in objects else 404)
    )
    host = httpserver.url_for("")
    target = find(None, prefix, STORAGE_EMULATOR_HOST=host, AWS_ENDPOINT_URL_S3=host)
    assert set(target.archives) == set(HANDLES)


def test_a_directory_without_an_index_is_no_release(tmp_path: Path, find: Find) -> None:
    assert "holds no index.json, so it is no release; give" in complaint(find, None, tmp_path)


def test_a_directory_in_the_place_of_a_model_is_told_how_it_is_named(
    whole: Path, find: Find
) -> None:
    assert f"for the release in it, give --release {whole}" in complaint(find, whole)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("ftp://host/x", "no release can be read from ftp://"),
        ("https://user:password@host/x", "names no bucket or host"),
    ],
)
def test_an_address_that_can_hold_no_release_is_refused(where: str, said: str, find: Find) -> None:
    assert said in complaint(find, None, where)


# An archive


def test_an_archive_is_described_by_the_manifest_beside_it(whole: Path, find: Find) -> None:
    target = find(whole / ARCHIVE)
    assert target.archives == {CLASSIFIER: whole / ARCHIVE}
    assert target.manifests[CLASSIFIER].handle == CLASSIFIER
    assert target.catalogue is None


def test_an_archive_alone_has_no_manifest_and_says_so(
    whole: Path, tmp_path: Path, find: Find
) -> None:
    alone = shutil.copy(whole / ARCHIVE, tmp_path / "some.tar.gz")
    target = find(alone)
    assert target.archives == {"some.tar.gz": alone}
    assert target.manifests == {}
    assert target.unstated == "no manifest.json lies beside it"


@pytest.mark.parametrize("content", ["", "{}", "[", '{"handle": "a/b/1"}'])
def test_what_is_no_manifest_beside_an_archive_is_refused(
    content: str, own: Path, find: Find
) -> None:
    (own / MANIFEST).write_text(content)
    assert f"{own / MANIFEST}: is no manifest; restore it, or " in complaint(find, own / ARCHIVE)


def test_an_archive_s_own_address_brings_the_manifest_beside_it(
    httpserver: HTTPServer, store: dict[str, bytes], find: Find
) -> None:
    target = find(httpserver.url_for(f"/release/{ARCHIVE}?download=1"))
    assert target.archives[CLASSIFIER].read_bytes() == store[ARCHIVE]
    assert target.manifests[CLASSIFIER].handle == CLASSIFIER
    del store[MANIFEST]
    alone = find(httpserver.url_for(f"/release/{ARCHIVE}"))
    assert list(alone.archives) == ["model.tar.gz"]
    assert alone.unstated == "no manifest.json lies beside it"


# A handle in a release


@pytest.mark.parametrize("written", [CLASSIFIER, NAME, ALIAS, f"{ALIAS}/1"])
def test_a_handle_is_looked_for_in_the_release(written: str, whole: Path, find: Find) -> None:
    target = find(written, whole)
    assert target.name == f"{CLASSIFIER} in {whole}"
    assert target.archives == {CLASSIFIER: whole / ARCHIVE}
    assert list(target.manifests) == [CLASSIFIER]


def test_a_handle_in_a_release_at_an_address_brings_that_archive_only(
    httpserver: HTTPServer, store: dict[str, bytes], find: Find
) -> None:
    target = find(EXTRACTOR, httpserver.url_for("/release"))
    asked = [request.path for request, _ in httpserver.log if request.method == "GET"]
    assert [path for path in asked if path.endswith(".tar.gz")] == [
        f"/release/models/{EXTRACTOR}/model.tar.gz"
    ]
    assert target.archives[EXTRACTOR].read_bytes() == store[f"models/{EXTRACTOR}/model.tar.gz"]


@pytest.mark.parametrize("version", ["/1", "/3", ""])
def test_an_unknown_handle_brings_near_ones(version: str, whole: Path, find: Find) -> None:
    said = complaint(find, f"sayakpaul/smal_clasification{version}", whole)
    assert f"{whole} does not hold it; near ones: {CLASSIFIER}" in said


def test_another_version_brings_those_that_there_are(whole: Path, find: Find) -> None:
    assert f"near ones: {OTHER}" in complaint(find, f"{OTHER.removesuffix('/1')}/7", whole)


def test_a_handle_like_none_is_said_to_be(whole: Path, find: Find) -> None:
    assert "nor anything like it; give a handle" in complaint(find, "x/y/1", whole)


def test_a_handle_without_a_release_says_where_it_was_looked_for(
    find: Find, tmp_path: Path
) -> None:
    said = complaint(find, CLASSIFIER, tmp_path / "dist")
    assert f"{tmp_path}/dist: there is no such directory" in said


@pytest.mark.parametrize("what", ["nowhere", "x.tar.gz", "a/b/0", "a/b/c/1", "A/b/1", "a b"])
def test_what_is_nothing_is_said_to_be_nothing(what: str, find: Find) -> None:
    said = complaint(find, what)
    assert "there is no such file, and it is no handle; give an archive" in said


# The address of a handle


@pytest.mark.parametrize(
    "tail", ["", "/", "?tf-hub-format=compressed", "#usage", "/?tf-hub-format=compressed"]
)
def test_a_handle_s_address_is_what_hub_load_gets_with_the_hub_s_manifest(
    tail: str, hub: str, whole: Path, find: Find
) -> None:
    target = find(f"{hub}/{CLASSIFIER}{tail}")
    assert target.name == f"{hub}/{CLASSIFIER}"
    assert target.digests == {CLASSIFIER: sha256_file(whole / ARCHIVE)}
    assert list(target.manifests) == [CLASSIFIER]


def test_an_old_spelling_at_an_address_leads_to_its_model(hub: str, find: Find) -> None:
    assert list(find(f"{hub}/{ALIAS}/1").manifests) == [CLASSIFIER]


def test_a_hub_that_redirects_to_a_bucket_is_followed(
    httpserver: HTTPServer, store: dict[str, bytes], find: Find
) -> None:
    source = open_source(httpserver.url_for("/release"), {})
    with served(application(source)) as base:
        target = find(f"{base}/{CLASSIFIER}")
    assert target.archives[CLASSIFIER].read_bytes() == store[ARCHIVE]


def test_a_host_with_archives_alone_has_no_manifest_to_give(
    httpserver: HTTPServer, find: Find
) -> None:
    httpserver.expect_request(
        f"/{CLASSIFIER}", query_string="tf-hub-format=compressed"
    ).respond_with_data(b"archive")
    target = find(httpserver.url_for(f"/{CLASSIFIER}"))
    assert target.archives[CLASSIFIER].read_bytes() == b"archive"
    assert target.manifests == {}
    assert target.unstated == "its host has no index.json"


def test_a_hub_whose_manifest_lies_is_not_taken_for_one_without(
    httpserver: HTTPServer, store: dict[str, bytes], find: Find
) -> None:
    store[MANIFEST] = store[MANIFEST].replace(CLASSIFIER.encode(), EXTRACTOR.encode())
    said = complaint(find, httpserver.url_for(f"/release/{CLASSIFIER}"))
    assert "manifest.json: its handle is not the one in index.json" in said


@pytest.mark.parametrize("beside", [False, True])
def test_a_presigned_archive_is_asked_for_with_its_query_which_nothing_shows(
    beside: bool, httpserver: HTTPServer, whole: Path, find: Find
) -> None:
    query = "X-Amz-Signature=5ec%2Fret&a=b"
    httpserver.no_handler_status_code = 404  # at once; 500 would be tried again
    httpserver.expect_request("/model.tar.gz", query_string=query).respond_with_data(b"archive")
    if beside:
        manifest = (whole / MANIFEST).read_bytes()
        httpserver.expect_request("/manifest.json").respond_with_data(manifest)
    target = find(httpserver.url_for(f"/model.tar.gz?{query}#usage"))
    assert [path.read_bytes() for path in target.archives.values()] == [b"archive"]
    assert target.name == httpserver.url_for("/model.tar.gz")
    assert list(target.manifests) == ([CLASSIFIER] if beside else [])


def test_an_unknown_handle_at_a_hub_brings_near_ones(hub: str, find: Find) -> None:
    said = complaint(find, f"{hub}/{NAME}/9")
    assert f"{NAME}/9: {hub} does not hold it; near ones: {CLASSIFIER}" in said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://host/a/b/1", "is no http:// or https:// address"),
        ("https://[::1/a/b/1", "is no address"),
        ("file:///etc/passwd", "is no http:// or https:// address"),
        ("https://host/prefix", "give --release https://host/prefix"),
    ],
)
def test_what_is_no_address_is_said_to_be_none(address: str, said: str, find: Find) -> None:
    assert said in complaint(find, address)


def test_the_name_of_a_host_is_no_part_of_a_handle(find: Find, httpserver: HTTPServer) -> None:
    """`http://localhost/name/1` can only be a release with the prefix `name/1`."""
    address = f"http://localhost:{httpserver.port}/name/1"
    assert f"give --release {address}" in complaint(find, address)
    said = complaint(find, None, address)
    assert "/name/1/index.json" in said


# Reading


def test_each_archive_is_hashed_once(
    whole: Path, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def digest(path: Path) -> str:
        read.append(path)
        return sha256_file(path)

    monkeypatch.setattr(targets, "sha256_file", digest)
    target = find(None, whole)
    assert target.digests == target.digests
    assert sorted(read) == sorted(target.archives.values())

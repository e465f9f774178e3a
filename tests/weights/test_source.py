import hashlib
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_httpserver import HTTPServer

from publisher import weights
from publisher.documents.errors import DocumentError
from publisher.weights import (
    Digest,
    Fetched,
    Retry,
    Source,
    WeightsError,
    digest_file,
    fetch,
    is_synthetic,
    open_npz,
    parse_source,
    read_lock,
    record,
    write_synthetic,
)
from tests.util.http.server import FileServer, status

UPSTREAM = "https://storage.googleapis.com/bit_models/"
NAME = "distill/w.npz"
EXPECTED = {"net/kernel": (3, 3, 4, 16), "net/beta": (16,)}


def npz(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    arrays = {name: rng.normal(size=shape).astype("<f4") for name, shape in EXPECTED.items()}
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


CONTENT = npz(1)
OTHER = npz(2)


# What WEIGHTS may be


@pytest.mark.parametrize(
    ("text", "kind", "base", "remote"),
    [
        (None, "upstream", UPSTREAM, True),
        ("", "upstream", UPSTREAM, True),
        (UPSTREAM, "upstream", UPSTREAM, True),
        ("gs://bit_models", "upstream", UPSTREAM, True),
        ("synthetic", "synthetic", "", False),
        ("gs://b/some/prefix/", "mirror", "https://storage.googleapis.com/b/some/prefix/", True),
        ("http://host:81", "mirror", "http://host:81/", True),
        ("https://host/a/b", "mirror", "https://host/a/b/", True),
        ("https://host/a?sig=1", "mirror", "https://host/a/?sig=1", True),
    ],
)
def test_understands_addresses(text: str | None, kind: str, base: str, remote: bool) -> None:
    source = parse_source(text, UPSTREAM)
    assert (source.kind, source.base, source.remote) == (kind, base, remote)


def test_understands_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "synthetic").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_source(str(tmp_path), UPSTREAM) == Source("directory", str(tmp_path))
    assert parse_source("./synthetic", UPSTREAM).base == str(tmp_path / "synthetic")
    assert not parse_source(".", UPSTREAM).remote


@pytest.mark.parametrize(
    "text", ["no/such/place", "s3://bucket/x", "gs://", "http://", "http://[x"]
)
def test_lists_the_forms_when_it_understands_nothing(text: str) -> None:
    with pytest.raises(WeightsError, match="is not a") as caught:
        parse_source(text, UPSTREAM)
    for form in ("a directory", "https://", "gs://bucket/prefix", "synthetic"):
        assert form in str(caught.value)


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(CONTENT)
    with pytest.raises(WeightsError, match=r"w\.npz is not a directory"):
        parse_source(str(tmp_path / "w.npz"), UPSTREAM)


def test_shows_no_secrets_of_an_address_it_cannot_use() -> None:
    with pytest.raises(WeightsError) as caught:
        parse_source("s3://user:pa55@bucket/x?sig=5ecret", UPSTREAM)
    assert "pa55" not in str(caught.value) and "5ecret" not in str(caught.value)


def test_says_that_upstream_is_wrong() -> None:
    with pytest.raises(WeightsError, match=r"upstream 'bit_models' is not .* models\.yaml"):
        parse_source(None, "bit_models")


# Fetching


class Desk:
    """Calls `fetch` with a cache and a lock file of its own, and keeps the warnings."""

    def __init__(self, folder: Path, retry: Retry) -> None:
        self.cache = folder / "cache"
        self.lock_file = folder / "models.lock.yaml"
        self.warnings: list[str] = []
        self.retry = retry

    def fetch(self, source: Source, **changes: Any) -> Fetched:
        settings: dict[str, Any] = {
            "cache": self.cache,
            "lock_file": self.lock_file,
            "locked": False,
            "warn": self.warnings.append,
            "retry": self.retry,
        }
        name = changes.pop("name", NAME)
        return fetch(source, name, EXPECTED, **(settings | changes))

    def failure(self, source: Source, **changes: Any) -> str:
        with pytest.raises((DocumentError, WeightsError)) as caught:
            self.fetch(source, **changes)
        return str(caught.value)


@pytest.fixture
def desk(tmp_path: Path, retry: Retry) -> Desk:
    return Desk(tmp_path, retry)


@pytest.fixture
def files(server: HTTPServer) -> FileServer:
    return FileServer(server, CONTENT)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    (folder / "distill").mkdir(parents=True)
    (folder / NAME).write_bytes(CONTENT)
    return folder


Place = Callable[[bytes], Source]


@pytest.fixture(params=["upstream", "mirror", "directory"])
def place(request: pytest.FixtureRequest, files: FileServer, directory: Path) -> Place:
    """Puts a content where a source of each kind has it, and returns the source."""

    def put(content: bytes) -> Source:
        files.content = content
        files.etag = f'"{hashlib.sha256(content).hexdigest()}"'
        (directory / NAME).write_bytes(content)
        base = str(directory) if request.param == "directory" else files.base
        return Source(request.param, base)

    return put


def synthetic_content(folder: Path) -> bytes:
    path = folder / "synthetic.npz"
    write_synthetic(path, EXPECTED)
    return path.read_bytes()


def test_the_first_fetch_is_recorded_with_a_warning_of_one_line(desk: Desk, place: Place) -> None:
    fetched = desk.fetch(place(CONTENT))
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.digest == digest_file(fetched.path)
    assert not fetched.synthetic
    assert read_lock(desk.lock_file) == {NAME: fetched.digest}
    (warning,) = desk.warnings
    assert "\n" not in warning
    assert NAME in warning and fetched.digest.sha256 in warning and "commit" in warning


@pytest.mark.parametrize("locked", [True, False])
def test_a_recorded_file_is_taken_in_silence(desk: Desk, place: Place, locked: bool) -> None:
    source = place(CONTENT)
    digest = desk.fetch(source).digest
    desk.warnings.clear()
    before = desk.lock_file.read_bytes()
    assert desk.fetch(source, locked=locked).digest == digest
    assert desk.warnings == []
    assert desk.lock_file.read_bytes() == before


@pytest.mark.parametrize("locked", [True, False])
def test_a_file_that_is_not_the_recorded_one_is_refused(
    desk: Desk, place: Place, tmp_path: Path, locked: bool
) -> None:
    (tmp_path / "recorded").write_bytes(OTHER)
    recorded = digest_file(tmp_path / "recorded")
    record(desk.lock_file, NAME, recorded)
    source = place(CONTENT)
    message = desk.failure(source, locked=locked)
    (tmp_path / "came").write_bytes(CONTENT)
    assert digest_file(tmp_path / "came").sha256 in message
    assert recorded.sha256 in message
    assert "the old file was left alone" in message
    assert "remove the entry from models.lock.yaml and raise the version in models.yaml" in message
    assert read_lock(desk.lock_file) == {NAME: recorded}
    assert not any(desk.cache.rglob("*.npz*"))


@pytest.mark.parametrize("kind", ["upstream", "mirror"])
def test_locked_downloads_nothing_that_is_not_recorded(
    desk: Desk, files: FileServer, kind: Any
) -> None:
    message = desk.failure(Source(kind, files.base), locked=True)
    assert NAME in message
    assert "Run once without --locked, and commit models.lock.yaml" in message
    assert files.requests == []
    assert not desk.lock_file.exists()


def test_locked_takes_nothing_from_a_directory_that_is_not_recorded(
    desk: Desk, directory: Path
) -> None:
    assert "without --locked" in desk.failure(Source("directory", str(directory)), locked=True)
    assert not desk.lock_file.exists()


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_synthetic_contents_are_known_anywhere_and_neither_recorded_nor_compared(
    desk: Desk, place: Place, tmp_path: Path, locked: bool, known: bool
) -> None:
    source = place(synthetic_content(tmp_path))
    recorded = {NAME: Digest(size=1, sha256="ab" * 32)} if known else {}
    for name, digest in recorded.items():
        record(desk.lock_file, name, digest)
    if locked and not known and source.remote:
        assert "without --locked" in desk.failure(source, locked=True)  # it cannot know before
        return
    assert desk.fetch(source, locked=locked).synthetic
    assert read_lock(desk.lock_file) == recorded
    assert desk.warnings == []


def test_a_malformed_lock_file_stops_everything(desk: Desk, place: Place) -> None:
    desk.lock_file.write_text("- a\n")
    assert f"{desk.lock_file}:1: " in desk.failure(place(CONTENT))
    assert desk.lock_file.read_text() == "- a\n"


# Synthetic


@pytest.mark.parametrize("locked", [True, False])
def test_makes_synthetic_weights_and_records_nothing(desk: Desk, locked: bool) -> None:
    fetched = desk.fetch(Source("synthetic", ""), locked=locked)
    assert fetched.path == desk.cache / "synthetic" / NAME
    assert fetched.synthetic
    assert is_synthetic(open_npz(fetched.path))
    assert fetched.digest == digest_file(fetched.path)
    assert not desk.lock_file.exists()
    assert desk.warnings == []


def test_makes_synthetic_weights_anew(desk: Desk) -> None:
    source = Source("synthetic", "")
    first = desk.fetch(source)
    first.path.write_bytes(b"spoiled")
    assert desk.fetch(source) == first


# Directories


def test_uses_the_files_of_a_directory_in_place(desk: Desk, directory: Path) -> None:
    fetched = desk.fetch(Source("directory", str(directory)))
    assert fetched.path == directory / NAME
    assert not desk.cache.exists()


def test_follows_symbolic_links(desk: Desk, directory: Path, tmp_path: Path) -> None:
    (directory / NAME).rename(tmp_path / "elsewhere.npz")
    (directory / NAME).symlink_to(tmp_path / "elsewhere.npz")
    assert desk.fetch(Source("directory", str(directory))).path == directory / NAME


def test_tells_where_a_missing_file_should_lie(desk: Desk, directory: Path) -> None:
    (directory / NAME).unlink()
    message = desk.failure(Source("directory", str(directory)))
    assert message.startswith(f"{directory / NAME}: there is no such file")
    assert "laid out as upstream" in message


def test_refuses_a_spoiled_file_in_a_directory(desk: Desk, directory: Path) -> None:
    (directory / NAME).write_bytes(CONTENT[:-40])
    assert f"{directory / NAME}: not a whole .npz" in desk.failure(
        Source("directory", str(directory))
    )
    assert not desk.lock_file.exists()


# Addresses


def test_each_address_has_its_own_cache(desk: Desk, files: FileServer) -> None:
    upstream = desk.fetch(Source("upstream", files.base)).path
    mirror = desk.fetch(Source("mirror", files.base)).path
    assert upstream == desk.cache / "upstream" / NAME
    assert mirror.parent.parent.parent == desk.cache
    folder = mirror.parent.parent.name
    assert folder.startswith("mirror-") and len(folder) == len("mirror-") + 12
    assert len(files.requests) == 2


def test_downloads_a_recorded_file_once(desk: Desk, files: FileServer) -> None:
    source = Source("upstream", files.base)
    desk.fetch(source)
    desk.fetch(source)
    assert len(files.requests) == 1


def test_takes_an_unrecorded_file_that_is_there_as_downloaded_before(
    desk: Desk, files: FileServer
) -> None:
    source = Source("upstream", files.base)
    first = desk.fetch(source)
    desk.lock_file.unlink()
    desk.warnings.clear()
    assert desk.fetch(source) == first
    assert len(files.requests) == 1
    assert len(desk.warnings) == 1
    desk.lock_file.unlink()
    assert "without --locked" in desk.failure(source, locked=True)


def test_downloads_again_what_does_not_match_the_record(desk: Desk, files: FileServer) -> None:
    source = Source("upstream", files.base)
    first = desk.fetch(source)
    first.path.write_bytes(OTHER)
    assert desk.fetch(source) == first
    assert first.path.read_bytes() == CONTENT
    assert len(files.requests) == 2


def test_leaves_the_old_file_alone_when_the_new_one_is_not_the_recorded(
    desk: Desk, files: FileServer
) -> None:
    source = Source("upstream", files.base)
    old = desk.cache / "upstream" / NAME
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    record(desk.lock_file, NAME, Digest(size=1, sha256="ab" * 32))
    assert files.url in desk.failure(source)
    assert old.read_bytes() == b"old"
    assert [entry.name for entry in old.parent.iterdir()] == ["w.npz"]


def test_a_page_instead_of_a_file_is_not_kept(desk: Desk, files: FileServer) -> None:
    files.content = b"<html>Sign in first</html>" * 10
    message = desk.failure(Source("mirror", files.base))
    assert message.startswith(f"{files.url}: not a whole .npz")
    assert ".part" not in message
    assert not desk.lock_file.exists()
    assert not any(desk.cache.rglob("*.npz*"))


def test_takes_no_more_than_the_arrays_can_need(desk: Desk, files: FileServer) -> None:
    room = sum(4 * int(np.prod(shape)) for shape in EXPECTED.values()) + 2 * 65536 + (1 << 20)
    files.content = bytes(room + 1)
    assert f"more than the {room:,} bytes" in desk.failure(Source("mirror", files.base))


def test_reports_progress(desk: Desk, files: FileServer) -> None:
    seen: list[tuple[int, int | None]] = []
    desk.fetch(Source("mirror", files.base), progress=lambda *step: seen.append(step))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_keeps_the_query_of_an_address_and_escapes_the_path(desk: Desk, server: HTTPServer) -> None:
    files = FileServer(server, CONTENT, path="/a/odd #name?.npz")
    source = parse_source(server.url_for("/a?sig=1"), UPSTREAM)
    assert desk.fetch(source, name="odd #name?.npz").path.read_bytes() == CONTENT
    assert files.requests[0].args["sig"] == "1"


def test_one_line_names_all_ways_out_when_the_address_cannot_be_reached(
    desk: Desk, closed_address: str
) -> None:
    message = desk.failure(Source("upstream", closed_address))
    assert "\n" not in message
    assert message.startswith(
        f"cannot reach {closed_address}{NAME}: no answer (connection refused)"
    )
    assert "WEIGHTS=/path/to/weights (a directory) or another address" in message
    assert "WEIGHTS=synthetic" in message


def test_a_missing_file_is_not_an_unreachable_address(desk: Desk, files: FileServer) -> None:
    files.answers = [status(404)]
    message = desk.failure(Source("mirror", files.base))
    assert "404" in message and "WEIGHTS=synthetic" not in message


@pytest.mark.parametrize("name", ["/etc/w.npz", "../w.npz", "a/../../w.npz", "a\\w.npz", ""])
def test_refuses_a_path_that_leads_elsewhere(desk: Desk, directory: Path, name: str) -> None:
    for source in (Source("directory", str(directory)), Source("synthetic", "")):
        assert "not a relative path" in desk.failure(source, name=name)
    assert not desk.cache.exists()


def test_the_room_is_imported_without_what_only_downloads_need() -> None:
    program = "import sys, publisher.weights; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"requests", "tenacity", "tensorflow", "numpy"} & set(loaded)


def test_the_room_offers_what_it_says_and_nothing_else() -> None:
    for name in weights.__all__:
        assert getattr(weights, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'open_npy'"):
        weights.open_npy  # noqa: B018

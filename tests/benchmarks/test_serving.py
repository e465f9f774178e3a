import dataclasses
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests

from benchmarks import clients, measure, serving
from benchmarks.measure import BenchmarkError
from publisher.release.catalogue import load
from publisher.release.sources.directory import DirectorySource
from tests.hub.releases import served
from tests.releases import HANDLES, registry_of

SIZE = 3_000_001


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> serving.Served:
    folder = tmp_path_factory.mktemp("serving")
    return serving.make_release(registry_of(folder / "registry"), folder / "work", SIZE)


@pytest.fixture
def hub(release: serving.Served) -> Iterator[str]:
    with served(release.root) as base:
        yield base


@pytest.fixture
def odd() -> Iterator[str]:
    """The address of a server whose answers get shorter and shorter, and end too early."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        answers = 0

        def do_GET(self) -> None:
            Handler.answers += 1
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x" * (100 if Handler.answers == 1 else 50))
            self.close_connection = Handler.answers > 1

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_release_has_all_variants_and_one_large_archive(release: serving.Served) -> None:
    catalogue = load(DirectorySource(release.root))
    sizes = {handle: model.entry.archive.size for handle, model in catalogue.models.items()}
    assert sizes == {
        handle: SIZE if handle == release.handle else serving.SMALL for handle in HANDLES
    }
    assert all(model.entry.synthetic for model in catalogue.models.values())


def test_the_same_release_is_made_each_time(release: serving.Served, tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    again = serving.make_release(registry, tmp_path / "work", SIZE)
    assert again.digest == release.digest
    assert serving.make_release(registry, tmp_path / "work", SIZE) == again


def test_pages_are_asked_for_on_connections_that_are_kept(hub: str) -> None:
    assert clients.rate(hub, "/", requests=40, connections=4) > 0
    tag = {"If-None-Match": clients.etag(hub, "/")}
    assert clients.rate(hub, "/", requests=40, connections=4, status=304, headers=tag) > 0


@pytest.mark.parametrize(("path", "status"), [("/nothing", 200), ("/", 304)])
def test_another_answer_than_the_expected_one_is_no_figure(
    hub: str, path: str, status: int
) -> None:
    with pytest.raises(BenchmarkError, match="was expected"):
        clients.rate(hub, path, requests=8, connections=2, status=status)


def test_an_answer_that_breaks_off_is_no_figure(odd: str) -> None:
    with pytest.raises(BenchmarkError, match="closed the connection"):
        clients.rate(odd, "/", requests=2, connections=1)


def test_archives_come_whole_to_many_clients(hub: str, release: serving.Served) -> None:
    archive = f"/{release.handle}?tf-hub-format=compressed"
    assert clients.digest(hub, archive) == release.digest
    assert clients.fetch_at_once(hub, archive, SIZE, clients=5) > 0
    with pytest.raises(BenchmarkError, match=f"{SIZE} of {SIZE - 1} bytes"):
        clients.fetch_at_once(hub, archive, SIZE - 1, clients=2)
    with pytest.raises(BenchmarkError, match="status 404"):
        clients.fetch_at_once(hub, "/nothing", SIZE, clients=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_is_measured_with_all_its_workers(release: serving.Served, workers: int) -> None:
    found = serving.measured(release, workers, asked=16, rounds=2)
    assert found.workers == workers
    for rates in (found.catalogue, found.model, found.unchanged):
        assert len(rates) == 2
        assert min(rates) > 0
    assert found.fetching > 0
    # A Python process with a web framework takes more than 20 MB.
    assert min(found.before, found.after) > 20e6 * workers
    assert found.highest >= found.before


def test_a_server_is_gone_afterwards(release: serving.Served) -> None:
    with serving.server(release.root, 1) as (process, address):
        assert requests.get(address, timeout=60).status_code == 200
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchmarkError, match="there is no such directory"),
        serving.server(tmp_path / "nowhere", 1),
    ):
        pass


def test_an_archive_that_is_another_one_is_not_measured(release: serving.Served) -> None:
    other = dataclasses.replace(release, digest="0" * 64)
    with pytest.raises(BenchmarkError, match="the server sent another archive"):
        serving.measured(other, 1, asked=8, rounds=1)


def test_memory_of_a_family_is_added_up() -> None:
    assert measure.resident(os.getpid()) > 20e6


ABOUT = {
    "measured": "2030-01-02",
    "machine": {"cpu": "A CPU", "cores": 2, "memory": 24 * 2**30, "system": "Linux x86_64"},
    "python": "3.11.7",
    "uvicorn": "0.54.0",
}
ONE = serving.Load(1, [1000, 1234, 1100], [2000], [3000], 20.0, 60_400_000, 66_000_000, 64_000_000)
TWO = dataclasses.replace(ONE, workers=2, fetching=10.0)


def test_the_table_has_a_column_for_each_number_of_workers() -> None:
    lines = serving.table([ONE, TWO], 850_000_000, 0.0, ABOUT).splitlines()
    assert "2030-01-02: A CPU, 2 cores, 24 GiB, Linux x86_64, Python 3.11.7" in lines[0]
    assert "same machine" in lines[0]
    assert lines[2:] == [
        "| | 1 worker | 2 workers |",
        "|---|--:|--:|",
        "| catalogue pages a second | 1,100 (1,000 to 1,234) | 1,100 (1,000 to 1,234) |",
        "| model pages a second | 2,000 | 2,000 |",
        "| answers 304 a second | 3,000 | 3,000 |",
        "| 16 clients fetch an archive of 850 MB at once"
        " | 20.0 s, 0.68 GB a second | 10.0 s, 1.36 GB a second |",
        "| memory of the server before that | 60 MB | 60 MB |",
        "| at its highest meanwhile | 66 MB | 66 MB |",
        "| afterwards | 64 MB | 64 MB |",
    ]


def test_the_table_says_when_the_machine_was_not_at_rest() -> None:
    text = serving.table([ONE], 850_000_000, 0.9, ABOUT)
    assert text.endswith("\nOther programs kept 0.9 cores busy meanwhile.\n")


def test_the_page_on_serving_has_a_place_for_it() -> None:
    text = (Path(__file__).parents[2] / serving.PAGE).read_text()
    assert text.count("<!-- load -->\n") == text.count("<!-- /load -->\n") == 1

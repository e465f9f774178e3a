"""Load-tests a hub on this machine: `python -m benchmarks.serving`, or `make bench-serving`.

It writes a release with the names and pages of `models.yaml`, whose first archive has a realistic
size (of random bytes), and serves it as docs/serving.md describes. It then requests pages, fetches
the archive with many clients at once, and updates the figures in docs/serving.md.
"""

import datetime
import os
import platform
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import click
import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from benchmarks import clients, measure, report
from benchmarks.figures import DISTURBED
from benchmarks.measure import BenchmarkError
from benchmarks.run import REGISTRY, WORK, machine
from publisher.build.manifest import Weights, build_manifest
from publisher.destinations.local.directory import Directory
from publisher.documents.report import Tolerance
from publisher.errors import PublisherError
from publisher.formats.archive import Archive
from publisher.pages import render_module
from publisher.registry import Registry, load_registry
from publisher.release.publish import Publication, carry_out, prepare
from publisher.util.files import sha256, sha256_file, write_whole
from publisher.validation.report import Check, Report

PAGE = Path("docs/serving.md")
TEMPLATES = Path("templates")
SIZE = 868_000_000  # bytes, as in the archive of an R152x2
SMALL = 10_000
CLIENTS = 16  # concurrent downloads of the archive
CONNECTIONS = 8  # concurrent connections that request pages
REQUESTS = 4_000
ROUNDS = 3
WORKERS = (1, 2)
STARTS_WITHIN = 60  # seconds
ENDS_WITHIN = 30


@dataclass(frozen=True)
class Load:
    """The measurements of one server. Rates are requests per second, memory is in bytes.

    `before`, `highest` and `after` are the total memory of the server and its workers before,
    during and after the downloads, which took `fetching` seconds.
    """

    workers: int
    catalogue: Sequence[float]
    model: Sequence[float]
    unchanged: Sequence[float]
    fetching: float
    before: int
    highest: int
    after: int


@dataclass(frozen=True)
class Served:
    """A release on disk, and the handle, size and digest of its large archive."""

    root: Path
    handle: str
    size: int
    digest: str


def make_release(registry: Registry, folder: Path, size: int) -> Served:
    """Publish all variants with archives of random bytes; the first archive has `size` bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    built = []
    digests = []
    for number, variant in enumerate(registry.variants):
        place = folder / "built" / variant.handle
        archive = _made_up(place / "model.tar.gz", SMALL if number else size, seed=number)
        digests.append(archive.sha256)
        parity = Check("parity_with_float64_reference", "passed", "made up", {"largest_error": 0.0})
        manifest = build_manifest(
            registry,
            variant,
            weights=Weights(size, sha256(b""), synthetic=True),
            archive=archive,
            report=Report(Tolerance(absolute=1e-4, relative=1e-4), (parity,)).document(),
            toolchain={"benchmarks": "made up"},
        )
        write_whole(place / "manifest.json", manifest.as_bytes())
        page = render_module(registry, variant, manifest, TEMPLATES)
        write_whole(place / "README.md", page.encode())
        built.append((variant, manifest, place))
    directory = Directory(folder / "release")
    with directory.locked():
        carry_out(prepare(Publication(registry, TEMPLATES), built, directory), directory)
    return Served(folder / "release", registry.variants[0].handle, size, digests[0])


def _made_up(path: Path, size: int, seed: int) -> Archive:
    """Write `size` pseudorandom bytes from a seed."""
    block = random.Random(seed).randbytes(1 << 20)  # noqa: S311  not for cryptography
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
    return Archive(size, sha256_file(path), size)


@contextmanager
def server(root: Path, workers: int) -> Iterator[tuple[int, str]]:
    """Serve a release with `workers` workers; yield the server's process id and its address."""
    command = [
        *(sys.executable, "-u", "-m", "uvicorn", "--factory", "publisher.hub.app:from_environment"),
        *("--http", "publisher.hub.protocol:TimeoutProtocol"),
        *("--h11-max-incomplete-event-size", "16384", "--limit-concurrency", "512"),
        *("--no-server-header", "--no-access-log", "--port", "0", "--workers", str(workers)),
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PUBLISHER_RELEASE": str(root)},
    )
    with process:
        try:
            address = _address(process, workers)
            # A worker reports that it is ready before it listens.
            wait = Retrying(
                retry=retry_if_exception_type(requests.ConnectionError),
                stop=stop_after_delay(STARTS_WITHIN),
                wait=wait_fixed(0.05),
                reraise=True,
            )
            wait(requests.get, address, timeout=STARTS_WITHIN)
            yield process.pid, address
        finally:
            process.terminate()
            try:
                process.communicate(timeout=ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[str], workers: int) -> str:
    """Wait until all workers of a server have started; return its address."""
    address, ready, seen = "", 0, []
    for line in process.stdout or ():
        seen.append(line)
        if found := re.search(r"running on (http://[0-9.:]+)", line):
            address = found[1]
        ready += "startup complete" in line
        if address and ready == workers:
            return address
    raise BenchmarkError(f"the server ended:\n{''.join(seen)[-measure.TAIL :].strip()}")


def measured(served: Served, workers: int, *, asked: int, rounds: int) -> Load:
    """Measure a server of that release: first its pages, then its archive."""
    page, archive = f"/{served.handle}", f"/{served.handle}?tf-hub-format=compressed"
    with server(served.root, workers) as (process, address):

        def rates(path: str, status: int = 200, **headers: str) -> list[float]:
            return [
                clients.rate(
                    address,
                    path,
                    requests=asked,
                    connections=CONNECTIONS,
                    status=status,
                    headers=headers,
                )
                for _ in range(rounds)
            ]

        # Check that the server sends the right archive. This also loads it into the page cache.
        if clients.digest(address, archive) != served.digest:
            raise BenchmarkError(f"{archive}: the server sent another archive than the release's")
        catalogue, model = rates("/"), rates(page)
        unchanged = rates("/", 304, **{"If-None-Match": clients.etag(address, "/")})
        before = measure.resident(process)
        with measure.Watch(process) as watch:
            fetching = clients.fetch_at_once(address, archive, served.size, CLIENTS)
        after = measure.resident(process)
    return Load(
        workers, catalogue, model, unchanged, fetching, before, max(watch.at_once, before), after
    )


def table(loads: Sequence[Load], size: int, others: float, about: dict[str, Any]) -> str:
    """Return the measurements as a Markdown table, preceded by the machine and the versions."""

    def line(words: str, cell: Callable[[Load], str]) -> str:
        return f"| {words} | {' | '.join(cell(load) for load in loads)} |"

    names = [f"{load.workers} worker{'s' if load.workers > 1 else ''}" for load in loads]
    lines = [
        f"Medians, in brackets the smallest and the largest of {len(loads[0].catalogue)} samples,"
        f" {about['measured']}: {report.machine_words(about['machine'])},"
        f" Python {about['python']}, uvicorn {about['uvicorn']}. The clients ran on the same"
        f" machine, and had their part of its cores.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'--:|' * len(loads)}",
        line("catalogue pages a second", lambda load: _rates(load.catalogue)),
        line("model pages a second", lambda load: _rates(load.model)),
        line("answers 304 a second", lambda load: _rates(load.unchanged)),
        line(
            f"{CLIENTS} clients fetch an archive of {size / 1e6:.0f} MB at once",
            lambda load: (
                f"{load.fetching:.1f} s, {CLIENTS * size / load.fetching / 1e9:.2f} GB a second"
            ),
        ),
        line("memory of the server before that", lambda load: f"{load.before / 1e6:.0f} MB"),
        line("at its highest meanwhile", lambda load: f"{load.highest / 1e6:.0f} MB"),
        line("afterwards", lambda load: f"{load.after / 1e6:.0f} MB"),
    ]
    if others > DISTURBED:
        lines += ["", f"Other programs kept {others:.1f} cores busy meanwhile."]
    return "\n".join(lines) + "\n"


def _rates(values: Sequence[float]) -> str:
    middle = f"{median(values):,.0f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.0f} to {max(values):,.0f})"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--quick", is_flag=True, help="Send fewer requests to a smaller release; write nothing."
)
def main(quick: bool) -> None:
    """Load-test a server of the hub, and update docs/serving.md.

    Run it in the project's root, on an otherwise idle machine.
    """
    size, asked, rounds = (SIZE // 10, REQUESTS // 10, 1) if quick else (SIZE, REQUESTS, ROUNDS)
    folder = WORK / "serving"
    try:
        served = make_release(load_registry(REGISTRY), folder, size)
        os.sync()  # pending writes would slow down the measurement
        others = measure.OtherLoad()
        loads = [measured(served, workers, asked=asked, rounds=rounds) for workers in WORKERS]
        busy = others.cores()
    except PublisherError as error:
        raise click.ClickException(str(error)) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    about = {
        "measured": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "python": platform.python_version(),
        "uvicorn": metadata.version("uvicorn"),
    }
    content = table(loads, size, busy, about)
    if not quick:
        report.write_marked(PAGE, "load", content)
    click.echo(content)


if __name__ == "__main__":
    main()

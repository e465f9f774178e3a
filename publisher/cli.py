"""The command line: what a person types, and how it ends.

Exit status: 0 done, 1 something failed, 2 wrong usage or a wrong registry.
"""

import functools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import publisher
from publisher import console
from publisher.errors import PublisherError
from publisher.registry import Registry, RegistryError, Variant, load_registry, select

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Common:
    """What every command takes."""

    registry: Path
    quiet: bool
    as_json: bool
    debug: bool

    def load(self, globs: Sequence[str]) -> tuple[Registry, tuple[Variant, ...]]:
        """Return the registry and the variants that the globs choose."""
        registry = load_registry(self.registry)
        return registry, select(registry, globs)


@dataclass(frozen=True)
class Work:
    """Where to build and from which weights."""

    build: Path
    weights: str | None
    locked: bool
    thorough: bool
    jobs: int
    memory: float


def _reporting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of how a command speaks, which every one has."""

    @click.option("-q", "--quiet", is_flag=True, help="No progress, only results and errors.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def command(debug: bool, **options: Any) -> Any:
        click.get_current_context().find_root().obj["debug"] = debug
        return function(**options)

    return command


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the commands that read the registry, as one `Common`."""

    @click.option(
        "--registry",
        type=click.Path(path_type=Path),
        default=Path("models.yaml"),
        show_default=True,
        help="The file that says what is published.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
    @_reporting
    @functools.wraps(function)
    def command(registry: Path, quiet: bool, as_json: bool, **options: Any) -> Any:
        debug = click.get_current_context().find_root().obj["debug"]
        return function(Common(registry, quiet, as_json, debug), **options)

    return command


_globs = click.argument("globs", nargs=-1, metavar="[HANDLE]...")


def _work(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the commands that build."""

    @click.option(
        "--weights",
        metavar="WHERE",
        help="A directory, an http://, https:// or gs:// address, or 'synthetic'; default: the"
        " registry's upstream.",
    )
    @click.option(
        "--build-dir",
        "build",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("build"),
        show_default=True,
        help="Where weights and half-finished work lie.",
    )
    @click.option(
        "--locked",
        is_flag=True,
        help="Refuse weights that models.lock.yaml does not list (always on where CI is set and"
        " the weights come from upstream).",
    )
    @click.option(
        "--thorough", is_flag=True, help="Check parity at every variant's own resolution too."
    )
    @click.option(
        "--jobs",
        type=click.IntRange(1, 64),
        default=min(2, os.cpu_count() or 1),
        show_default="2, or 1 on one core",
        help="How many stages may be at work side by side.",
    )
    @click.option(
        "--memory",
        type=click.FloatRange(0.1),
        default=None,
        metavar="GB",
        help="Memory that they may need together; default: three quarters of the machine's.",
    )
    @functools.wraps(function)
    def command(
        *arguments: Any,
        weights: str | None,
        build: Path,
        locked: bool,
        thorough: bool,
        jobs: int,
        memory: float | None,
        **options: Any,
    ) -> Any:
        gigabytes = memory if memory is not None else console.budget()
        work = Work(build, weights, locked, thorough, jobs, gigabytes)
        return function(*arguments, work=work, **options)

    return command


def _release_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--release",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("dist"),
        show_default=True,
        help="The release directory.",
    )(function)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="HANDLE is a glob over handles, for example '*_224_*'; none means all. Quote it.",
)
@click.version_option(publisher.__version__, prog_name="publisher")
def cli() -> None:
    """Publish BiT-ResNet checkpoints as checked, reproducible TensorFlow SavedModels.

    models.yaml says what should be published; these commands make it true.
    """


@cli.command("list")
@_globs
@_common
def list_command(common: Common, globs: tuple[str, ...]) -> int:
    """List the variants of the registry."""
    registry, variants = common.load(globs)
    rows = []
    for variant in variants:
        checkpoint = registry.checkpoint_of(variant)
        rows.append(
            {
                "handle": variant.handle,
                "checkpoint": variant.checkpoint,
                "architecture": checkpoint.architecture,
                "head": variant.head,
                "resolution": checkpoint.resolution,
                "aliases": list(variant.aliases),
            }
        )
    if common.as_json:
        console.print_json({"variants": rows})
        return DONE
    columns = ("handle", "checkpoint", "architecture", "head", "resolution")
    console.print_table(
        [column.upper() for column in columns],
        [[str(row[column]) for column in columns] for row in rows],
    )
    return DONE


@cli.command()
@_globs
@_common
@_work
@_release_option
def plan(common: Common, globs: tuple[str, ...], work: Work, release: Path) -> int:
    """Say what `publish` would do, and do nothing."""
    from publisher.destinations.directory import Directory
    from publisher.pipeline.build import Failed, Stale, rehearse
    from publisher.release import compare

    registry, variants = common.load(globs)
    destination = Directory(release.absolute())
    held = destination.manifests()
    run = _run(registry, common, work, console.Commentary(quiet=True))
    rows = []
    problems = _Problems()
    for result in rehearse(run, variants):
        variant = result.variant
        row = {"handle": variant.handle, "build": "", "reason": "", "release": "", "message": ""}
        if isinstance(result, Failed):
            row |= {"build": "blocked", "message": str(result.error)}
            problems.add(row["message"], variant.handle, result.error)
        elif isinstance(result, Stale):
            row |= {"build": f"from {result.stage}", "reason": result.reason}
            row["release"] = "decided once built" if variant.handle in held else "new"
        else:
            page = (result.folder / "README.md").read_bytes()
            outcome = compare(variant, result.manifest, page, destination, held)
            row |= {"build": "up to date", "release": outcome.status, "message": outcome.message}
            if outcome.status == "changed":
                problems.add(outcome.message, variant.handle)
        rows.append(row)
    if common.as_json:
        console.print_json({"release": str(release), "variants": rows})
    else:
        console.print_table(
            ["HANDLE", "BUILD", "BECAUSE", f"IN {release}"],
            [
                [row["handle"], row["build"], row["reason"], _shown_status(row["release"])]
                for row in rows
            ],
        )
    problems.print(debug=common.debug)
    return FAILED if problems else DONE


@cli.command()
@_globs
@_common
@_work
def build(common: Common, globs: tuple[str, ...], work: Work) -> int:
    """Fetch, convert, package, validate and render; publish nothing."""
    from publisher.pipeline import build as pipeline

    registry, variants = common.load(globs)
    with console.Commentary(quiet=common.quiet) as commentary:
        run = _run(registry, common, work, commentary)
        with pipeline.build_lock(run.settings.build):
            results = pipeline.build(run, variants)
    return _conclude(common, commentary, results, [])


@cli.command()
@_globs
@_common
@_work
@_release_option
@click.option(
    "--allow-synthetic",
    is_flag=True,
    help="Let synthetic weights go to other places than a local directory.",
)
def publish(
    common: Common, globs: tuple[str, ...], work: Work, release: Path, allow_synthetic: bool
) -> int:
    """Build what is not up to date, and release it."""
    from publisher import release as release_room
    from publisher.destinations.directory import Directory
    from publisher.pipeline import build as pipeline

    registry, variants = common.load(globs)
    destination = Directory(release.absolute())
    outcomes: list[release_room.Outcome] = []
    refusal: PublisherError | None = None
    with console.Commentary(quiet=common.quiet) as commentary:
        run = _run(registry, common, work, commentary)
        with pipeline.build_lock(run.settings.build), destination.locked():
            results = pipeline.build(run, variants)
            built = [
                (result.variant, result.manifest, result.folder)
                for result in results
                if isinstance(result, pipeline.Built)
            ]
            try:
                if built:
                    outcomes = release_room.publish(
                        registry,
                        built,
                        destination,
                        run.settings.templates,
                        allow_synthetic=allow_synthetic,
                    )
            except PublisherError as error:
                refusal = error
    return _conclude(common, commentary, results, outcomes, release, refusal)


_of_release = click.argument("release", metavar="RELEASE")


@cli.command()
@_of_release
@_reporting
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen at; 0: any free one.",
)
@click.option(
    "--public-url",
    metavar="URL",
    help="The hub's address for its users, where it is not the one that they ask for.",
)
@click.option(
    "--uncompressed",
    metavar="gs://...",
    help="Where the unpacked models lie, each below its handle.",
)
def serve(
    release: str,
    quiet: bool,
    host: str,
    port: int,
    public_url: str | None,
    uncompressed: str | None,
) -> int:
    """Serve a release to browsers and to hub.load.

    RELEASE is a release directory, or a public bucket that holds one: gs://bucket/prefix,
    s3://bucket/prefix or https://host/prefix. docs/serving.md says how to run it in
    production.
    """
    from publisher.hub import server
    from publisher.hub.app import application
    from publisher.hub.settings import Settings
    from publisher.hub.sources import open_source

    console.log_to_stderr(quiet=quiet)
    app = application(open_source(release, os.environ), Settings(public_url, uncompressed))
    listener = server.bind(host, port)
    if not server.is_loopback(listener):
        console.print_warning(f"{host} can be reached from other machines, and so can the release")
    address = server.address_of(listener)
    server.run(app, listener, lambda: console.print_line(f"{release} is served at {address}"))
    return DONE


@cli.command()
@_of_release
@_reporting
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The directory to write; an earlier site there is replaced.",
)
@click.option("--base-url", metavar="URL", help="Make links absolute: the site's address.")
@click.option(
    "--archives",
    metavar="URL",
    help="The address that models/<handle>/model.tar.gz lies below; default: the registry's"
    " asset_base.",
)
def site(
    release: str, quiet: bool, output: Path, base_url: str | None, archives: str | None
) -> int:
    """Write the pages of a release as files, for any web host.

    RELEASE is as for `serve`. The archives are not among the files.
    """
    from publisher.hub.catalogue import load
    from publisher.hub.pages import Renderer
    from publisher.hub.site import site_files, write_site
    from publisher.hub.sources import open_source

    catalogue = load(open_source(release, os.environ))
    count = write_site(site_files(catalogue, Renderer(), base_url, archives), output)
    if not quiet:
        console.print_line(f"{output}: {count} files, {len(catalogue.models)} models")
    return DONE


@cli.command()
@click.argument("what", metavar="WHAT")
@click.option(
    "--release",
    default="dist",
    show_default=True,
    metavar="WHERE",
    help="Where a bare handle is looked for: a release directory or a bucket's address.",
)
@click.option(
    "--rebuild",
    "again",
    is_flag=True,
    help="Make the archives again from the weights and compare all bytes.",
)
@click.option(
    "--cross-check",
    "crossed",
    is_flag=True,
    help="Compute outputs with NumPy, TensorFlow and JAX and compare them; needs the extra 'jax'.",
)
@click.option(
    "--weights",
    metavar="WHERE",
    help="For --rebuild: as for `publish`; what was made from synthetic ones needs none.",
)
@_common
def verify(
    common: Common, what: str, release: str, again: bool, crossed: bool, weights: str | None
) -> int:
    """Prove what can be proved about something that was downloaded.

    WHAT is a release directory or its address, an archive or its address, the address of a
    handle, or a handle, which is looked for in --release. Exit status: 0 if nothing failed,
    1 if something did. docs/verifying.md says what each line means.
    """
    from publisher.verify.cross_check import Row, cross_check, require_jax
    from publisher.verify.rebuild import rebuild
    from publisher.verify.targets import Target, target_of
    from publisher.verify.verify import verify as verify_target

    if weights and not again:
        raise click.UsageError("--weights says what --rebuild is made from; give both")
    if crossed:
        require_jax()
    listed = load_registry(common.registry) if again else None
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="publisher-verify-") as folder,
        console.Commentary(quiet=common.quiet) as commentary,
    ):
        target = target_of(what, release, os.environ, Path(folder), commentary)

        def made_again(target: Target) -> Any:
            assert listed is not None  # noqa: S101  it was loaded above
            synthetic = all(found.synthetic for found in target.manifests.values())
            source = weights or ("synthetic" if synthetic and target.manifests else None)
            work = Work(Path(folder, "build"), source, False, False, 1, console.budget())
            return rebuild(_run(listed, common, work, commentary), target)

        def crosswise(target: Target) -> Any:
            finding, found = cross_check(target, commentary)
            rows.extend(found)
            return finding

        findings = verify_target(
            target, made_again if again else None, crosswise if crossed else None
        )
    if common.as_json:
        document = {"target": target.name, "findings": [found.as_json() for found in findings]}
        if crossed:
            document["cross_check"] = [row.as_json() for row in rows]
        console.print_json(document)
    else:
        _print_findings(target.name, findings)
        _print_cross_check(rows)
    failures = [finding.what for finding in findings if finding.status == "failed"]
    if failures:
        console.print_error(
            f"{target.name}: not as it should be: {', '.join(failures)}; do not use it: get it"
            " again, or ask who publishes it"
        )
    return FAILED if failures else DONE


def _print_findings(name: str, findings: Sequence[Any]) -> None:
    words = {"proved": "proved", "failed": "FAILED", "open": "not proved"}
    console.print_line(f"{name}\n")
    console.print_table(
        ["RESULT", "WHAT", "DETAIL"],
        [[words[found.status], found.what, found.detail] for found in findings],
    )
    counts = [
        (word, sum(found.status == status for found in findings)) for status, word in words.items()
    ]
    console.print_line("\n" + ", ".join(f"{count} {word}" for word, count in counts if count))


def _print_cross_check(rows: Sequence[Any]) -> None:
    if not rows:
        return
    several = len({row.handle for row in rows}) > 1
    table = []
    for row in rows:
        cells = [row.form, f"{row.error:.1e}", f"{row.relative:.1e}", f"{row.bound:.1e}"]
        if not row.bound:  # the truth, which nothing is held to
            cells[1:] = ["", "", ""]
        table.append([*([row.handle] if several else []), *cells, f"{row.seconds:.3f}"])
    columns = ["FORM", "LARGEST ERROR>", "OF LARGEST OUTPUT>", "BOUND>", "SECONDS>"]
    console.print_line("")
    console.print_table([*(["HANDLE"] if several else []), *columns], table)


def _run(
    registry: Registry,
    common: Common,
    work: Work,
    commentary: console.Commentary,
) -> Any:
    """Return the pipeline's settings for this run, environment included."""
    from publisher.pipeline.settings import Settings
    from publisher.pipeline.steps import Run
    from publisher.weights import WeightsError, parse_source

    try:
        source = parse_source(work.weights, registry.upstream)
    except WeightsError as error:
        raise click.UsageError(str(error)) from None
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    settings = Settings(
        registry_file=common.registry.absolute(),
        build=work.build.resolve(),
        locked=work.locked or (in_ci and source.kind == "upstream"),
        thorough=work.thorough,
        jobs=work.jobs,
        memory=int(work.memory * 1e9),
    )
    return Run(registry, settings, source, commentary)


def _conclude(
    common: Common,
    commentary: console.Commentary,
    results: Sequence[Any],
    outcomes: Sequence[Any],
    release: Path | None = None,
    refusal: PublisherError | None = None,
) -> int:
    """Print what came of a run and return the exit status.

    `refusal` is why the destination took nothing, or not everything.
    """
    from publisher.pipeline.build import Built

    statuses = {outcome.variant.handle: outcome for outcome in outcomes}
    problems = _Problems()
    touched = {event["subject"] for event in commentary.events if event["event"] == "finished"}
    rows = []
    for result in results:
        handle = result.variant.handle
        if not isinstance(result, Built):
            message = str(result.error)
            rows.append({"handle": handle, "status": "blocked", "message": message})
            problems.add(message, handle, result.error)
            continue
        built = "built" if handle in touched else "up to date"
        outcome = statuses.get(handle)
        row = {
            "handle": handle,
            "status": built,
            "build": built,
            "archive": result.manifest["archive"],
            "synthetic": result.manifest["synthetic"],
        }
        if refusal:
            row |= {"status": "not published", "message": str(refusal)}
            problems.add(str(refusal), handle, refusal)
        elif outcome:
            row["status"] = outcome.status
        if outcome and outcome.status == "changed":
            row["message"] = outcome.message
            problems.add(outcome.message, handle)
        rows.append(row)
    memory = console.peak_memory()
    if common.as_json:
        console.print_json(
            {
                "seconds": round(commentary.seconds, 3),
                "peak_memory_of_one_process": memory,
                **({"release": str(release)} if release else {}),
                "variants": rows,
                "events": commentary.events,
            }
        )
    else:
        _print_rows(rows)
        where = f" in {release}" if release else ""
        good = sum("message" not in row for row in rows)
        console.print_line(
            f"{good} of {len(rows)} variants good{where}: {console.duration(commentary.seconds)},"
            f" peak memory of one process {memory / 1e9:.2f} GB"
        )
    problems.print(debug=common.debug)
    return FAILED if problems else DONE


class _Problems:
    """What went wrong: each message once, with the handles that it blocks."""

    def __init__(self) -> None:
        self._handles: dict[str, list[str]] = {}
        self._errors: dict[str, PublisherError] = {}

    def __bool__(self) -> bool:
        return bool(self._handles)

    def add(self, message: str, handle: str, error: PublisherError | None = None) -> None:
        """Note that `message` blocks a variant; with `--debug` the error says where it was."""
        self._handles.setdefault(message, []).append(handle)
        if error:
            self._errors.setdefault(message, error)

    def print(self, *, debug: bool) -> None:
        """Write all messages to stderr."""
        for message, handles in self._handles.items():
            if debug and message in self._errors:
                traceback.print_exception(self._errors[message])
            named = len(handles) == 1 and handles[0] in message
            console.print_error(message if named else f"{message}\n  (blocks {', '.join(handles)})")


def _print_rows(rows: Sequence[dict[str, Any]]) -> None:
    cells = []
    for row in rows:
        archive = row.get("archive")
        cells.append(
            [
                row["handle"],
                _shown_status(row["status"]) + (", synthetic" if row.get("synthetic") else ""),
                f"{archive['size'] / 1e6:,.1f} MB" if archive else "",
                archive["sha256"][:12] if archive else "",
            ]
        )
    console.print_table(["HANDLE", "STATUS", "ARCHIVE>", "SHA-256"], cells)


def _shown_status(status: str) -> str:
    words = {"page": "page changed", "changed": "refused"}
    return words.get(status, status)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with its exit status."""
    state = {"debug": False}
    try:
        status = cli.main(arguments, prog_name="publisher", standalone_mode=False, obj=state)
        sys.exit(status if isinstance(status, int) else DONE)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except (click.Abort, KeyboardInterrupt):
        console.print_error("interrupted; what is finished is kept, run the same command again")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough of it; the rest must not raise at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except PublisherError as error:
        if state["debug"]:
            raise
        # A wrong registry has a line for each problem.
        for line in str(error).splitlines():
            console.print_error(line)
        sys.exit(USAGE if isinstance(error, RegistryError) else FAILED)
    except OSError as error:
        if state["debug"]:
            raise
        where = error.filename or "standard output"
        console.print_error(f"{where}: {error.strerror or error}; see to space and permissions")
        sys.exit(FAILED)
    except Exception as error:
        if state["debug"]:
            raise
        console.print_error(
            f"{type(error).__name__}: {error}; this is a fault of the program: run again with"
            " --debug to see where, and report it"
        )
        sys.exit(FAILED)

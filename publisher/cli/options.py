"""What several commands take, as decorators and as values."""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from publisher.cli import console
from publisher.registry import Registry, Variant, load_registry, select

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


def reporting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of how a command speaks, which every one has."""

    @click.option("-q", "--quiet", is_flag=True, help="No progress, only results and errors.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def command(debug: bool, **options: Any) -> Any:
        click.get_current_context().find_root().obj["debug"] = debug
        return function(**options)

    return command


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the commands that read the registry, as one `Common`."""

    @click.option(
        "--registry",
        type=click.Path(path_type=Path),
        default=Path("models.yaml"),
        show_default=True,
        help="The file that says what is published.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
    @reporting
    @functools.wraps(function)
    def command(registry: Path, quiet: bool, as_json: bool, **options: Any) -> Any:
        debug = click.get_current_context().find_root().obj["debug"]
        return function(Common(registry, quiet, as_json, debug), **options)

    return command


globs_argument = click.argument("globs", nargs=-1, metavar="[HANDLE]...")


build_dir_option = click.option(
    "--build-dir",
    "build",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    help="Where weights and half-finished work lie.",
)


def work_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the commands that build."""

    @click.option(
        "--weights",
        metavar="WHERE",
        help="A directory, an http://, https:// or gs:// address, or 'synthetic'; default: the"
        " registry's upstream.",
    )
    @build_dir_option
    @click.option(
        "--locked",
        is_flag=True,
        help="Refuse weights that models.lock.yaml does not list (always on where CI is set and"
        " the weights are downloaded).",
    )
    @click.option(
        "--thorough",
        is_flag=True,
        help="Check parity at every variant's own resolution too, and take nothing from another"
        " archive with the same graph.",
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


def release_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that names the release directory."""
    return click.option(
        "--release",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("dist"),
        show_default=True,
        help="The release directory.",
    )(function)


def run_of(
    registry: Registry,
    common: Common,
    work: Work,
    commentary: console.Commentary,
) -> Any:
    """Return the pipeline's settings for this run, environment included."""
    from publisher.build.settings import Settings
    from publisher.build.stages import Run
    from publisher.weights import WeightsError, parse_source

    try:
        source = parse_source(work.weights, registry.upstream)
    except WeightsError as error:
        raise click.UsageError(str(error)) from None
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    settings = Settings(
        registry_file=common.registry.absolute(),
        build=work.build.resolve(),
        locked=work.locked or (in_ci and source.remote),
        thorough=work.thorough,
        jobs=work.jobs,
        memory=int(work.memory * 1e9),
    )
    return Run(registry, settings, source, commentary)

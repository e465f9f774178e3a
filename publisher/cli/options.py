"""The options that several commands share, as decorators and as values.

Every command names the release with `--release` and destinations with `--to`.
"""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from publisher.cli import console
from publisher.registry import Registry, Variant, load_registry, select

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from publisher.build.stages import Run

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

Function = Callable[..., int]
Decorator = Callable[[Function], Function]


@dataclass(frozen=True)
class Common:
    """The options of every command."""

    registry: Path
    quiet: bool
    as_json: bool
    debug: bool

    def load(self, globs: Sequence[str]) -> tuple[Registry, tuple[Variant, ...]]:
        """Return the registry and the variants that the globs choose."""
        registry = load_registry(self.registry)
        return registry, select(registry, globs)

    @property
    def templates(self) -> Path:
        """The folder of page templates, beside the registry."""
        return self.registry.absolute().parent / "templates"


@dataclass(frozen=True)
class Work:
    """The options of a build."""

    build: Path
    weights: str | None
    locked: bool
    thorough: bool
    jobs: int
    memory: float


def gathered(name: str, kind: "type[DataclassInstance]") -> Decorator:
    """Pass the options named like the fields of the dataclass `kind` as one instance, `name`."""
    fields = [field.name for field in dataclasses.fields(kind)]

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def command(**options: object) -> int:
            given = {field: options.pop(field) for field in fields if field in options}
            return function(**options, **{name: kind(**given)})

        return command

    return decorate


def options(*decorators: Callable[[Function], Function]) -> Decorator:
    """Return one decorator that adds several, in the order that `--help` shows them."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _traceable(context: click.Context, parameter: click.Parameter, debug: bool) -> bool:
    """Tell `main` whether to show the traceback of an error."""
    context.find_root().obj["debug"] = debug
    return debug


def _debug(*, passed_on: bool) -> Decorator:
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=passed_on,
        callback=_traceable,
        help="Show the traceback of an error.",
    )


def _path(*, folder: bool) -> click.Path:
    return click.Path(path_type=Path, file_okay=not folder, dir_okay=folder)


_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress, only results and errors.")
# Output options for commands that do not read the registry.
reporting = options(_quiet, _debug(passed_on=False))
common_options = options(
    click.option(
        "--registry",
        type=click.Path(path_type=Path),
        default=Path("models.yaml"),
        show_default=True,
        help="The file that states what is published.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
    _quiet,
    _debug(passed_on=True),
    gathered("common", Common),
)

HANDLES = "HANDLE is a glob over handles, for example '*_224_*' (quote it); default: all."
globs_argument = click.argument("globs", nargs=-1, metavar="[HANDLE]...")
build_dir_option = click.option(
    "--build-dir",
    "build",
    type=_path(folder=True),
    default=Path("build"),
    show_default=True,
    help="The folder for weights and intermediate results.",
)
work_options = options(
    click.option(
        "--weights",
        metavar="WHERE",
        help="A directory, an http://, https:// or gs:// address, or 'synthetic'; default: the"
        " registry's upstream.",
    ),
    build_dir_option,
    click.option(
        "--locked",
        is_flag=True,
        help="Refuse weights that models.lock.yaml does not list. Always on if CI is set and the"
        " weights are downloaded.",
    ),
    click.option(
        "--thorough",
        is_flag=True,
        help="Also check parity at each variant's own resolution, and reuse no results from"
        " another archive with the same graph.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1, 64),
        default=min(2, os.cpu_count() or 1),
        show_default="2, or 1 on one core",
        help="The number of stages that may run at once.",
    ),
    click.option(
        "--memory",
        type=click.FloatRange(0.1),
        default=console.budget,
        metavar="GB",
        help="The memory budget of running stages; default: three quarters of the machine's.",
    ),
    gathered("work", Work),
)
# `--release` of commands that write it, and of those that only read it.
release_option = click.option(
    "--release",
    type=_path(folder=True),
    default=Path("dist"),
    show_default=True,
    help="The release directory.",
)
release_read_option = click.option(
    "--release",
    metavar="WHERE",
    default="dist",
    show_default=True,
    help="A release directory, or a public bucket that holds a release: gs://bucket/prefix,"
    " s3://bucket/prefix or https://host/prefix.",
)
to_option = click.option(
    "--to",
    multiple=True,
    metavar="NAME",
    help="A destination in models.yaml, in addition to the release directory, or '*' for all;"
    " repeatable.",
)
built_option = click.option(
    "--built",
    multiple=True,
    type=_path(folder=True),
    metavar="RELEASE",
    help="Take variants built elsewhere from this release directory, or folder of release"
    " directories; repeatable.",
)
output_option = click.option(
    "--output",
    type=_path(folder=True),
    required=True,
    metavar="FOLDER",
    help="The folder to write.",
)
yes_option = click.option(
    "-y", "--yes", is_flag=True, help="Do not ask before writing to a destination."
)


def require_consent(to: Sequence[str], yes: bool) -> None:
    """Raise `UsageError` if writing to destinations needs consent and nobody can be asked."""
    if to and not yes and not (sys.stdin and sys.stdin.isatty()):
        raise click.UsageError(
            "writing to a destination needs consent, and this is no terminal; add --yes"
        )


def run_of(
    registry: Registry,
    common: Common,
    work: Work,
    commentary: console.Commentary,
) -> "Run":
    """Return the build for these options and the environment."""
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

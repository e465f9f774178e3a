"""list, build."""

import click

from publisher.cli import console
from publisher.cli.options import (
    DONE,
    Common,
    Work,
    common_options,
    globs_argument,
    run_of,
    work_options,
)
from publisher.cli.results import conclude


@click.command("list")
@globs_argument
@common_options
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
                "withdrawn": variant.withdrawn,
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


@click.command()
@globs_argument
@common_options
@work_options
def build(common: Common, globs: tuple[str, ...], work: Work) -> int:
    """Build what is not up to date; publish nothing."""
    from publisher.build import build as pipeline

    registry, variants = common.load(globs)
    with console.Commentary(quiet=common.quiet) as commentary:
        run = run_of(registry, common, work, commentary)
        with pipeline.build_lock(run.settings.build):
            active = [variant for variant in variants if variant.withdrawn is None]
            results = pipeline.build(run, active)
    return conclude(common, commentary, results, [])

"""list, build."""

import click

from publisher.cli import console
from publisher.cli.options import (
    DONE,
    HANDLES,
    Common,
    Work,
    common_options,
    globs_argument,
    run_of,
    work_options,
)
from publisher.cli.results import conclude


@click.command("list", epilog=HANDLES)
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


@click.command(epilog=HANDLES)
@globs_argument
@work_options
@common_options
def build(common: Common, globs: tuple[str, ...], work: Work) -> int:
    """Build what is out of date; publish nothing."""
    from publisher.release.pipeline import build

    registry, variants = common.load(globs)
    with console.Commentary(quiet=common.quiet) as commentary:
        built = build(run_of(registry, common, work, commentary), variants)
    return conclude(common, commentary, built)

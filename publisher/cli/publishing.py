"""plan, publish: the diff between release and destinations, and carrying it out."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from publisher.cli import console
from publisher.cli.options import (
    DONE,
    FAILED,
    HANDLES,
    Common,
    Work,
    built_option,
    common_options,
    gathered,
    globs_argument,
    options,
    release_option,
    require_consent,
    run_of,
    to_option,
    work_options,
    yes_option,
)
from publisher.cli.results import Problems, conclude, consent_of, planned_rows, print_planned
from publisher.release.settings import PublishSettings
from publisher.util.collector import collector_paused

publish_options = options(
    globs_argument,
    release_option,
    to_option,
    click.option(
        "--allow-synthetic",
        is_flag=True,
        help="Allow synthetic weights at destinations outside this machine.",
    ),
    click.option(
        "--reinstate",
        is_flag=True,
        help="Undo withdrawals that models.yaml no longer lists.",
    ),
    gathered("settings", PublishSettings),
)


@click.command(epilog=HANDLES)
@publish_options
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Save the plans for `publish --plan`; everything must be built already.",
)
@work_options
@common_options
def plan(
    common: Common,
    globs: tuple[str, ...],
    work: Work,
    settings: PublishSettings,
    markdown: bool,
    save: Path | None,
) -> int:
    """Show what `publish` would do, and change nothing."""
    if save and not settings.to:
        raise click.UsageError("--save keeps the plans of destinations; name one with --to")
    return _plan(common, globs, work, settings, markdown=markdown, save=save)


def _plan(
    common: Common,
    globs: Sequence[str],
    work: Work,
    settings: PublishSettings,
    *,
    markdown: bool = False,
    save: Path | None = None,
) -> int:
    with collector_paused():
        from publisher.release.pipeline import plan
        from publisher.release.plan import as_markdown, save_plans

    registry, variants = common.load(globs)
    run = run_of(registry, common, work, console.Commentary(quiet=True))
    planned = plan(run, variants, settings, os.environ)
    problems = Problems()
    rows = planned_rows(planned, problems)
    if common.as_json:
        found = planned.plans.as_json()["plans"]
        release = str(settings.release)
        console.print_json({"release": release, "variants": rows, "destinations": found})
    elif markdown:
        own = planned.own.model_copy(update={"destination": str(settings.release)})
        console.print_line(*as_markdown([own, *planned.plans.plans], planned.waiting).split("\n"))
    else:
        print_planned(planned, rows, settings.release)
    problems.print(debug=common.debug)
    if save:
        save_plans(planned.plans, planned.waiting, save)
    return FAILED if problems else DONE


@click.command(epilog=HANDLES)
@publish_options
@yes_option
@click.option(
    "--all-or-nothing",
    is_flag=True,
    help="Publish nothing if one variant fails; default: publish the others.",
)
@built_option
@click.option("--dry-run", is_flag=True, help="Show what would be done, and write nothing.")
@click.option(
    "--plan",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Carry out the plans of `plan --save`, or nothing if they no longer apply.",
)
@work_options
@common_options
def publish(
    common: Common,
    globs: tuple[str, ...],
    work: Work,
    settings: PublishSettings,
    yes: bool,
    dry_run: bool,
    plan: Path | None,
) -> int:
    """Build what is out of date, and publish it."""
    with collector_paused():
        from publisher.documents.plan import read_plans
        from publisher.release.pipeline import publish

    if settings.built and (work.weights or dry_run):
        other = "--dry-run" if dry_run else "--weights"
        raise click.UsageError(f"--built takes what was built elsewhere; leave out {other}")
    if dry_run:
        return _plan(common, globs, work, settings)
    if plan:
        if globs or settings.to:
            raise click.UsageError("--plan says what goes where; give no HANDLE and no --to")
        saved = read_plans(plan)
        globs = saved.handles
        to = tuple(one.destination for one in saved.plans)
        settings = replace(settings, to=to, saved=saved)
    require_consent(settings.to, yes)
    registry, variants = common.load(globs)
    with console.Commentary(quiet=common.quiet) as commentary:
        run = run_of(registry, common, work, commentary)
        consent = consent_of(commentary, yes=yes)
        published = publish(run, variants, settings, os.environ, consent)
    return conclude(common, commentary, published, settings.release)

"""withdraw, bump: edits of models.yaml that keep its comments."""

import os
import sys
from pathlib import Path

import click

from publisher.cli import console
from publisher.cli.options import (
    DONE,
    FAILED,
    Common,
    build_dir_option,
    common_options,
    release_option,
    require_consent,
    to_option,
    yes_option,
)
from publisher.cli.results import (
    Problems,
    any_declined,
    consent_of,
    outcome_row,
    print_outcomes,
    shown_status,
)


@click.command()
@click.argument("handle", metavar="HANDLE")
@click.option("--reason", required=True, metavar="TEXT", help="The reason that its pages show.")
@release_option
@to_option
@yes_option
@build_dir_option
@common_options
def withdraw(
    common: Common,
    handle: str,
    reason: str,
    build: Path,
    release: Path,
    to: tuple[str, ...],
    yes: bool,
) -> int:
    """Mark a version as withdrawn: nobody should use it any more.

    HANDLE is publisher/name/version. The reason is written to models.yaml, and from there to
    the index and pages of the release directory and each --to. Nothing is deleted: programs
    that load the version keep working. To undo this, remove `withdrawn` from models.yaml and
    publish with --reinstate.
    """
    from publisher.release.settings import WithdrawSettings
    from publisher.release.withdraw import withdraw as withdraw_from

    require_consent(to, yes)
    settings = WithdrawSettings(common.registry, handle, reason, build, release, to)
    with console.Commentary(quiet=common.quiet) as commentary:
        consent = consent_of(commentary, yes=yes)
        withdrawn = withdraw_from(settings, os.environ, consent, commentary)
    change = withdrawn.change
    problems = Problems()
    problems.add_outcomes(withdrawn.outcomes)
    if common.as_json:
        console.print_json(
            {
                "handle": handle,
                "reason": withdrawn.reason,
                "release": str(release),
                "status": change.status,
                "destinations": [outcome_row(outcome) for outcome in withdrawn.outcomes],
            }
        )
    elif not common.quiet:
        state = "is" if withdrawn.edited else "was already"
        console.print_line(f"{common.registry}: {handle} {state} withdrawn")
        console.print_line(f"{release}: {change.message or shown_status(change.status)}")
        print_outcomes(withdrawn.outcomes)
    problems.print(debug=common.debug)
    return FAILED if problems or any_declined(withdrawn.outcomes) else DONE


@click.command()
@click.argument("globs", nargs=-1, metavar="HANDLE...")
@common_options
def bump(common: Common, globs: tuple[str, ...]) -> int:
    """Raise versions in models.yaml.

    A published version never changes, so a build with other bytes needs a new version. HANDLE
    is a glob over handles; the newest version of each matching model is raised by one.
    """
    from publisher.registry import edit

    if not globs:
        raise click.UsageError("give a HANDLE to raise; '*' raises all")
    made = edit.bump(common.registry, globs)
    edit.save(made)
    if common.as_json:
        console.print_json({"raised": dict(made.handles)})
    else:
        for before, after in made.handles.items():
            sys.stdout.write(f"{before} -> {after}\n")
    return DONE

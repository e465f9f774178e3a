"""verify: what can be proved about a download."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from publisher.cli import console
from publisher.cli.options import (
    DONE,
    FAILED,
    Common,
    Work,
    common_options,
    gathered,
    release_read_option,
    run_of,
)
from publisher.registry import load_registry
from publisher.verify.settings import VerifySettings

if TYPE_CHECKING:
    from publisher.build.stages import Run
    from publisher.verify.cross_check import Row
    from publisher.verify.findings import Finding


@click.command()
@click.argument("model", metavar="[MODEL]", required=False)
@release_read_option
@click.option(
    "--rebuild",
    is_flag=True,
    help="Build the archives again from the weights and compare all bytes.",
)
@click.option(
    "--cross-check",
    is_flag=True,
    help="Compute outputs with NumPy, TensorFlow and JAX and compare them; needs the extra 'jax'.",
)
@click.option(
    "--weights",
    metavar="WHERE",
    help="For --rebuild: as for `publish`; not needed for models with synthetic weights.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The publisher's public key (PEM), which must have signed everything.",
)
@click.option(
    "--identity",
    metavar="NAME",
    help="The identity that must have signed everything with Sigstore; needs --issuer and the"
    " network.",
)
@click.option("--issuer", metavar="ADDRESS", help="The OpenID Connect issuer of --identity.")
@gathered("settings", VerifySettings)
@common_options
def verify(common: Common, settings: VerifySettings) -> int:
    """Prove what can be proved about a download.

    MODEL is an archive or its address, a handle in --release, or a handle's address; without
    it, the whole release is verified. Exit status: 0 if nothing failed, 1 if something did.
    docs/verifying.md explains each line.
    """
    from publisher.verify.prove import prove

    _require_sense(settings)
    listed = load_registry(common.registry) if settings.rebuild else None
    with console.Commentary(quiet=common.quiet) as commentary:

        def run_in(folder: Path, weights: str | None) -> "Run":
            assert listed is not None  # noqa: S101  it was loaded above
            work = Work(folder, weights, False, False, 1, console.budget())
            return run_of(listed, common, work, commentary)

        verified = prove(settings, os.environ, commentary, run_in)
    if common.as_json:
        findings = [found.as_json() for found in verified.findings]
        document = {"target": verified.name, "findings": findings}
        if settings.cross_check:
            document["cross_check"] = [row.as_json() for row in verified.rows]
        console.print_json(document)
    else:
        _print_findings(verified.name, verified.findings)
        _print_cross_check(verified.rows)
    failures = [finding.what for finding in verified.findings if finding.status == "failed"]
    if failures:
        console.print_error(
            f"{verified.name}: verification failed: {', '.join(failures)}; do not use it: download"
            " it again, or ask its publisher"
        )
    return FAILED if failures else DONE


def _require_sense(settings: VerifySettings) -> None:
    if settings.weights and not settings.rebuild:
        raise click.UsageError("--weights belongs to --rebuild; give both")
    if (settings.identity is None) != (settings.issuer is None):
        raise click.UsageError("--identity needs --issuer, which vouches for it; give both")
    if settings.key and settings.identity:
        raise click.UsageError("--key and --identity are two ways to sign; give one")


def _print_findings(name: str, findings: Sequence["Finding"]) -> None:
    words = {"proved": "proved", "failed": "FAILED", "open": "not proved"}
    console.print_line(name, "")
    console.print_table(
        ["RESULT", "WHAT", "DETAIL"],
        [[words[found.status], found.what, found.detail] for found in findings],
    )
    counts = [
        (word, sum(found.status == status for found in findings)) for status, word in words.items()
    ]
    console.print_line("", ", ".join(f"{count} {word}" for word, count in counts if count))


def _print_cross_check(rows: Sequence["Row"]) -> None:
    if not rows:
        return
    several = len({row.handle for row in rows}) > 1
    table = []
    for row in rows:
        cells = [row.form, f"{row.error:.1e}", f"{row.relative:.1e}", f"{row.bound:.1e}"]
        if not row.bound:  # the reference, which has no error
            cells[1:] = ["", "", ""]
        table.append([*([row.handle] if several else []), *cells, f"{row.seconds:.3f}"])
    columns = ["FORM", "LARGEST ERROR>", "OF LARGEST OUTPUT>", "BOUND>", "SECONDS>"]
    console.print_line("")
    console.print_table([*(["HANDLE"] if several else []), *columns], table)

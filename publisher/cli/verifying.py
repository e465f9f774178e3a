"""verify: what can be proved about something that was downloaded."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from publisher.cli import console
from publisher.cli.options import DONE, FAILED, Common, Work, common_options, run_of
from publisher.registry import load_registry


@click.command()
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
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The publisher's public key (PEM): all has to be signed with it.",
)
@click.option(
    "--identity",
    metavar="NAME",
    help="Who has to have signed all of it with Sigstore; needs --issuer and the network.",
)
@click.option("--issuer", metavar="ADDRESS", help="Who vouches for --identity.")
@common_options
def verify(
    common: Common,
    what: str,
    release: str,
    again: bool,
    crossed: bool,
    weights: str | None,
    key: Path | None,
    identity: str | None,
    issuer: str | None,
) -> int:
    """Prove what can be proved about a download.

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
    verifier = _verifier(key, identity, issuer)
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
            return rebuild(run_of(listed, common, work, commentary), target)

        def crosswise(target: Target) -> Any:
            finding, found = cross_check(target, commentary)
            rows.extend(found)
            return finding

        findings = verify_target(
            target, made_again if again else None, crosswise if crossed else None, verifier
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


def _verifier(key: Path | None, identity: str | None, issuer: str | None) -> Any:
    """Return what knows the signatures of whom a person named, if they named somebody."""
    from publisher.signing import signatures

    if (identity is None) != (issuer is None):
        raise click.UsageError("--identity needs --issuer, which vouches for it; give both")
    if key and identity:
        raise click.UsageError("--key and --identity are two ways to sign; give one")
    if key:
        return signatures.key_verifier(key)
    if identity and issuer:
        return signatures.identity_verifier(identity, issuer)
    return None


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

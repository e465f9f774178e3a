"""sign: signatures, provenance and bill of materials of a release."""

import os
from pathlib import Path

import click

from publisher.cli import console
from publisher.cli.options import DONE, FAILED, Common, common_options, release_option
from publisher.cli.results import Problems
from publisher.registry import load_registry


@click.command()
@release_option
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Sign with this private key (PEM, elliptic curve). PUBLISHER_KEY_PASSWORD has the"
    " password of an encrypted one.",
)
@click.option(
    "--sigstore",
    is_flag=True,
    help="Sign with Sigstore, in CI, as the running workflow. Sigstore's public log records this.",
)
@click.option("--again", is_flag=True, help="Replace signatures of other signers.")
@common_options
def sign(common: Common, release: Path, key: Path | None, sigstore: bool, again: bool) -> int:
    """Sign a release: each version, and the index.

    Beside each archive, write provenance.json (how it was made), bom.json (what it consists
    of) and model.sig (the signature of all files but the page). index.sig signs index.json and
    SHA256SUMS. Existing signatures stay. `publisher verify --key PUBLIC.pem` verifies them.
    """
    from publisher.destinations.local.directory import Directory
    from publisher.signing.origin import origin_of
    from publisher.signing.sign import sign_release
    from publisher.signing.signatures import Signer, identity_signer, key_signer

    if (key is None) == (not sigstore):
        raise click.UsageError("say who signs: --key FILE or --sigstore")
    if not release.is_dir():
        raise click.UsageError(f"--release {release}: there is no such directory; publish first")
    registry = load_registry(common.registry)
    signer: Signer = key_signer(key, os.environ) if key else identity_signer(os.environ)
    source = origin_of(common.registry, os.environ)
    directory = Directory(release.absolute())
    with console.Commentary(quiet=common.quiet) as commentary, directory.locked():
        done = sign_release(directory, registry, signer, source, again=again, reporter=commentary)
    problems = Problems()
    for one in done:
        if one.status == "refused":
            problems.add(f"{one.what}: {one.detail}", one.what)
    if common.as_json:
        document = {"release": str(release), "by": signer.by, "key": signer.key}
        console.print_json({**document, "signed": [one.as_json() for one in done]})
    else:
        rows = [
            [one.what, one.status, "" if one.status == "refused" else one.detail] for one in done
        ]
        console.print_table(["WHAT", "STATUS", "DETAIL"], rows)
        console.print_line("", f"{release}: signed by {signer.by}")
    problems.print(debug=common.debug)
    return FAILED if problems else DONE

"""serve, site: a release for browsers and hub.load."""

import os
from pathlib import Path

import click

from publisher.cli import console
from publisher.cli.options import DONE, output_option, release_read_option, reporting
from publisher.util.resources import TEMPLATES

_templates = click.option(
    "--templates",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(TEMPLATES),
    show_default=True,
    help="A folder of templates that replace the program's; it need not exist.",
)


@click.command()
@release_read_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port to listen on; 0: any free one.",
)
@click.option(
    "--public-url",
    metavar="URL",
    help="The hub's public address, if it differs from the requested one (behind a proxy).",
)
@click.option(
    "--uncompressed",
    metavar="gs://...",
    help="The address of the unpacked models, each below its handle.",
)
@_templates
@reporting
def serve(
    release: str,
    quiet: bool,
    host: str,
    port: int,
    public_url: str | None,
    uncompressed: str | None,
    templates: Path,
) -> int:
    """Serve a release to browsers and hub.load.

    docs/serving.md describes how to run it in production.
    """
    from publisher.hub import server
    from publisher.hub.app import application
    from publisher.hub.pages import Renderer
    from publisher.hub.settings import Settings
    from publisher.release.sources.open import open_source

    console.log_to_stderr(quiet=quiet)
    settings = Settings(public_url, uncompressed)
    app = application(open_source(release, os.environ), settings, Renderer(templates))
    listener = server.bind(host, port)
    if not server.is_loopback(listener):
        console.print_warning(f"{host} is reachable from other machines, and so is the release")
    address = server.address_of(listener)
    server.run(app, listener, lambda: console.print_line(f"{release} is served at {address}"))
    return DONE


@click.command()
@release_read_option
@output_option
@click.option("--base-url", metavar="URL", help="The site's address, to make links absolute.")
@click.option(
    "--archives",
    metavar="URL",
    help="The address below which models/<handle>/model.tar.gz is served; default: the"
    " registry's asset_base.",
)
@_templates
@reporting
def site(
    release: str,
    quiet: bool,
    output: Path,
    base_url: str | None,
    archives: str | None,
    templates: Path,
) -> int:
    """Write a release's web pages, for any host.

    The site does not contain the archives. An earlier site in --output is replaced.
    """
    from publisher.hub.pages import Renderer
    from publisher.hub.site import site_files, write_site
    from publisher.release.catalogue import load
    from publisher.release.sources.open import open_source

    catalogue = load(open_source(release, os.environ))
    files = site_files(catalogue, Renderer(templates), base_url, archives)
    count = write_site(files, output)
    if not quiet:
        console.print_line(f"{output}: {count} files, {len(catalogue.models)} models")
    return DONE

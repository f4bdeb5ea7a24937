"""`serve`: take batches by HTTP."""

import os

import click

from receiver.cli.options import Usage, place_options
from receiver.server.serve import serve as run_server
from receiver.server.settings import read_settings
from receiver.storage.paths import DataPaths


@click.command(cls=Usage)
@place_options
@click.option("--host", default="127.0.0.1", envvar="RECEIVER_HOST", show_envvar=True, show_default=True)
@click.option(
    "--port",
    default=6070,
    type=click.IntRange(0, 65535),
    envvar="RECEIVER_PORT",
    show_envvar=True,
    show_default=True,
    help="0: any free one; the line `listening on URL` says which.",
)
def serve(places: DataPaths, host: str, port: int) -> None:
    """Take batches by HTTP until SIGTERM, then finish what was accepted and exit 0."""
    os.umask(0o077)
    settings = read_settings(places, host, port, os.environ)
    run_server(settings, lambda url: click.echo(f"listening on {url}"))

"""`rebuild`, `mend-clock` and `load`: the warehouse made anew, and bodies from files."""

import os
import sys
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from receiver.cli.options import place_options
from receiver.intake.commit import receive
from receiver.intake.prepare import prepare
from receiver.lifecycle.rebuild import mend_clock
from receiver.lifecycle.rebuild import rebuild as rebuild_warehouse
from receiver.lifecycle.startup import open_store
from receiver.server.settings import read_settings
from receiver.storage.paths import DataPaths


@click.command()
@place_options
@click.option("--allow-loss", is_flag=True, help="Go on when the old warehouse holds what the landfill does not.")
def rebuild(places: DataPaths, allow_loss: bool) -> None:
    """Make the warehouse anew from the landfill, then put it in the old one's place in one step.

    What is no longer in the landfill, as RECEIVER_LANDFILL_DAYS may have it, is lost then: that needs --allow-loss.
    Events past RECEIVER_EVENT_DAYS come back until the server starts.
    """
    os.umask(0o077)
    found = rebuild_warehouse(places, allow_loss=allow_loss)
    click.echo(f"rebuilt from {found.replayed} records; {found.repeated_records} more were copies")
    if found.kept_warehouse is not None:
        click.echo(f"the old warehouse could not be read and is kept: {found.kept_warehouse}")
    if found.damaged_bytes or found.unloadable:
        click.echo(f"{found.damaged_bytes} bytes were no record; {found.unloadable} records could not be loaded")
        sys.exit(1)


@click.command(name="mend-clock")
@place_options
def mend_clock_command(places: DataPaths) -> None:
    """Stamp receipts of the future with the time of now, in their order, and make the warehouse anew. Stop the server.

    For a receiver that answers 503 because its clock once was wrong: set the clock first. What is no longer in the
    landfill, as RECEIVER_LANDFILL_DAYS may have it, would be lost: then nothing is put in place of the old warehouse.
    """
    os.umask(0o077)
    count = mend_clock(places, datetime.now(UTC))
    click.echo(f"{count} receipts lay ahead of the clock and are stamped with its time now")


@click.command()
@place_options
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
def load(places: DataPaths, files: tuple[Any, ...]) -> None:
    """Load POST bodies from files (- for standard input), as if they had come by HTTP; one receipt a line."""
    os.umask(0o077)
    settings = read_settings(places, "", 0, os.environ)
    with open_store(settings.places) as store:
        for file in files:
            job = prepare(file.read(), settings.limits, require_signature=settings.require_signatures)
            (receipt,) = receive(store, [job])
            click.echo(msgspec.json.encode(receipt).decode())

"""`instances`: who sends, and which key signs for whom."""

import os
import sys
from typing import Any

import click
import msgspec

from receiver.cli.client import ask_server, read_or_ask
from receiver.cli.options import Commands, place_options, url_option
from receiver.reports import instances
from receiver.reports.instances import Instance, Listing
from receiver.server.settings import read_settings
from receiver.storage.paths import DataPaths

EVERY = 2**63 - 1
WIDE = 120
NUMBERS = {"days", "batches", "events", "missing", "lost"}


@click.group(name="instances", cls=Commands, usual="list")
def instances_group() -> None:
    """Who sends, and which key signs for whom. Without a command: list."""


@instances_group.command(name="list")
@place_options
@url_option
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def show_instances(places: DataPaths, url: str | None, as_json: bool) -> None:
    """One line an instance, those heard latest first.

    Trust is that of the newest batch: signed, known again by its batch-id, or by its digest alone. Batches came on so
    many days; `new` are too few for RECEIVER_VOUCH_DAYS. A number before `?` leaves out days on which more was claimed
    than can be.
    """
    found = find_instances(places, url)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    if not found:
        click.echo("no instance was heard yet")
        return
    print_instances(found)


@instances_group.command()
@place_options
@click.argument("instance")
def unpin(places: DataPaths, instance: str) -> None:
    """Take away the key of an instance that lost it: the next signed batch pins its own.

    INSTANCE is an id, or its beginning when only one pinned instance has it. What was put aside before stays there.
    """
    places = read_settings(places, "", 0, os.environ).places
    if not places.warehouse.exists():
        raise click.ClickException(f"{places.warehouse} does not exist: name the warehouse with --warehouse")
    from receiver.intake.operations import unpin as unpin_key  # noqa: PLC0415  a list needs no writer
    from receiver.lifecycle.startup import open_store  # noqa: PLC0415

    with open_store(places) as store:
        found = instances.find_pinned(store.warehouse.con, instance)
        if len(found) != 1:
            raise click.ClickException(f"{len(found)} instances with a pinned key have an id that begins like this")
        key = unpin_key(store, found[0])
    click.echo(f"{found[0]} is no longer bound to {key}")


def find_instances(places: DataPaths, url: str | None) -> list[Instance]:
    """Every instance, from the warehouse or from the server that holds it."""

    def ask_pages(url: str) -> list[Instance]:
        found: list[Instance] = []
        while page := ask_server(url, f"/instances?limit={instances.MOST}&offset={len(found)}", Listing).instances:
            found += page
        return found

    vouch_days = read_settings(places, "", 0, os.environ).vouch_days

    def read(con: Any) -> list[Instance]:
        return instances.list_instances(con, vouch_days=vouch_days, limit=EVERY).instances

    return read_or_ask(places, url, read, ask_pages)


def print_instances(found: list[Instance]) -> None:
    """A table that fits the terminal; elsewhere one plain line an instance."""
    heads = ("instance", "first seen", "last seen", "version", "days", "batches", "events", "trust", "missing", "lost")
    if not sys.stdout.isatty():
        click.echo("\t".join(heads))
        for one in found:
            click.echo("\t".join(cells(one)))
        return
    from rich.console import Console  # noqa: PLC0415  slow to load
    from rich.table import Table  # noqa: PLC0415

    console = Console()
    is_narrow = console.width < WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 1 if is_narrow else 2, 0, 0))
    for head in heads:
        table.add_column(head, justify="right" if head in NUMBERS else "left")
    for one in found:
        name, *rest = cells(one, is_short=is_narrow)
        table.add_row(name[:8] if is_narrow else name, *rest)
    console.print(table)


def cells(one: Instance, *, is_short: bool = False) -> list[str]:
    """One instance as text, in the order of the table; `is_short` leaves the hours out."""
    others = f" +{one.versions - 1}" if one.versions > 1 else ""
    when = f"{one.last_seen:%Y-%m-%d}" if is_short else f"{one.last_seen:%Y-%m-%d %H:%M}"
    seen = (str(one.instance_id), f"{one.first_seen:%Y-%m-%d}", when, one.version + others)
    days, doubt = f"{one.days:,}" + ("" if one.is_vouched else " new"), "?" if one.implausible_days else ""
    counts = (f"{one.batches:,}", f"{one.events:,}", one.trust or "-")
    return [*seen, days, *counts, f"{one.missing:,}{doubt}", f"{one.lost:,}{doubt}"]

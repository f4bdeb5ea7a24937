"""`quarantine`: bodies that could not be loaded."""

import os
import sys
from contextlib import closing
from typing import Any, get_args

import click
import msgspec

from penpot_telemetry.errors import Reason
from receiver.cli.client import open_store_there, open_to_read
from receiver.cli.options import choice_options, choose, place_options
from receiver.intake import operations
from receiver.questions.sanitize import make_printable
from receiver.reports import account
from receiver.reports.account import Refused
from receiver.server.settings import read_settings
from receiver.storage.paths import DataPaths
from receiver.storage.records import Receipt


@click.group(name="quarantine")
def quarantine_group() -> None:
    """Bodies that could not be loaded."""


@quarantine_group.command(name="list")
@place_options
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def list_quarantine(places: DataPaths, as_json: bool) -> None:
    """One line a body: number, when, why, bytes, whether it is kept or what a retry made of it, how often again."""
    with closing(open_to_read(places.warehouse)) as con:
        refused = account.list_refused(con)
    if as_json:
        click.echo(msgspec.json.encode(refused).decode())
        return
    for one in refused:
        kept = one.became or ("kept" if one.body else "gone")
        again = f"and {one.repeats} times again" if one.repeats else ""
        when = one.received_at.isoformat(timespec="seconds")
        click.echo(
            f"{one.quarantine_no:>6}  {when}  {one.reason:<15} {one.size:>9}  {kept}  {one.message} {again}".rstrip()
        )


@quarantine_group.command(name="show")
@place_options
@click.argument("number", type=int)
def show_quarantine(places: DataPaths, number: int) -> None:
    """The bytes of one body. They may hold what is kept nowhere else: handle with care.

    A file or a pipe gets them as they came; a terminal gets text, without what would command it.
    """
    with closing(open_to_read(places.warehouse)) as con:
        found = next((one for one in account.list_refused(con) if one.quarantine_no == number), None)
    if found is None:
        raise click.ClickException(f"there is no number {number} in the quarantine: see `quarantine list`")
    if found.body is None:
        raise click.ClickException(f"the body of number {number} is no longer kept")
    try:
        body = (places.quarantine / found.body).read_bytes()
    except FileNotFoundError:
        raise click.ClickException(f"the body of number {number} is no longer kept") from None
    show_body(body)


def show_body(body: bytes) -> None:
    """Bytes as they are into a file or a pipe; onto a terminal as text."""
    if sys.stdout.isatty():
        click.echo(make_printable(body.decode(errors="replace")))
    else:
        sys.stdout.buffer.write(body)


@quarantine_group.command(name="retry")
@place_options
@choice_options(get_args(Reason))
def retry_quarantine(places: DataPaths, **choice: Any) -> None:
    """Read bodies again, after a fix or with a higher limit, and load what can be read now; one line a body.

    A body that still cannot be read stays, with the reason of today; exit 1 when there is one.
    """
    settings = read_settings(places, "", 0, os.environ)
    left = 0
    with open_store_there(settings.places) as store:
        for one in choose_bodies(store.warehouse.con, **choice):
            receipt = operations.retry(store, one, settings.limits, require_signature=settings.require_signatures)
            left += one.became is None and (receipt is None or receipt.status == "quarantined")
            click.echo(f"{one.quarantine_no:>6}  {describe_retry(one, receipt)}")
    if left:
        sys.exit(1)


@quarantine_group.command(name="drop")
@place_options
@choice_options(get_args(Reason))
def drop_quarantine(places: DataPaths, **choice: Any) -> None:
    """Remove bodies for good. What came and why is still listed and counted."""
    with open_store_there(places) as store:
        chosen = choose_bodies(store.warehouse.con, **choice)
        bodies = [one.body for one in chosen if one.body is not None]
        operations.drop(store, bodies)
    click.echo(f"dropped {len(bodies)} bodies" + (f"; {gone} were gone" if (gone := len(chosen) - len(bodies)) else ""))


def choose_bodies(con: Any, **choice: Any) -> list[Refused]:
    """The bodies that a command is for."""
    listed = {one.quarantine_no: one for one in account.list_refused(con)}
    return choose(listed, lambda one: one.body is not None, "quarantine", **choice)


def describe_retry(one: Refused, receipt: Receipt | None) -> str:
    """What a retry made of a body, in one line."""
    if receipt is None:
        return f"not kept: a retry has made it {one.became}" if one.became else "not kept: nothing to read again"
    if receipt.status == "quarantined":
        return f"still {one.reason}" if receipt.reason == one.reason else f"now {receipt.reason}, was {one.reason}"
    return f"{'loaded' if receipt.status == 'accepted' else 'duplicate'}: {receipt.events:,} events"

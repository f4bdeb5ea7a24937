"""`dead-letters`: events that could not be loaded."""

import os
import sys
from contextlib import closing
from typing import Any, get_args

import click
import msgspec

from penpot_telemetry.wire.batch import BadReason
from receiver.cli.client import open_store_there, open_to_read
from receiver.cli.options import choice_options, choose, place_options
from receiver.intake import operations
from receiver.questions.sanitize import make_printable
from receiver.reports import account
from receiver.reports.account import Letter
from receiver.server.settings import read_settings
from receiver.storage.paths import DataPaths


@click.group(name="dead-letters")
def dead_letters_group() -> None:
    """Events that could not be loaded, while the rest of their batch was."""


@dead_letters_group.command(name="list")
@place_options
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def list_dead_letters(places: DataPaths, as_json: bool) -> None:
    """One line an event: number, when, why, whether it is kept, instance, place in its batch, what is wrong."""
    with closing(open_to_read(places.warehouse)) as con:
        letters = account.list_letters(con)
    if as_json:
        click.echo(msgspec.json.encode([msgspec.structs.replace(one, event=None) for one in letters]).decode())
        return
    for one in letters:
        kept = "gone" if one.event is None else "kept" if one.is_whole else "cut"
        when = one.received_at.isoformat(timespec="seconds")
        place = f"{one.instance_id}  {one.event_no:>6}"
        click.echo(f"{one.dead_letter_no:>6}  {when}  {one.reason:<13}  {kept}  {place}  {one.message}")


@dead_letters_group.command(name="show")
@place_options
@click.argument("number", type=int)
def show_dead_letter(places: DataPaths, number: int) -> None:
    """What is kept of one event, as JSON. Its context is reduced; its props are as they came."""
    with closing(open_to_read(places.warehouse)) as con:
        (found,) = choose_letters(con, numbers=[number], everything=False, reason=None)
    if found.event is None:
        raise click.ClickException(f"the event of number {number} is no longer kept")
    click.echo(make_printable(found.event) if sys.stdout.isatty() else found.event)


@dead_letters_group.command(name="retry")
@place_options
@choice_options(get_args(BadReason))
def retry_dead_letters(places: DataPaths, **choice: Any) -> None:
    """Read kept events again, after a fix or with a higher limit, and load those that can be read now.

    What is kept is JSON: a keyword or the text of a uuid counts as what it says. Of what was cut nothing is loaded.
    Exit 1 when one stays.
    """
    settings = read_settings(places, "", 0, os.environ)
    with open_store_there(settings.places) as store:
        chosen = choose_letters(store.warehouse.con, **choice)
        loaded = {one.dead_letter_no for one in operations.revive(store, chosen, settings.limits)}
    for one in chosen:
        said = "loaded" if one.dead_letter_no in loaded else f"still {one.reason}"
        click.echo(f"{one.dead_letter_no:>6}  {said}")
    if len(loaded) < len(chosen):
        sys.exit(1)


@dead_letters_group.command(name="drop")
@place_options
@choice_options(get_args(BadReason))
def drop_dead_letters(places: DataPaths, **choice: Any) -> None:
    """Let go what is kept of events; that they came is still listed and counted.

    Their bytes stay in the landfill for as long as it is kept; `erase` removes them there too.
    """
    with open_store_there(places) as store:
        chosen = choose_letters(store.warehouse.con, **choice)
        operations.drop_letters(store, [one for one in chosen if one.event is not None])
    click.echo(f"dropped {len(chosen)} events")


def choose_letters(con: Any, **choice: Any) -> list[Letter]:
    """The dead letters that a command is for."""
    listed = {one.dead_letter_no: one for one in account.list_letters(con)}
    return choose(listed, lambda one: one.event is not None, "dead-letters", **choice)

"""`erase`: instances or profiles removed for good, by the running server if there is one."""

import os
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from uuid import UUID

import click
import duckdb
import msgspec

from receiver.cli.client import LONG_SECONDS, NoAnswerError, ask_server, find_url, open_to_read
from receiver.cli.options import place_options
from receiver.intake.operations import erase_ids
from receiver.lifecycle.erase_request import EraseAnswer, EraseRequest, describe_stop, find_ids
from receiver.storage import tombstones
from receiver.storage.paths import DataPaths, operator_file
from receiver.storage.records import InUseError


@click.command(name="erase")
@place_options
@click.option("--instance", "instance_ids", type=click.UUID, multiple=True, help="All that came from this Penpot.")
@click.option(
    "--profile",
    "profile_ids",
    type=click.UUID,
    multiple=True,
    help="All events of this profile, or with its id in them.",
)
@click.option(
    "--new-since", type=click.DateTime(["%Y-%m-%d"]), help="Penpots that were first heard on this day or later."
)
@click.option("--dry-run", is_flag=True, help="Erase nothing; print the ids.")
@click.option("--receipts", is_flag=True, help="Erase nothing; print the receipts that are kept.")
def erase_command(  # noqa: PLR0913, PLR0917  the places and what may be asked
    places: DataPaths,
    instance_ids: Sequence[UUID],
    profile_ids: Sequence[UUID],
    new_since: datetime | None,
    dry_run: bool,
    receipts: bool,
) -> None:
    """Remove instances or profiles for good, and print a receipt for each.

    While a server has the warehouse it does the work: what is delivered meanwhile waits, or is answered 503.

    --instance and --profile may be given again: several ids cost one pass over the files. The first receipt counts what
    was removed of all of them.

    Whatever was received before goes: rows, rollups, records of the landfill, the snapshot, and quarantined bodies
    that may hold it, which are those of the instances that held it, those of no known instance, and all of them for a
    profile that no instance is known to hold: retry them first. The files are written anew, so the bytes are gone
    too. What was exported or backed up elsewhere is yours to remove.

    A tombstone beside the warehouse (FILE.erased.json: keyed hashes, no ids) keeps it from coming back, by a rebuild
    from an old landfill or an old warehouse. A repeat of an erased batch is answered `duplicate` and loads nothing.
    New batches of the same instance or profile are loaded: to stop them, stop the sender. Cut off at any point, an
    erasure is finished by the next start or command that writes.
    """
    os.umask(0o077)
    if receipts:
        for erasure in tombstones.read(places.tombstones).erasures:
            click.echo(msgspec.json.encode(erasure).decode())
        return
    if sum(map(bool, (instance_ids, profile_ids, new_since))) != 1:
        raise click.UsageError("name one of --instance, --profile and --new-since")
    try:
        scope: tombstones.Scope = "profile" if profile_ids else "instance"
        asked = EraseRequest(scope, list(instance_ids or profile_ids), new_since, dry_run)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not places.warehouse.exists() and not places.landfill.exists():
        raise click.ClickException(f"{places.warehouse} does not exist: name the warehouse with --warehouse")
    try:
        done = erase_here(places, asked)
    except InUseError:
        done = ask_to_erase(places.warehouse, asked)
    if not done.receipts:
        click.echo("\n".join(map(str, done.ids)))
        return
    for erasure in done.receipts:
        click.echo(msgspec.json.encode(erasure).decode())
    if not any(done.receipts[0].removed.values()):
        click.echo("nothing of it was found: is the id right?", err=True)


def erase_here(places: DataPaths, asked: EraseRequest) -> EraseAnswer:
    """Carry out an erasure while no server has the warehouse. Raises InUseError when one has it."""
    ids = list(dict.fromkeys(asked.ids))
    if asked.new_since is not None:
        with closing(open_to_read(places.warehouse)) as con:
            ids = find_ids(con, asked)
    if asked.dry_run or not ids:
        return EraseAnswer(ids)
    try:
        return EraseAnswer(ids, erase_ids(places, asked.scope, ids))
    except (OSError, duckdb.Error) as error:
        raise click.ClickException(describe_stop(error)) from None


def ask_to_erase(warehouse: Path, asked: EraseRequest) -> EraseAnswer:
    """Have the running server do it, with the token that it keeps for whoever may read its files."""
    try:
        token = operator_file(warehouse).read_text().strip()
    except FileNotFoundError:
        raise click.ClickException(
            f"{warehouse} is in use, but not by a server that can be asked to erase: stop it, then erase"
        ) from None
    body = msgspec.json.encode(asked)
    try:
        return ask_server(find_url(warehouse), "/erase", EraseAnswer, "POST", LONG_SECONDS, body=body, token=token)
    except NoAnswerError as error:
        message = f"{error.message}; the next start finishes what was begun, see `erase --receipts`"
        raise click.ClickException(message) from None

"""`status`, `check` and `digest`: what came, and whether the sums agree."""

import os
import sys
from contextlib import closing
from typing import Any

import click
import msgspec

from penpot_telemetry.wire.limits import MIB
from receiver.cli.client import ask_server, open_to_read, read_or_ask
from receiver.cli.options import place_options, url_option
from receiver.reports import account
from receiver.reports.account import Account
from receiver.reports.disk_usage import Sizes, read_sizes
from receiver.server.settings import read_settings
from receiver.storage import journal, lookups, warehouse
from receiver.storage.dead_letters import measure
from receiver.storage.paths import DataPaths
from receiver.storage.records import InUseError


@click.command()
@place_options
@url_option
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def status(places: DataPaths, url: str | None, as_json: bool) -> None:
    """What came, what became of it, what senders lost, and whether the sums agree."""
    found = find_account(places, url)
    click.echo(msgspec.json.encode(found).decode() if as_json else describe(found))


@click.command()
@place_options
@url_option
def check(places: DataPaths, url: str | None) -> None:
    """Compare the sums and read every record of the landfill; exit 1 when something does not agree or is damaged.

    What is damaged is named, with the file beside it that keeps it. Once you have looked at that file, rename its
    ending to `.accepted`, and it is no longer reported.
    """
    places = read_settings(places, "", 0, os.environ).places
    found = find_account(places, url)
    if places.landfill.is_dir():
        found = msgspec.structs.replace(found, checks=[*found.checks, *check_journal(places)])
    click.echo(describe_checks(found))
    if not found.adds_up:
        sys.exit(1)


@click.command()
@place_options
def digest(places: DataPaths) -> None:
    """One digest over all events, batches and reports: equal before and after a rebuild."""
    with closing(open_to_read(places.warehouse)) as con:
        click.echo(account.content_digest(con))


def find_account(places: DataPaths, url: str | None) -> Account:
    """The account from the warehouse, or from the server that holds it."""

    def read(con: Any) -> Account:
        found = account.read_account(con)
        checks = [*found.checks, landfill_check(con, places)]
        sizes = read_sizes(places.warehouse, places.landfill, measure(places.quarantine))
        return msgspec.structs.replace(found, checks=checks, sizes=sizes)

    return read_or_ask(places, url, read, lambda url: ask_server(url, "/status", Account))


def landfill_check(con: Any, places: DataPaths) -> account.Check:
    """Whether the landfill ends where the warehouse says that it is complete."""
    committed, end = warehouse.committed_position(con), journal.end_of(places.landfill)
    left, right = committed.offset if committed else 0, end.offset if end else 0
    return account.Check("landfill read up to = its end", left, right, committed == end or (not left and not right))


def check_journal(places: DataPaths) -> list[account.Check]:
    """What of the landfill cannot be read, what is kept beside it, and what the warehouse has that it lacks.

    Deliveries are compared by day while no server has the warehouse. The days before the oldest file are left out
    when RECEIVER_LANDFILL_DAYS removes them.
    """
    survey = journal.survey(places.landfill)
    checks = [account.Check(f"bytes that are no record in {name}", size, 0, holds=False) for name, size in survey.bad]
    checks += [account.Check(f"kept beside: {path.name}", 1, 0, holds=False) for path in survey.kept]
    try:
        con = open_to_read(places.warehouse)
    except InUseError:
        return checks
    with closing(con):
        since = min(survey.records, default=None) if places.landfill_days else None
        lacking = sum(
            max(0, deliveries - survey.records.get(day, 0))
            for day, deliveries in lookups.count_by_day(con)
            if (since is None or day >= since) and day not in survey.accepted
        )
    return [*checks, account.Check("deliveries that the landfill lacks", lacking, 0, lacking == 0)]


def describe(found: Account) -> str:
    """The account for a person."""
    lines = [
        f"received    {found.received:>12,} bodies",
        f"  loaded    {found.loaded:>12,} ({found.batches:,} batches with {found.events:,} events from "
        f"{found.instances:,} instances; {found.reports:,} legacy reports)",
        f"  duplicate {found.duplicate:>12,}",
        f"  quarantined {found.quarantined:>10,} "
        + ", ".join(f"{n:,} {reason}" for reason, n in found.quarantine.items()),
        *(f"{events:,} of the events removed since by {cause}" for cause, events in found.removed.items()),
        f"lost before sending, as senders say: {found.lost_at_senders:,} events",
        *(
            f"  {loss.reported_on}  {loss.instance_id}  {loss.dropped:,} dropped by gc, {loss.quarantined:,} set aside"
            for loss in found.losses
        ),
        f"missing in the sequences: {found.missing_batches:,} batches",
        *(f"  {gap.instance_id}  {gap.first_missing} to {gap.last_missing}" for gap in found.gaps),
        *(
            [f"claimed more than can be: {found.implausible_instances:,} instances, not counted on these days"]
            if found.implausible_instances
            else []
        ),
        f"dead letters {sum(found.dead_letters.values()):>11,} "
        + ", ".join(f"{n:,} {reason}" for reason, n in found.dead_letters.items()),
        f"removed on load: {found.dropped_context_keys:,} context keys, {found.unknown_keys:,} event keys; "
        f"{found.changed_values:,} context values reduced, {found.ignored_fields:,} odd fields ignored",
        f"last batch  {found.last_batch_at:%Y-%m-%d %H:%M:%S} UTC" if found.last_batch_at else "last batch  none yet",
        *([] if found.sizes is None else [describe_sizes(found.sizes)]),
        describe_checks(found),
    ]
    return "\n".join(line.rstrip() for line in lines)


def describe_sizes(sizes: Sizes) -> str:
    """What is on the disks, in one line."""
    parts = [f"{name} {size / MIB:,.1f}" for name, size in msgspec.structs.asdict(sizes).items()]
    return "MiB         " + ", ".join(parts)


def describe_checks(found: Account) -> str:
    """One line a check, the broken ones marked."""
    lines = [f"{'ok ' if one.holds else 'NOT'}  {one.name}: {one.left:,} and {one.right:,}" for one in found.checks]
    return "\n".join([*lines, "the sums agree" if found.adds_up else "THE SUMS DO NOT AGREE"])

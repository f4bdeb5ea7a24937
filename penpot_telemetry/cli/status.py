"""`status`: what waits, and whether the account adds up."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from penpot_telemetry.cli.session import open_sender
from penpot_telemetry.cli.setup import show_public_key
from penpot_telemetry.cli.table import print_table

if TYPE_CHECKING:
    from penpot_telemetry.status import Status


@click.command(short_help="What waits, and whether the account adds up.")
@click.option("--check", is_flag=True, help="Exit with 1 when the account does not add up.")
@click.option("--accept-missing", is_flag=True, help="Count rows that another program deleted as dropped.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(check: bool, accept_missing: bool, as_json: bool) -> None:
    """What waits, by day and source, and whether the account adds up.

    Since the beginning: recorded = shipped + dropped + quarantined + pending. Rows of audit_log that somebody else
    deleted are missing in it, and --check fails, until somebody has looked and says --accept-missing.

    \b
      penpot-telemetry status
      penpot-telemetry status --check --json
    """
    with open_sender(read_only=not accept_missing) as (settings, conn):
        from penpot_telemetry.reconcile import accept_missing as accept  # noqa: PLC0415
        from penpot_telemetry.status import read_status  # noqa: PLC0415

        if accept_missing:
            click.echo(f"{accept(conn):,} missing rows count as dropped from now on", err=True)
        found = read_status(conn, settings)
    key = show_public_key(settings.signing_key) if settings.signing_key else None
    if as_json:
        _print_status_json(found, key)
    else:
        _print_status(found, key, settings.cap_rows)
    for warning in found.warnings:
        click.echo(warning, err=True)
    sys.exit(1 if check and not found.adds_up else 0)


def _account(found: "Status") -> Mapping[str, int]:
    state = found.state
    return {
        "recorded": found.recorded,
        "shipped": state.shipped,
        "dropped": state.dropped,
        "quarantined": state.quarantined,
        "pending": found.pending,
    }


def _print_status_json(found: "Status", key: str | None) -> None:
    state = found.state
    content: dict[str, object] = {
        "instance-id": str(state.instance_id) if state.instance_id else None,
        "adds-up": found.adds_up,
        **_account(found),
        "missing": found.missing,
        "written-by-penpot": state.adopted + found.unseen,
        "frozen": found.frozen,
        "split-off": found.waiting,
        "room": found.room,
        "oldest": str(found.days[0].day) if found.days else None,
        "days": [{"day": str(day.day), "source": day.source, "rows": day.rows} for day in found.days],
        "signing-key": key,
        "excess": found.excess,
        "would-expire": found.would_expire,
        "changed": dict(found.changed),
        "warnings": list(found.warnings),
    }
    click.echo(json.dumps(content))


def _print_status(found: "Status", key: str | None, cap_rows: int) -> None:
    from penpot_telemetry.cli.dry_run import describe_drop  # noqa: PLC0415

    account = _account(found)
    print_table("waiting", ("day", "source", "rows"), [(d.day, d.source, f"{d.rows:,}") for d in found.days])
    click.echo(f"instance     {found.state.instance_id or '(chosen at the first pass)'}")
    click.echo(f"oldest       {found.days[0].day if found.days else '-'}")
    click.echo(f"signs with   {key or '(nothing: see keygen)'}")
    click.echo(f"room         {found.room:,} of {cap_rows:,} rows until gc drops the oldest")
    if drop := describe_drop(found):
        click.echo(f"will drop    {drop}")
    click.echo(f"frozen       {found.frozen:,} events, in the batch that is being sent")
    if found.changed:
        changes = ", ".join(f"{name} {count:,}" for name, count in sorted(found.changed.items()))
        click.echo(f"context values changed: {changes}")
    click.echo(f"account      recorded {account['recorded']:,} = " + _sum(account))
    verdict = "adds up"
    if not found.adds_up:
        verdict = f"DOES NOT ADD UP: {found.missing:,} rows were deleted by another program (see --accept-missing)"
    click.echo(f"             {verdict}")


def _sum(account: Mapping[str, int]) -> str:
    return " + ".join(f"{name} {number:,}" for name, number in account.items() if name != "recorded")

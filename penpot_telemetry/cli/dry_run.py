"""`run --dry-run`: what a pass would send, without sending or changing anything."""

import json
from typing import TYPE_CHECKING

import click

from penpot_telemetry import connection
from penpot_telemetry.passes import SHIPPED
from penpot_telemetry.preview import preview_batch
from penpot_telemetry.status import read_status

if TYPE_CHECKING:
    from penpot_telemetry.config import Settings
    from penpot_telemetry.status import Status


def dry_run(settings: "Settings", *, as_json: bool = False) -> int:
    """Says what a pass would send, and changes nothing. Returns the exit code."""
    if not settings.active:
        click.echo(settings.inactive_reason, err=True)
        return SHIPPED
    with connection.open_database(settings, read_only=True) as conn:
        status = read_status(conn, settings)
        batch = preview_batch(conn, settings)
    plan = {
        "pending": status.pending,
        "batches": -(-status.pending // settings.batch_rows),
        "first-batch-events": batch.event_count if batch else 0,
        "first-batch-bytes": len(batch.body) if batch else 0,
        "first-batch-odd": batch.odd if batch else 0,
        "uri": settings.endpoint.url if settings.endpoint else None,
        "excess": status.excess,
        "would-expire": status.would_expire,
    }
    if as_json:
        click.echo(json.dumps(plan))
    elif batch is None:
        click.echo("nothing waits: nothing would be sent")
    else:
        click.echo(
            f"would send up to {status.pending:,} events in {plan['batches']:,} batches to "
            f"{plan['uri'] or '(PENPOT_TELEMETRY_URI is not set)'}; the first one: "
            f"{batch.event_count:,} events, {len(batch.body):,} bytes. Nothing was sent"
        )
    if batch and batch.odd:
        click.echo(f"{batch.odd:,} rows before its end cannot be sent and will become dead letters", err=True)
    if drop := describe_drop(status):
        click.echo(f"will drop {drop}", err=True)
    return SHIPPED


def describe_drop(status: "Status") -> str | None:
    """What the gc of the next pass would delete unsent, for a person; None when nothing."""
    parts = [
        f"{status.excess:,} rows above the cap" if status.excess else "",
        f"{status.would_expire:,} older than the retention" if status.would_expire else "",
    ]
    said = " and ".join(part for part in parts if part)
    return f"{said}, if the next pass can ship nothing" if said else None

"""`run --dry-run`: what a pass would send, without sending or changing anything."""

import json
from typing import TYPE_CHECKING

import click

from penpot_telemetry import connection
from penpot_telemetry.passes import SHIPPED
from penpot_telemetry.preview import preview_page
from penpot_telemetry.status import read_status

if TYPE_CHECKING:
    from penpot_telemetry.config import Settings
    from penpot_telemetry.status import Status


def dry_run(settings: "Settings", *, as_json: bool = False) -> int:
    """Says what a pass would send, and changes nothing."""
    if not settings.active:
        click.echo(settings.inactive_reason, err=True)
        return SHIPPED
    with connection.open_database(settings, read_only=True) as conn:
        status = read_status(conn, settings)
        page = preview_page(conn, settings)
    plan = {
        "pending": status.pending,
        "batches": -(-status.pending // settings.page_rows),
        "first-batch-events": page.event_count if page else 0,
        "first-batch-bytes": len(page.body) if page else 0,
        "first-batch-odd": page.odd if page else 0,
        "uri": settings.endpoint.url if settings.endpoint else None,
        "excess": status.excess,
        "would-expire": status.would_expire,
    }
    if as_json:
        click.echo(json.dumps(plan))
    elif page is None:
        click.echo("nothing waits: nothing would be sent")
    else:
        click.echo(
            f"would send up to {status.pending:,} events in {plan['batches']:,} batches to "
            f"{plan['uri'] or '(PENPOT_TELEMETRY_URI is not set)'}; the first one: "
            f"{page.event_count:,} events, {len(page.body):,} bytes. Nothing was sent"
        )
    if page and page.odd:
        click.echo(f"{page.odd:,} rows up to there cannot be sent and will go into quarantine", err=True)
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

"""`ledger`: every batch that was sent, and whether the receiver has them all."""

import json
import os
import sys
from collections.abc import Sequence

import click

from penpot_telemetry.cli.session import open_sender
from penpot_telemetry.cli.table import print_table


@click.group(invoke_without_command=True, short_help="Every batch ever sent; compare it with a receiver.")
@click.pass_context
def ledger(context: click.Context) -> None:
    """Every batch that was ever sent, and whether the receiver has them all.

    \b
      penpot-telemetry ledger list
      penpot-telemetry ledger verify http://127.0.0.1:6070/
    """
    if context.invoked_subcommand is None:
        context.invoke(list_ledger)


@ledger.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a batch.")
def list_ledger(as_json: bool = False) -> None:
    """Every batch: when, how many rows and bytes, digest, receipt."""
    with open_sender(read_only=True) as (_, conn):
        from penpot_telemetry import outbox  # noqa: PLC0415
        from penpot_telemetry.ledger import read_ledger  # noqa: PLC0415

        entries = list(read_ledger(conn))
        frozen = outbox.fetch_batch(conn)
    if as_json:
        for entry in entries:
            click.echo(
                json.dumps(
                    {
                        "batch-seq": entry.seq,
                        "batch-id": str(entry.batch_id),
                        "events": entry.events,
                        "bytes": entry.bytes,
                        "digest": entry.digest,
                        "frozen-at": entry.frozen_at.isoformat(),
                        "settled-at": entry.settled_at.isoformat(),
                        "outcome": entry.outcome,
                        "receipt": entry.receipt,
                    }
                )
            )
        return
    rows: list[Sequence[object]] = []
    for e in entries:
        told = (e.outcome, e.batch_id, e.digest[7:15], e.receipt.get("status", "-"))
        rows.append((e.seq, f"{e.settled_at:%Y-%m-%d %H:%M}", f"{e.events:,}", f"{e.bytes:,}", *told))
    if frozen is not None:
        told = ("unanswered", frozen.batch_id, frozen.digest[7:15], "-")
        moment, size = f"{frozen.frozen_at:%Y-%m-%d %H:%M}", f"{len(frozen.body):,}"
        rows.append((frozen.seq, moment, f"{frozen.event_count:,}", size, *told))
    print_table("ledger", ("seq", "when", "events", "bytes", "outcome", "batch", "digest", "receipt"), rows)


@ledger.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(url: str, as_json: bool) -> None:
    """Compare the ledger with that of the receiver at URL. Exit code 1 when they differ.

    PENPOT_TELEMETRY_TOKEN, or the file that PENPOT_TELEMETRY_TOKEN_FILE names, is sent as a bearer token.
    """
    from penpot_telemetry.endpoint import read_endpoint  # noqa: PLC0415

    endpoint = read_endpoint(os.environ, url, "URL")
    with open_sender(read_only=True) as (settings, conn):
        from penpot_telemetry import ledger as ledgers  # noqa: PLC0415

        found = ledgers.verify(conn, endpoint, settings)
    agreed, mismatches = found.agreed, found.mismatches
    if as_json:
        differences = [
            {"batch-seq": m.seq, "batch-id": str(m.batch_id), "difference": m.difference} for m in mismatches
        ]
        click.echo(json.dumps({"agreed": agreed, "differences": differences}))
    else:
        for mismatch in mismatches:
            click.echo(f"batch {mismatch.seq} ({mismatch.batch_id}) {mismatch.difference}")
        click.echo(f"{agreed:,} batches agree, {len(mismatches):,} differ")
    sys.exit(1 if mismatches else 0)

"""`preview`: what would be sent; `decode`: what was."""

import json
from typing import IO

import click

from penpot_telemetry.cli.session import open_sender
from penpot_telemetry.cli.streams import InputFile
from penpot_telemetry.errors import DecodeError


@click.command(short_help="What the next pass would send, decoded.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="The most events to print.")
@click.option("--all", "everything", is_flag=True, help="Print every event of the batch.")
@click.option("--json", "as_json", is_flag=True, help="The decoded batch as one JSON object.")
def preview(limit: int, everything: bool, as_json: bool) -> None:
    """Exactly what the next pass would send first, decoded, and its size. Nothing is sent or changed.

    The events are read back from the very bytes of the batch: one JSON object a line on stdout.

    \b
      penpot-telemetry preview
      penpot-telemetry preview --all > batch.jsonl
    """
    with open_sender(read_only=True) as (settings, conn):
        from penpot_telemetry import instance, legacy_report  # noqa: PLC0415
        from penpot_telemetry.decode import decode_lines  # noqa: PLC0415
        from penpot_telemetry.preview import preview_batch  # noqa: PLC0415

        batch = preview_batch(conn, settings)
        if settings.legacy_report and (shown_id := instance.show(conn, settings)) is not None:
            body, _ = legacy_report.build_current_report(conn, settings, shown_id.value)
            click.echo(f"once a day a legacy report: {body.decode()}", err=True)
    if batch is None:
        click.echo("nothing waits: nothing would be sent", err=True)
        return
    envelope = {key: value for key, value in json.loads(batch.body).items() if key != "events"}
    lines = decode_lines(batch.body)
    if as_json:
        click.echo(json.dumps({"bytes": len(batch.body), **envelope, "events": [json.loads(line) for line in lines]}))
        return
    click.echo(f"{batch.event_count:,} events, {len(batch.body):,} bytes; envelope: {json.dumps(envelope)}", err=True)
    shown = batch.event_count if everything else min(limit, batch.event_count)
    for line, _ in zip(lines, range(shown), strict=False):
        click.echo(line)
    if shown < batch.event_count:
        click.echo(f"... and {batch.event_count - shown:,} more (--all)", err=True)


@click.command(short_help="Read a batch: JSON lines out.")
@click.argument("file", type=InputFile(), default="-")
def decode(file: IO[bytes]) -> None:
    """Read a batch: a blob, or a whole payload, from FILE or stdin. One JSON object a line.

    \b
      penpot-telemetry decode payload.json | head -3
      jq -r .events payload.json | penpot-telemetry decode
    """
    from penpot_telemetry.decode import decode_lines  # noqa: PLC0415
    from penpot_telemetry.wire.limits import RECEIPT  # noqa: PLC0415

    body = file.read(RECEIPT.body + 1)
    if len(body) > RECEIPT.body:
        raise DecodeError(f"more than {RECEIPT.body:,} bytes: no batch is that large", reason="too-large")
    for line in decode_lines(body):
        click.echo(line)

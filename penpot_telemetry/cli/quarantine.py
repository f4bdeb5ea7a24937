"""`quarantine`: dead letters listed, retried, dropped."""

import json
from collections.abc import Sequence
from uuid import UUID

import click

from penpot_telemetry.cli.session import open_sender
from penpot_telemetry.cli.table import print_table
from penpot_telemetry.errors import ConfigError


@click.group(short_help="Dead letters: list, retry, drop.")
def quarantine() -> None:
    """Dead letters: rows that were refused alone, or that no batch can hold. None is lost until you drop it.

    \b
      penpot-telemetry quarantine list
      penpot-telemetry quarantine retry --all
      penpot-telemetry quarantine drop 0f1c…
    """


@quarantine.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row.")
def list_quarantine(as_json: bool) -> None:
    """The dead letters: which rows, since when, and why."""
    with open_sender(read_only=True) as (_, conn):
        from penpot_telemetry import dead_letters  # noqa: PLC0415

        rows = dead_letters.read_dead_letters(conn)
    if as_json:
        for row in rows:
            click.echo(
                json.dumps(
                    {
                        "id": str(row.id),
                        "name": row.name,
                        "source": row.source,
                        "since": row.since.isoformat(),
                        "reason": row.reason,
                        "batch-id": str(row.batch_id) if row.batch_id else None,
                    }
                )
            )
        return
    print_table(
        "quarantine", ("id", "since", "name", "reason"), [(r.id, f"{r.since:%Y-%m-%d}", r.name, r.reason) for r in rows]
    )


@quarantine.command()
@click.argument("ids", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="Every row.")
def retry(ids: tuple[UUID, ...], everything: bool) -> None:
    """Put rows back, to be shipped by the next pass."""
    chosen = _choose(ids, everything)
    with open_sender() as (_, conn):
        from penpot_telemetry import dead_letters  # noqa: PLC0415

        click.echo(f"put back {dead_letters.retry(conn, chosen):,} rows")


@quarantine.command()
@click.argument("ids", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="Every row.")
def drop(ids: tuple[UUID, ...], everything: bool) -> None:
    """Delete rows for good. They count as dropped."""
    chosen = _choose(ids, everything)
    with open_sender() as (_, conn):
        from penpot_telemetry import dead_letters  # noqa: PLC0415

        click.echo(f"dropped {dead_letters.drop(conn, chosen):,} rows")


def _choose(ids: tuple[UUID, ...], everything: bool) -> Sequence[UUID] | None:
    if bool(ids) == everything:
        raise ConfigError("name the rows by their ids, or say --all")
    return None if everything else ids

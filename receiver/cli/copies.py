"""`snapshot` and `export`: copies for readers."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from penpot_telemetry.wire.limits import MIB
from receiver.cli.client import LONG_SECONDS, T, ask_server, find_url, open_to_read
from receiver.cli.options import place_options
from receiver.copies import export, snapshot
from receiver.questions.reader import open_file
from receiver.storage.paths import DataPaths, snapshot_of
from receiver.storage.records import InUseError


@click.command(name="snapshot")
@place_options
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write it here. [default: beside the warehouse, where readers look for it]")  # fmt: skip
def take_snapshot(places: DataPaths, to: Path | None) -> None:
    """Publish a copy of the warehouse that others read while a server writes.

    The copy takes the place of the one before in one step. While a server has the warehouse, the server makes it; it
    also does so by itself, see RECEIVER_SNAPSHOT_MINUTES.
    """
    os.umask(0o077)
    target = to or snapshot_of(places.warehouse)
    try:
        con = open_to_read(places.warehouse)
    except InUseError:
        made = ask_server(find_url(places.warehouse), "/snapshot", snapshot.Snapshot, "POST", LONG_SECONDS)
        if to is not None:
            snapshot.copy_snapshot(snapshot_of(places.warehouse), to)
    else:
        with closing(con):
            made = snapshot.publish(places.warehouse, target)
    fresh = "empty" if made.fresh_at is None else f"fresh at {made.fresh_at:%Y-%m-%d %H:%M} UTC"
    click.echo(f"{target}: {made.holds.events:,} events, {made.bytes / MIB:,.1f} MiB, {fresh}")


day_type = click.DateTime(["%Y-%m-%d"])


@click.command(name="export")
@click.option("--warehouse", type=click.Path(path_type=Path, dir_okay=False), default=Path("telemetry.duckdb"),
              envvar="RECEIVER_WAREHOUSE", show_envvar=True, show_default=True,
              help="The DuckDB file. While a server has it, its snapshot is exported.")  # fmt: skip
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER",
              help="A folder that is empty, not there yet, or of an earlier export.")  # fmt: skip
@click.option("--table", type=click.Choice(list(export.TABLES)), default="events", show_default=True)
@click.option("--first-day", type=day_type, metavar="YYYY-MM-DD", help="The first day, inclusive. [default: all]")
@click.option("--last-day", type=day_type, metavar="YYYY-MM-DD", help="The last day, inclusive. [default: all]")
@click.option("--prune", is_flag=True, help="Remove days (of those asked for) that the warehouse does not hold.")
def export_table(  # noqa: PLR0913  the options of a command
    warehouse: Path, folder: Path, table: str, first_day: datetime | None, last_day: datetime | None, *, prune: bool
) -> None:
    """Write a table as Parquet, one folder a day: FOLDER/events/tracked_on=YYYY-MM-DD/part-0.parquet.

    Events go by their day (tracked_on), batches and reports by the day they came (received_on). Ids and JSON are text,
    rows are sorted, compression is zstd; the same content makes the same files. A day that was exported before is
    replaced, in one step; a day that the warehouse no longer holds stays, as in an archive, unless --prune is given:
    use it after `erase`. Any other folder that is not empty is refused.
    """
    con, opened = open_file(warehouse)
    with closing(con):
        if opened != warehouse:
            click.echo(f"{warehouse} is in use, exporting its snapshot {opened}", err=True)
        done = export.export(
            con, folder, table, first_day and first_day.date(), last_day and last_day.date(), prune=prune, each=show
        )
    click.echo(f"{folder / table}: {done.rows:,} rows, files: {done.files:,}")
    if done.kept_days:
        click.echo(
            f"days in the folder that the warehouse does not hold: {done.kept_days:,}; --prune removes them", err=True
        )


def show(items: Sequence[T]) -> Iterator[T]:
    """The items one by one, with a bar on a terminal."""
    with click.progressbar(items, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield from bar

"""A table of the warehouse as Parquet, a folder a day, as lakes like it: `FOLDER/events/tracked_on=2026-03-01/`.

Ids are text and JSON is text, so that every reader knows the types. The rows of a file are sorted by all that is in
them and name no row number of the warehouse: the same content makes the same files. A file appears whole or not at all.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

import duckdb

from penpot_telemetry.errors import TelemetryError
from receiver.storage.journal import sync_folder

MARKER = "export.json"
MARK = {"penpot-telemetry-export": 1}
FILE = "part-0.parquet"
UNFINISHED = ".unfinished"
NO_DAY = "__HIVE_DEFAULT_PARTITION__"
"""What readers of such folders take for NULL: events whose instant lies outside the calendar."""


class ExportError(TelemetryError):
    """The export cannot go where it was told to. Nothing that was there is changed."""


class Exported(NamedTuple):
    """Rows and files that were written, and days of an earlier export that the warehouse does not hold."""

    rows: int
    files: int
    kept_days: int


class Table(NamedTuple):
    """A table as it is exported: what its days are called, and the rows with their day."""

    day: str
    rows: str


TABLES = {
    "events": Table(
        "tracked_on",
        "SELECT tracked_on, e.instance_id::VARCHAR AS instance_id, e.version, received_at::DATE AS received_on, name, "
        "type, source, profile_id::VARCHAR AS profile_id, props::VARCHAR AS props, context::VARCHAR AS context, "
        "key::VARCHAR AS batch_key FROM events e JOIN batches USING (batch_no)",
    ),
    "batches": Table(
        "received_on",
        "SELECT received_at::DATE AS received_on, key::VARCHAR AS batch_key, instance_id::VARCHAR AS instance_id, "
        "batch_id::VARCHAR AS batch_id, * EXCLUDE (batch_no, key, instance_id, batch_id) FROM batches",
    ),
    "reports": Table(
        "received_on",
        "SELECT received_at::DATE AS received_on, key::VARCHAR AS report_key, instance_id::VARCHAR AS instance_id, "
        "stats::VARCHAR AS stats, * EXCLUDE (report_no, key, instance_id, stats) FROM reports",
    ),
}


def export(  # noqa: PLR0913  what an export can be asked for
    con: duckdb.DuckDBPyConnection,
    folder: Path,
    table: str,
    first_day: date | None = None,
    last_day: date | None = None,
    *,
    prune: bool = False,
    each: Callable[[Sequence[date | None]], Iterable[date | None]] = iter,
) -> Exported:
    """Write the days of a table under `folder`, each in the place of the same day of an earlier export.

    Both days are inclusive; events without a day go along when neither is given. Days of an earlier export that the
    warehouse does not hold stay, as in an archive, unless they are to be pruned. `each` is given the days and gives
    them back one by one, so that one can see it go on. Raises ExportError.
    """
    prepare_folder(folder)
    try:
        days = list_days(con, TABLES[table], first_day, last_day)
        rows = sum(export_day(con, folder, table, day) for day in each(days))
        gone = [
            path
            for day, path in list_written(folder / table, TABLES[table].day)
            if day not in days and is_asked(day, first_day, last_day)
        ]
        for path in gone if prune else ():
            remove_day(path)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror}") from error
    except duckdb.Error as error:
        raise ExportError(f"{folder} cannot be written: {type(error).__name__}") from error
    return Exported(rows, len(days), 0 if prune else len(gone))


def prepare_folder(folder: Path) -> None:
    """Make the folder, or know it again as one of an earlier export; what that one left half-written is removed."""
    marker = folder / MARKER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if marker.exists():
            if json.loads(marker.read_text()) != MARK:
                raise ExportError(f"{folder} is an export of another version: choose another folder")
        elif any(folder.iterdir()):
            raise ExportError(f"{folder} is not empty and no export: choose another folder")
        else:
            marker.write_text(json.dumps(MARK) + "\n")
        for path in folder.glob("*" + UNFINISHED):
            path.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder} cannot be used: {type(error).__name__}") from error


def list_days(
    con: duckdb.DuckDBPyConnection, table: Table, first_day: date | None, last_day: date | None
) -> list[date | None]:
    """The days with rows, in order; None, for those without, last."""
    found = con.execute(f"SELECT DISTINCT {table.day} FROM ({table.rows}) ORDER BY 1 NULLS LAST").fetchall()  # noqa: S608  our own text
    return [day for (day,) in found if is_asked(day, first_day, last_day)]


def is_asked(day: date | None, first_day: date | None, last_day: date | None) -> bool:
    """Whether a day is among those that were asked for."""
    if day is None:
        return first_day is None and last_day is None
    return (first_day or date.min) <= day <= (last_day or date.max)


def export_day(con: duckdb.DuckDBPyConnection, folder: Path, table: str, day: date | None) -> int:
    """One file, synced under another name before it takes its place; returns its rows."""
    of = TABLES[table]
    unfinished = folder / f"{table}-{day}{UNFINISHED}"
    path = str(unfinished).replace("'", "''")
    (rows,) = con.execute(
        f"COPY (SELECT * EXCLUDE ({of.day}) FROM ({of.rows}) WHERE {of.day} IS NOT DISTINCT FROM $day ORDER BY ALL) "  # noqa: S608  our own text and an escaped path
        f"TO '{path}' (FORMAT parquet, COMPRESSION zstd)",
        {"day": day},
    ).fetchone() or (0,)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    target = folder / table / f"{of.day}={day or NO_DAY}"
    target.mkdir(parents=True, exist_ok=True)
    unfinished.rename(target / FILE)
    sync_folder(target)
    return int(rows)


def list_written(folder: Path, name: str) -> list[tuple[date | None, Path]]:
    """The days of an earlier export that lie in the folder of a table."""
    found: list[tuple[date | None, Path]] = []
    for path in sorted(folder.glob(f"{name}=*")):
        value = path.name.partition("=")[2]
        with suppress(ValueError):  # not one of ours
            found.append((None if value == NO_DAY else date.fromisoformat(value), path))
    return found


def remove_day(path: Path) -> None:
    """Remove our own file of a day, and the folder when nothing else is in it."""
    (path / FILE).unlink(missing_ok=True)
    with suppress(OSError):
        path.rmdir()

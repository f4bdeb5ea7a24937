"""The DuckDB file: deliveries in, one transaction each or several together; a batch known again by its key.

One process and one thread write. Functions take a connection and the caller owns the transaction; `Warehouse` owns the
connection and the row numbers. An error message of DuckDB may quote a value, so it is never passed on: only its type.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from uuid import UUID

import duckdb
import msgspec
import polars as pl

from penpot_telemetry.errors import DatabaseError
from receiver.storage import rollups, schema
from receiver.storage.journal import sync_folder
from receiver.storage.readers import Readers
from receiver.storage.records import DeadLetter, Delivery, InUseError, Position, Receipt, list_superseded

CHECKPOINT_AT = "256MB"
"""Of WAL. Checkpoints cost 18 ms a batch of 10,000 rows at the default of 16 MB, 13 at 64 and 6 here; the start after
a kill reads this much again, within a second."""

DATA_ERRORS = (duckdb.DataError, duckdb.IntegrityError, duckdb.NotSupportedError, duckdb.InvalidInputException)
"""What DuckDB raises when the rows are at fault, not the disk: the same rows would fail again."""


class Known(NamedTuple):
    """A batch that was loaded before, as its receipt must tell it; `forgotten` when its row is gone since."""

    batch_id: UUID | None
    event_count: int
    digest: str
    forgotten: bool = False
    dead_letters: int = 0


@dataclass(slots=True)
class Numbers:
    """The last row number of each table, and the last instant of receipt: the writer counts on from these."""

    batch: int
    report: int
    quarantine: int
    delivery: int
    dead_letter: int
    received_at: datetime


class Warehouse:
    """The open warehouse of one writer: creates an empty one, refuses one of a newer schema or one in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.con = connect(path)
        self._readers = Readers(self.con)
        try:
            prepare(self.con, path)
            self.numbers = read_numbers(self.con)
        except duckdb.Error as error:
            self.con.close()
            raise DatabaseError(f"{path} cannot be read ({type(error).__name__}): {remedy(path)}") from None
        except BaseException:
            self.con.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write everything into the one file and let go of it."""
        self._readers.end()
        with suppress(duckdb.Error):  # what is not added up now is at the next start
            self.roll_up()
        self.con.close()

    def roll_up(self) -> None:
        """Bring the rollups up to the last batch, in a transaction of its own."""
        with transaction(self.con):
            rollups.catch_up(self.con)

    def reader(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection of its own for one reading thread, as long as the block lasts."""
        return self._readers.read()


def connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A connection that loads no extension and speaks UTC. Raises DatabaseError with what to do."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        con = duckdb.connect(str(path), read_only=read_only, config=config)
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"SET checkpoint_threshold = '{CHECKPOINT_AT}'")
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise InUseError(f"{path} is in use by another process: a warehouse has one writer") from None
        if path.is_dir() or wal_of(path).is_dir():
            raise DatabaseError(f"{path} or {wal_of(path)} is a folder: a file belongs there, move it away") from None
        if path.exists() and os.access(path, os.R_OK | os.W_OK) and path.stat().st_size:
            raise DatabaseError(f"{path} cannot be opened ({type(error).__name__}): {remedy(path)}") from None
        raise DatabaseError(f"{path} cannot be opened: is its folder there, and may it be written?") from None
    except duckdb.Error as error:
        raise DatabaseError(f"{path} cannot be opened ({type(error).__name__}): {remedy(path)}") from None
    return con


def remedy(path: Path) -> str:
    """What to do about a warehouse that DuckDB will not read."""
    again = "run `python -m receiver rebuild`, which makes it anew from the landfill and keeps the old file"
    wal = wal_of(path)
    if wal.exists():
        return f"it or its log is damaged. Move {wal} away and start again, the landfill has what is in it; or {again}"
    return f"it is damaged, or no warehouse: {again}"


TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'main' AND table_type = 'BASE TABLE'"
VERSION = "SELECT value FROM meta WHERE key = 'schema-version'"


def prepare(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Give a file the tables of today, be it empty or older, and bring its rollups up to date.

    Raises DatabaseError for a file that is no warehouse or of a newer receiver.
    """
    version = 0 if one(con, TABLES) == (0,) else read_version(con, path)
    with transaction(con):
        if version < schema.VERSION:
            schema.upgrade(con, version)
        rollups.create(con)
        rollups.catch_up(con)


def read_version(con: duckdb.DuckDBPyConnection, path: Path) -> int:
    """The schema version of a file. Raises DatabaseError when it is no warehouse, or a newer one."""
    try:
        (version,) = one(con, VERSION)
    except duckdb.CatalogException:
        raise DatabaseError(f"{path} is a DuckDB file, but not a warehouse: choose another with --warehouse") from None
    if int(str(version)) > schema.VERSION:
        raise DatabaseError(
            f"{path} was written by a newer receiver (schema version {version}, this one reads {schema.VERSION}): "
            "upgrade this receiver"
        )
    return int(str(version))


def check_version(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Refuse to read a file whose tables are not those of today. Raises DatabaseError."""
    version = read_version(con, path)
    if version < schema.VERSION:
        raise DatabaseError(
            f"{path} is of an older receiver (schema version {version}, this one reads {schema.VERSION}): "
            "start this receiver on it once, which brings it up to date"
        )


NUMBERS = """
SELECT (SELECT coalesce(max(batch_no), 0) FROM batches),
       (SELECT coalesce(max(report_no), 0) FROM reports),
       (SELECT coalesce(max(quarantine_no), 0) FROM quarantine),
       (SELECT coalesce(max(delivery_no), 0) FROM deliveries),
       (SELECT coalesce(max(dead_letter_no), 0) FROM dead_letters),
       coalesce(greatest((SELECT max(received_at) FROM deliveries), (SELECT max(since) FROM instance_keys),
                         (SELECT max(value)::TIMESTAMP FROM meta WHERE key = 'erased-at')), 'epoch'::TIMESTAMP)
"""


def read_numbers(con: duckdb.DuckDBPyConnection) -> Numbers:
    """Where counting stopped."""
    batch, report, quarantine, delivery, dead_letter, received_at = one(con, NUMBERS)
    return Numbers(batch, report, quarantine, delivery, dead_letter, received_at.replace(tzinfo=UTC))


COMMITTED = """
SELECT landfill_day, landfill_end FROM deliveries
UNION ALL
SELECT split_part(value, ' ', 1)::DATE, split_part(value, ' ', 2)::BIGINT FROM meta WHERE key = 'landfill-floor'
ORDER BY landfill_day DESC, landfill_end DESC
LIMIT 1
"""


def committed_position(con: duckdb.DuckDBPyConnection) -> Position | None:
    """How far into the landfill this warehouse is complete; None before the first delivery."""
    rows = con.execute(COMMITTED).fetchall()
    return Position(*rows[0]) if rows else None


SET_FLOOR = "INSERT OR REPLACE INTO meta VALUES ('landfill-floor', ?)"


def set_floor(con: duckdb.DuckDBPyConnection, position: Position | None) -> None:
    """Say that all before a position is in here, wherever it was read from."""
    if position is not None:
        con.execute(SET_FLOOR, [f"{position.day} {position.offset}"])


FORGET_POSITIONS = "UPDATE deliveries SET landfill_day = DATE '0001-01-01', landfill_end = 0"


def reset_positions(con: duckdb.DuckDBPyConnection, end: Position | None) -> None:
    """All of a landfill whose records moved is in here; `end` is where it ends now."""
    con.execute(FORGET_POSITIONS)
    con.execute("DELETE FROM meta WHERE key = 'landfill-floor'")
    set_floor(con, end)


SET_ERASED = "INSERT OR REPLACE INTO meta VALUES ('erased-at', ?)"


def set_erased(con: duckdb.DuckDBPyConnection, at: datetime | None) -> None:
    """Say that nothing is in here that was erased up to an instant. Whatever is received later is stamped later."""
    if at is not None:
        con.execute(SET_ERASED, [utc(at).isoformat(" ")])


def erased_until(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """The instant of the last erasure that this warehouse went through."""
    rows = con.execute("SELECT value::TIMESTAMP FROM meta WHERE key = 'erased-at'").fetchall()
    return rows[0][0].replace(tzinfo=UTC) if rows else None


FORGOTTEN_HERE = "(SELECT key FROM batches UNION ALL SELECT key FROM reports UNION ALL SELECT key FROM forgotten)"

MISSING = f"""
SELECT (SELECT count(*) FROM before.batches ANTI JOIN {FORGOTTEN_HERE} USING (key))
     + (SELECT count(*) FROM before.reports ANTI JOIN {FORGOTTEN_HERE} USING (key))
"""  # noqa: S608  a constant of ours
MISSING_FORGOTTEN = f"SELECT count(*) FROM before.forgotten ANTI JOIN {FORGOTTEN_HERE} USING (key)"  # noqa: S608  likewise


def count_missing(con: duckdb.DuckDBPyConnection, other: Path) -> int | None:
    """How many batches and reports of another warehouse are not in this one; None when it cannot be read."""
    if not other.exists():
        return None if wal_of(other).exists() else 0
    path = str(other).replace("'", "''")
    try:
        con.execute(f"ATTACH '{path}' AS before (READ_ONLY)")
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise InUseError(f"{other} is in use by another process: a warehouse has one writer") from None
        return None
    except duckdb.Error:
        return None
    try:
        missing = int(one(con, MISSING)[0])
        with suppress(duckdb.CatalogException):  # an older file remembers nothing that is gone
            missing += int(one(con, MISSING_FORGOTTEN)[0])
        return missing
    except duckdb.Error:
        return None
    finally:
        with suppress(duckdb.Error):
            con.execute("DETACH before")


def keep_unreadable(path: Path) -> Path | None:
    """Give a file that cannot be read, and its log, a name that is free; returns it. None when there is nothing."""
    if not path.exists() and not wal_of(path).exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.name}.unreadable-{number}")).exists() or wal_of(kept).exists():
        number += 1
    if wal_of(path).exists():
        wal_of(path).rename(wal_of(kept))
    if path.exists():
        path.rename(kept)
    sync_folder(path.parent)
    return kept


def list_unreadable(path: Path) -> list[Path]:
    """The files that were kept under other names, without their logs."""
    return sorted(
        {one.with_name(one.name.removesuffix(".wal")) for one in path.parent.glob(path.name + ".unreadable-*")}
    )


def list_bodies(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The names of the quarantined bodies that are kept."""
    return [name for (name,) in con.execute("SELECT body FROM quarantine WHERE body IS NOT NULL ORDER BY 1").fetchall()]


def forget_bodies(con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Note that these quarantined bodies are no longer kept."""
    if names:
        con.execute("UPDATE quarantine SET body = NULL WHERE list_contains(?, body)", [list(names)])


def wal_of(path: Path) -> Path:
    """The log that DuckDB keeps beside a file."""
    return path.with_name(path.name + ".wal")


def snapshot_of(path: Path) -> Path:
    """Where the published copy of a warehouse lies: `telemetry.duckdb` → `telemetry.snapshot.duckdb`."""
    return path.with_suffix(".snapshot.duckdb")


def remove_database(path: Path) -> None:
    """A DuckDB file, its log and what it spilled, if they are there."""
    path.unlink(missing_ok=True)
    wal_of(path).unlink(missing_ok=True)
    shutil.rmtree(path.with_name(path.name + ".tmp"), ignore_errors=True)


def write_anew(path: Path) -> None:
    """Write the file without the free blocks that deleted rows leave behind, where their bytes would stay readable."""
    new = path.with_name(path.name + ".new")
    remove_database(new)
    quoted = str(new).replace("'", "''")
    with closing(connect(path)) as con:
        con.execute("CHECKPOINT")
        con.execute(f"ATTACH '{quoted}' AS anew")
        con.execute(f'COPY FROM DATABASE "{one(con, "SELECT current_database()")[0]}" TO anew')
        con.execute("DETACH anew")
    replace_database(path, new)


def replace_database(path: Path, new: Path) -> None:
    """Put a closed database in the place of another that is closed, in one step."""
    with new.open("rb") as file:
        os.fsync(file.fileno())
    wal_of(path).unlink(missing_ok=True)
    new.rename(path)
    sync_folder(path.parent)


FIND_BATCH = "SELECT batch_no, batch_id, event_count, digest, dead_letters FROM batches WHERE key = ?"
COUNT_REMOVED = "SELECT coalesce(sum(events), 0)::BIGINT FROM removed WHERE batch_no = ?"
FIND_FORGOTTEN = "SELECT NULL, events, digest, true FROM forgotten WHERE key = ?"


def find_batch(con: duckdb.DuckDBPyConnection, key: UUID) -> Known | None:
    """The batch with this key, if it was ever loaded. Two statements: joined they take five times as long."""
    rows = con.execute(FIND_BATCH, [key]).fetchall()
    if rows:
        ((batch_no, batch_id, events, digest, letters),) = rows
        return Known(batch_id, events + one(con, COUNT_REMOVED, [batch_no])[0], digest, dead_letters=letters)
    return find_forgotten(con, key)


def find_forgotten(con: duckdb.DuckDBPyConnection, key: UUID) -> Known | None:
    """A batch, report or refused body of which no more is left than what it is known again by."""
    rows = con.execute(FIND_FORGOTTEN, [key]).fetchall()
    return Known(*rows[0]) if rows else None


def is_superseded(con: duckdb.DuckDBPyConnection, key: UUID) -> bool:
    """Whether the batch with this key came in parts, which were loaded."""
    return bool(con.execute("SELECT 1 FROM superseded WHERE key = ?", [key]).fetchall())


SUPERSEDED_BODIES = """
SELECT body FROM quarantine SEMI JOIN superseded USING (instance_id, batch_id) WHERE body IS NOT NULL ORDER BY body
"""


def take_superseded_bodies(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The kept bodies of batches that came in parts; from now on they count as no longer kept."""
    bodies = [body for (body,) in con.execute(SUPERSEDED_BODIES).fetchall()]
    forget_bodies(con, bodies)
    return bodies


FIND_KEY = "SELECT key FROM instance_keys WHERE instance_id = ?"


def find_key(con: duckdb.DuckDBPyConnection, instance_id: UUID) -> str | None:
    """The public key that is pinned for an instance, if one is."""
    rows = con.execute(FIND_KEY, [instance_id]).fetchall()
    return rows[0][0] if rows else None


def has_report(con: duckdb.DuckDBPyConnection, key: UUID) -> bool:
    """Whether a report with this key was stored."""
    return bool(con.execute("SELECT 1 FROM reports WHERE key = ?", [key]).fetchall())


def has_refused(con: duckdb.DuckDBPyConnection, key: UUID) -> bool:
    """Whether a refused body with this key was put aside before."""
    return bool(con.execute("SELECT 1 FROM quarantine WHERE key = ?", [key]).fetchall())


def has_delivery(con: duckdb.DuckDBPyConnection, received_at: datetime) -> bool:
    """Whether a delivery of this instant was applied."""
    return bool(con.execute("SELECT 1 FROM deliveries WHERE received_at = ?", [utc(received_at)]).fetchall())


BY_DAY = "SELECT landfill_day, count(*) FROM deliveries WHERE landfill_day > '0001-01-01' GROUP BY ALL ORDER BY ALL"


def count_by_day(con: duckdb.DuckDBPyConnection) -> list[tuple[date, int]]:
    """How many deliveries have their record in which day of the landfill."""
    return con.execute(BY_DAY).fetchall()


def has_body(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether a quarantined body is kept under this name."""
    return bool(con.execute("SELECT 1 FROM quarantine WHERE body = ?", [name]).fetchall())


LAST_BATCH = "SELECT max(batch_no) FROM batches WHERE instance_id = ?"

OVERLAP = """
WITH before AS (
    SELECT hash(name, type, source, tracked_on, profile_id, props::VARCHAR, context::VARCHAR) AS event, count(*) AS n
    FROM events
    WHERE batch_no = ?
    GROUP BY event
), page AS (
    SELECT hash(name, type, source, tracked_on, profile_id::UUID, props, context) AS event, count(*) AS n
    FROM page_rows
    GROUP BY event
)
SELECT coalesce(sum(least(before.n, page.n)), 0)::BIGINT FROM before JOIN page USING (event)
"""


def estimate_overlap(con: duckdb.DuckDBPyConnection, instance_id: UUID, frame: pl.DataFrame) -> int:
    """How many events of a page look like events of the batch before it, each of those matched once.

    An estimate from above: two real events of one day can look alike.
    """
    (batch_no,) = one(con, LAST_BATCH, [instance_id])
    if batch_no is None:
        return 0
    with registered(con, "page_rows", frame):
        return int(one(con, OVERLAP, [batch_no])[0])


def apply(
    warehouse: Warehouse,
    delivery: Delivery,
    frame: pl.DataFrame | None,
    letters: Sequence[DeadLetter],
    position: Position,
) -> None:
    """The effect of one delivery, inside the caller's transaction. `frame` is needed for a batch that is loaded."""
    con, numbers = warehouse.con, warehouse.numbers
    numbers.received_at = max(numbers.received_at, delivery.received_at)
    match delivery.kind, delivery.outcome:
        case "revived", _:
            revive_letters(con, delivery, frame)
            set_floor(con, position)
            return
        case "renewed" | "unpin" | "dropped", _:
            WORDS[delivery.kind](con, delivery)
            set_floor(con, position)
            return
        case _ if delivery.forgotten:
            insert_forgotten(con, delivery)
            insert_superseded(con, delivery)
        case "batch", "loaded" if frame is not None:
            numbers.batch += 1
            insert_batch(con, numbers.batch, delivery)
            insert_events(con, numbers.batch, delivery, frame)
            insert_letters(warehouse, delivery, letters)
            insert_superseded(con, delivery)
            insert_removed(con, numbers.batch, delivery)
            if delivery.signed_by is not None:
                pin_key(con, delivery)
        case "report", "loaded":
            numbers.report += 1
            insert_report(con, numbers.report, delivery)
        case _, "quarantined":
            if has_refused(con, delivery.key):
                count_repeat(con, "quarantine", delivery.key)
            else:
                numbers.quarantine += 1
                insert_refused(con, numbers.quarantine, delivery)
        case kind, _:
            count_repeat(con, "batches" if kind == "batch" else "reports", delivery.key)
    if delivery.retried is not None:
        settle_refused(con, delivery)
    numbers.delivery += 1
    insert_delivery(con, numbers.delivery, delivery, position)


INSERT_BATCH = """
INSERT INTO batches (batch_no, key, instance_id, batch_id, batch_seq, version, received_at, event_count, digest, trust,
                     recorded, shipped, dropped, quarantined, pending, dropped_context_keys, unknown_keys,
                     overlap_events, signed_by, dead_letters, changed_values, ignored_fields)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert_batch(con: duckdb.DuckDBPyConnection, batch_no: int, delivery: Delivery) -> None:
    """The row that knows the batch again."""
    totals = delivery.totals
    account = (
        [None] * 5
        if totals is None
        else [totals.recorded, totals.shipped, totals.dropped, totals.quarantined, totals.pending]
    )
    con.execute(
        INSERT_BATCH,
        [
            batch_no,
            delivery.key,
            delivery.instance_id,
            delivery.batch_id,
            delivery.batch_seq,
            delivery.version,
            utc(delivery.received_at),
            delivery.events - delivery.erased,
            delivery.digest,
            delivery.trust,
            *account,
            delivery.dropped_context_keys,
            delivery.unknown_keys,
            delivery.overlap_events,
            delivery.signed_by,
            delivery.dead_letters,
            delivery.changed_values,
            delivery.ignored_fields,
        ],
    )


PIN_KEY = "INSERT OR REPLACE INTO instance_keys VALUES (?, ?, ?)"


def pin_key(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """The key that signed a batch becomes the one of its instance, unless one is already."""
    assert delivery.instance_id is not None  # noqa: S101  a batch has one
    if find_key(con, delivery.instance_id) is None:
        con.execute(PIN_KEY, [delivery.instance_id, delivery.signed_by, utc(delivery.received_at)])


UNPIN_KEY = "UPDATE instance_keys SET key = NULL, since = ? WHERE instance_id = ?"


def unpin_key(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """The next signed batch of an instance pins its key, whichever that is."""
    con.execute(UNPIN_KEY, [utc(delivery.received_at), delivery.instance_id])


INSERT_EVENTS = """
INSERT INTO events
SELECT ?::BIGINT, ?::UUID, ?, name, type, source, tracked_on, profile_id::UUID, props, context FROM page_rows
"""


def insert_events(con: duckdb.DuckDBPyConnection, batch_no: int, delivery: Delivery, frame: pl.DataFrame) -> None:
    """The events of a batch, straight from the frame."""
    with registered(con, "page_rows", frame):
        con.execute(INSERT_EVENTS, [batch_no, delivery.instance_id, delivery.version])


INSERT_LETTERS = """
INSERT INTO dead_letters
    (dead_letter_no, batch_no, instance_id, event_no, reason, message, event, is_whole, received_at)
SELECT number, ?, ?, event_no, reason, message, event, is_whole, ? FROM page_letters
"""
LETTERS = {
    "number": pl.Int64,
    "event_no": pl.Int64,
    "reason": pl.String,
    "message": pl.String,
    "event": pl.String,
    "is_whole": pl.Boolean,
}


def insert_letters(warehouse: Warehouse, delivery: Delivery, letters: Sequence[DeadLetter]) -> None:
    """The bad events of a batch, in their order."""
    if not letters:
        return
    numbers = warehouse.numbers
    rows = [
        (numbers.dead_letter + n, one.event_no, one.reason, one.message, one.event or None, one.is_whole)
        for n, one in enumerate(letters, start=1)
    ]
    numbers.dead_letter += len(rows)
    with registered(warehouse.con, "page_letters", pl.DataFrame(rows, schema=LETTERS, orient="row")):
        of_batch = [numbers.batch, delivery.instance_id, utc(delivery.received_at)]
        warehouse.con.execute(INSERT_LETTERS, of_batch)


FIND_LETTERS = """
SELECT batch_no, event_no FROM dead_letters
WHERE batch_no = (SELECT batch_no FROM batches WHERE key = $key) AND list_contains($numbers, event_no)
"""
DELETE_LETTERS = "DELETE FROM dead_letters WHERE batch_no = $batch AND list_contains($numbers, event_no)"
COUNT_REVIVED = """
UPDATE batches SET event_count = event_count + $events, dead_letters = dead_letters - $letters WHERE batch_no = $batch
"""


def revive_letters(con: duckdb.DuckDBPyConnection, delivery: Delivery, frame: pl.DataFrame | None) -> None:
    """Dead letters that a retry could read become events of their batch."""
    found = con.execute(FIND_LETTERS, {"key": delivery.key, "numbers": delivery.event_nos}).fetchall()
    if frame is None or not found:
        return
    batch_no = found[0][0]
    insert_events(con, batch_no, delivery, frame)
    con.execute(DELETE_LETTERS, {"batch": batch_no, "numbers": delivery.event_nos})
    counts = {"events": len(found) - delivery.erased, "letters": len(found)}
    con.execute(COUNT_REVIVED, {"batch": batch_no} | counts)
    insert_removed(con, batch_no, delivery)
    rollups.rebuild(con, [batch_no])


DROP_LETTERS = """
UPDATE dead_letters SET event = NULL, is_whole = false
WHERE batch_no = (SELECT batch_no FROM batches WHERE key = $key) AND list_contains($numbers, event_no)
"""


def drop_letters(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """What is kept of bad events goes; that they came stays."""
    con.execute(DROP_LETTERS, {"key": delivery.key, "numbers": delivery.event_nos})


INSERT_SUPERSEDED = "INSERT INTO superseded VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


def insert_superseded(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """The batches of which this one holds a part: none of them may be loaded any more. Keys alone of what is erased."""
    for key, batch_id in zip_longest(list_superseded(delivery), delivery.supersedes):
        con.execute(
            INSERT_SUPERSEDED,
            [key, delivery.instance_id, batch_id, delivery.batch_id, utc(delivery.received_at)],
        )


INSERT_REMOVED = "INSERT INTO removed VALUES ('erase', ?, ?, ?)"


def insert_removed(con: duckdb.DuckDBPyConnection, batch_no: int, delivery: Delivery) -> None:
    """What of a batch was erased before it came here again, if any was."""
    if delivery.erased:
        con.execute(INSERT_REMOVED, [batch_no, delivery.erased, utc(delivery.removed_at or delivery.received_at)])


INSERT_FORGOTTEN = "INSERT INTO forgotten VALUES ('erase', ?, ?, ?, ?, 0, ?)"


def insert_forgotten(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """The key of something that was erased, or one delivery more of it."""
    if find_forgotten(con, delivery.key) is not None:
        count_repeat(con, "forgotten", delivery.key)
        return
    removed_at = utc(delivery.removed_at or delivery.received_at)
    events = delivery.events + delivery.dead_letters
    con.execute(INSERT_FORGOTTEN, [delivery.kind, delivery.key, delivery.digest, events, removed_at])


REPORT_COLUMNS = ("total-teams", "total-projects", "total-files", "total-users", "jvm-cpus", "jvm-heap-max")

INSERT_REPORT = """
INSERT INTO reports (report_no, key, instance_id, version, received_at, total_teams, total_projects, total_files,
                     total_users, jvm_cpus, jvm_heap_max, stats, dropped_stats)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert_report(con: duckdb.DuckDBPyConnection, report_no: int, delivery: Delivery) -> None:
    """A scrubbed report: the sizes everybody asks for as columns, all that was kept as JSON."""
    stats = delivery.stats or {}
    figures = [value if isinstance(value := stats.get(name), int) else None for name in REPORT_COLUMNS]
    con.execute(
        INSERT_REPORT,
        [
            report_no,
            delivery.key,
            delivery.instance_id,
            delivery.version,
            utc(delivery.received_at),
            *figures,
            msgspec.json.encode(stats, order="sorted").decode(),
            delivery.dropped_stats,
        ],
    )


INSERT_REFUSED = """
INSERT INTO quarantine (quarantine_no, key, reason, digest, size, received_at, body, instance_id, batch_id, batch_seq,
                        events_digest, message)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert_refused(con: duckdb.DuckDBPyConnection, quarantine_no: int, delivery: Delivery) -> None:
    """The row of a body that was put aside."""
    con.execute(
        INSERT_REFUSED,
        [
            quarantine_no,
            delivery.key,
            delivery.reason,
            delivery.digest,
            delivery.size,
            utc(delivery.received_at),
            delivery.body,
            delivery.instance_id,
            delivery.batch_id,
            delivery.batch_seq,
            delivery.events_digest,
            delivery.message,
        ],
    )


RENEW_REFUSED = """
UPDATE quarantine
SET reason = ?, message = ?, body = ?, instance_id = ?, batch_id = ?, batch_seq = ?, events_digest = ?
WHERE key = ?
"""


def renew_refused(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """A body that a retry refused anew: the reason of today, and what could be read of it today."""
    con.execute(
        RENEW_REFUSED,
        [
            delivery.reason,
            delivery.message,
            delivery.body,
            delivery.instance_id,
            delivery.batch_id,
            delivery.batch_seq,
            delivery.events_digest,
            delivery.retried,
        ],
    )


SETTLE_REFUSED = "UPDATE quarantine SET became = ?, body = NULL WHERE key = ?"


def settle_refused(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """A body that a retry could read: what it became, and that it need not be kept."""
    con.execute(SETTLE_REFUSED, [delivery.outcome, delivery.retried])


def count_repeat(con: duckdb.DuckDBPyConnection, table: str, key: UUID) -> None:
    """One delivery more of something known."""
    con.execute(f"UPDATE {table} SET repeats = repeats + 1 WHERE key = ?", [key])  # noqa: S608  our own table names


INSERT_DELIVERY = """
INSERT INTO deliveries (delivery_no, received_at, kind, outcome, events, dead_letters, landfill_day, landfill_end)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert_delivery(con: duckdb.DuckDBPyConnection, delivery_no: int, delivery: Delivery, position: Position) -> None:
    """The account's row, with the place in the landfill that this transaction completes."""
    counts = [delivery.events, delivery.dead_letters] if delivery.outcome == "loaded" else [0, 0]
    con.execute(
        INSERT_DELIVERY,
        [delivery_no, utc(delivery.received_at), delivery.kind, delivery.outcome, *counts, *position],
    )


def receipt_of(delivery: Delivery, known: Known | None) -> Receipt:
    """The answer to a delivery; a duplicate is answered with what was `known` of the first."""
    if delivery.outcome == "quarantined":
        return Receipt("quarantined", 0, delivery.batch_id, delivery.events_digest, delivery.reason)
    if known is not None:
        batch_id = known.batch_id or delivery.batch_id
        return Receipt("duplicate", known.event_count, batch_id, known.digest, dead_letters=known.dead_letters)
    status: Literal["accepted", "duplicate"] = "accepted" if delivery.outcome == "loaded" else "duplicate"
    return Receipt(status, delivery.events, delivery.batch_id, delivery.digest, dead_letters=delivery.dead_letters)


WORDS = {"renewed": renew_refused, "unpin": unpin_key, "dropped": drop_letters}
"""What an operator's word does."""


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit at the end, or roll back and let the error pass."""
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:
        roll_back(con)
        raise


def roll_back(con: duckdb.DuckDBPyConnection) -> None:
    """Roll back what may be open; a connection past saving says nothing more here."""
    with suppress(duckdb.Error):
        con.rollback()


@contextmanager
def registered(con: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> Iterator[None]:
    """A frame as a view of the connection, for one statement."""
    con.register(name, frame.to_arrow())
    try:
        yield
    finally:
        with suppress(duckdb.Error):  # in an aborted transaction nothing but a rollback works, and that forgets it too
            con.unregister(name)


def one(con: duckdb.DuckDBPyConnection, sql: str, parameters: list[object] | None = None) -> tuple[Any, ...]:
    """The single row of a query."""
    (row,) = con.execute(sql, parameters).fetchall()
    return row


def utc(instant: datetime) -> datetime:
    """An instant as a TIMESTAMP column holds it: UTC, without saying so."""
    return instant.astimezone(UTC).replace(tzinfo=None)

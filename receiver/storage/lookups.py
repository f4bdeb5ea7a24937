"""What the warehouse knows of a key: a batch, a report, a refused body, a pinned key."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import duckdb

from receiver.storage.connection import one, registered, utc

if TYPE_CHECKING:
    import polars as pl


class LoadedBatch(NamedTuple):
    """A batch that was loaded before, as its receipt must tell it; `forgotten` when its row is gone since."""

    batch_id: UUID | None
    event_count: int
    digest: str
    forgotten: bool = False
    dead_letters: int = 0


def list_bodies(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The names of the quarantined bodies that are kept."""
    return [name for (name,) in con.execute("SELECT body FROM quarantine WHERE body IS NOT NULL ORDER BY 1").fetchall()]


FIND_BATCH = "SELECT batch_no, batch_id, event_count, digest, dead_letters FROM batches WHERE key = ?"


COUNT_REMOVED = "SELECT coalesce(sum(events), 0)::BIGINT FROM removed WHERE batch_no = ?"


FIND_FORGOTTEN = "SELECT NULL, events, digest, true FROM forgotten WHERE key = ?"


def find_batch(con: duckdb.DuckDBPyConnection, key: UUID) -> LoadedBatch | None:
    """The batch with this key, if it was ever loaded. Two statements: joined they take five times as long."""
    rows = con.execute(FIND_BATCH, [key]).fetchall()
    if rows:
        ((batch_no, batch_id, events, digest, letters),) = rows
        return LoadedBatch(batch_id, events + one(con, COUNT_REMOVED, [batch_no])[0], digest, dead_letters=letters)
    return find_forgotten(con, key)


def find_forgotten(con: duckdb.DuckDBPyConnection, key: UUID) -> LoadedBatch | None:
    """A batch, report or refused body of which no more is left than what it is known again by."""
    rows = con.execute(FIND_FORGOTTEN, [key]).fetchall()
    return LoadedBatch(*rows[0]) if rows else None


def is_superseded(con: duckdb.DuckDBPyConnection, key: UUID) -> bool:
    """Whether the batch with this key came in parts, which were loaded."""
    return bool(con.execute("SELECT 1 FROM superseded WHERE key = ?", [key]).fetchall())


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

"""The tables that keep questions fast: created, filled as a batch lands, made anew from `events`.

Functions take a connection and the caller owns the transaction. What is in the tables depends on `events` and
`batches` alone, never on the order in which batches were applied. A receiver adds up what it loaded once it has
answered, so nobody waits for it: the tables may trail the events by two seconds.
"""

from collections.abc import Sequence
from importlib.resources import files

import duckdb

SQL = (files("receiver.storage") / "sql" / "rollups.sql").read_text()

TABLES = ("instance_days", "profile_days", "platform_days")

REBUILD_EVENTS = 2_000_000  # events a step, so that a rebuild of any size stays within a few hundred MiB

ADD_INSTANCE_DAYS = """
INSERT INTO instance_days
SELECT e.batch_no, e.tracked_on, b.received_at::DATE, e.instance_id, e.version, count(*)
FROM events e JOIN batches b USING (batch_no)
WHERE e.batch_no BETWEEN $first AND $last AND b.batch_no BETWEEN $first AND $last
GROUP BY ALL
"""

ADD_PROFILE_DAYS = """
INSERT INTO profile_days
SELECT batch_no, tracked_on, instance_id, version, profile_id, count(*)
FROM events
WHERE batch_no BETWEEN $first AND $last AND profile_id <> '00000000-0000-0000-0000-000000000000'
GROUP BY ALL
"""

ADD_PLATFORM_DAYS = """
INSERT INTO platform_days
WITH seen AS MATERIALIZED (
    SELECT DISTINCT batch_no, tracked_on, instance_id, version, profile_id, context
    FROM events
    WHERE batch_no BETWEEN $first AND $last AND profile_id <> '00000000-0000-0000-0000-000000000000'
), fields AS MATERIALIZED ( -- each distinct context is read once
    SELECT context, context->>['$.browser', '$.os', '$.locale', '$."screen-width"'] AS found
    FROM (SELECT DISTINCT context FROM seen)
), machines AS (
    SELECT context, nullif(trim(found[1]), '') AS browser, nullif(trim(found[2]), '') AS os,
           nullif(lower(trim(found[3])), '') AS locale, TRY_CAST(found[4] AS BIGINT) AS screen_width
    FROM fields
)
SELECT DISTINCT batch_no, tracked_on, instance_id, version, profile_id, browser, os, locale, screen_width
FROM seen JOIN machines USING (context)
WHERE browser IS NOT NULL OR os IS NOT NULL OR locale IS NOT NULL OR screen_width IS NOT NULL
"""

STEPS = """
SELECT min(batch_no), max(batch_no)
FROM (SELECT batch_no, sum(event_count) OVER (ORDER BY batch_no) // $events AS step FROM batches)
GROUP BY step
ORDER BY step
"""


def create(con: duckdb.DuckDBPyConnection) -> None:
    """The tables, macros and views that the questions read, where they are missing; filled if the tables are new."""
    (known,) = one(con, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'instance_days' AND NOT temporary")
    con.execute(SQL)
    if not known:
        rebuild(con)


BEHIND = """
SELECT coalesce((SELECT max(batch_no) FROM instance_days), 0), coalesce((SELECT max(batch_no) FROM batches), 0)
"""


def catch_up(con: duckdb.DuckDBPyConnection) -> None:
    """Add the batches that came after the last one that was added."""
    added, last = one(con, BEHIND)
    if added < last:
        add(con, added + 1, last)


def count_behind(con: duckdb.DuckDBPyConnection) -> int:
    """How many batches with events are not added yet."""
    (behind,) = one(
        con,
        "SELECT count(*) FROM batches WHERE event_count > 0 "
        "AND batch_no > coalesce((SELECT max(batch_no) FROM instance_days), 0)",
    )
    return behind


def rebuild(con: duckdb.DuckDBPyConnection, batches: Sequence[int] | None = None) -> None:
    """Make all anew from `events`, or what came with these batches: after rows were erased, say."""
    if batches is not None:
        for table in TABLES:
            con.execute(f"DELETE FROM {table} WHERE batch_no IN (SELECT unnest($batches))", {"batches": list(batches)})  # noqa: S608  our own table names
        for batch_no in sorted(set(batches)):
            add(con, batch_no, batch_no)
        return
    for table in TABLES:
        con.execute(f"DELETE FROM {table}")  # noqa: S608  our own table names
    for first, last in con.execute(STEPS, {"events": REBUILD_EVENTS}).fetchall():
        add(con, first, last)


def add(con: duckdb.DuckDBPyConnection, first: int, last: int) -> None:
    """Add a run of batches, whose rows are in `batches` and `events` already."""
    for statement in (ADD_INSTANCE_DAYS, ADD_PROFILE_DAYS, ADD_PLATFORM_DAYS):
        con.execute(statement, {"first": first, "last": last})


def one(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    """The single row of a query."""
    (row,) = con.execute(sql).fetchall()
    return row

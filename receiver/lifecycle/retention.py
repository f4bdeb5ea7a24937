"""What is too old, out of the tables, and counted where the sums look for it.

An event is as old as the day that it tells of, or as the day on which it came where that is earlier or it tells of
none: a clock that is ahead keeps nothing for longer. The rows of `batches` stay, so that a repeat is still known, and
of a report its key. Functions take a connection and the caller owns the transaction.
"""

from datetime import UTC, date, datetime
from typing import NamedTuple

import duckdb

from receiver.storage import connection, journal, rollups, warehouse
from receiver.storage.store import Store

OLD_BATCHES = "CREATE OR REPLACE TEMP TABLE old_batches AS SELECT batch_no FROM batches WHERE received_at < $before"

GONE = """
CREATE OR REPLACE TEMP TABLE gone AS
SELECT batch_no, count(*) AS n FROM events
WHERE tracked_on < $before OR batch_no IN (FROM old_batches)
GROUP BY batch_no
"""

REMOVE_EVENTS = (
    "DELETE FROM events WHERE tracked_on < $before OR batch_no IN (FROM old_batches)",
    *(
        f"DELETE FROM {table} WHERE day < $before OR batch_no IN (FROM old_batches)"  # noqa: S608  our own table names
        for table in rollups.TABLES
    ),
)

COUNT_REMOVED = (
    "UPDATE batches SET event_count = event_count - n FROM gone WHERE batches.batch_no = gone.batch_no",
    "INSERT INTO removed SELECT 'retention', batch_no, n, $at FROM gone ORDER BY batch_no",
)


def expire_events(con: duckdb.DuckDBPyConnection, before: date, at: datetime) -> int:
    """Remove the events older than a day, with what the rollups hold of them; returns how many."""
    con.execute(OLD_BATCHES, {"before": before})
    con.execute(GONE, {"before": before})
    ((events,),) = con.execute("SELECT coalesce(sum(n), 0)::BIGINT FROM gone").fetchall()
    if events:
        for statement in REMOVE_EVENTS:
            con.execute(statement, {"before": before})
        update, note = COUNT_REMOVED
        con.execute(update)
        con.execute(note, {"at": at.astimezone(UTC).replace(tzinfo=None)})
    return int(events)


EXPIRE_DEAD_LETTERS = """
UPDATE dead_letters SET event = NULL, is_whole = false
WHERE event IS NOT NULL
  AND (received_at < $before OR TRY_CAST(left(event ->> '$."tracked-at"', 10) AS DATE) < $before)
"""


def expire_dead_letters(con: duckdb.DuckDBPyConnection, before: date) -> int:
    """Let go what is kept of bad events older than a day; returns of how many. That they came still counts."""
    ((letters,),) = con.execute(EXPIRE_DEAD_LETTERS, {"before": before}).fetchall()
    return int(letters)


FORGET_REPORTS = """
INSERT INTO forgotten
SELECT 'retention', 'report', key, '', 0, repeats, $at FROM reports WHERE received_at < $before
"""


def expire_reports(con: duckdb.DuckDBPyConnection, before: date, at: datetime) -> int:
    """Remove the legacy reports that came before a day, but for their keys; returns how many."""
    con.execute(FORGET_REPORTS, {"before": before, "at": at.astimezone(UTC).replace(tzinfo=None)})
    ((reports,),) = con.execute("DELETE FROM reports WHERE received_at < $before", {"before": before}).fetchall()
    return int(reports)


class ExpiryReport(NamedTuple):
    """What time took away at once."""

    events: int = 0
    reports: int = 0
    bodies: int = 0
    landfill_days: int = 0
    dead_letters: int = 0


def tidy(store: Store) -> ExpiryReport:
    """Remove events, reports, quarantined bodies and landfill files past their days."""
    now = store.clock()
    places, con = store.places, store.warehouse.con
    bodies = store.quarantine.expire(places.quarantine_days, now)
    warehouse.forget_bodies(con, bodies)
    events = reports = letters = 0
    with connection.transaction(con):
        if places.event_days is not None:
            letters = expire_dead_letters(con, days_before(now, places.event_days))
            events = expire_events(con, days_before(now, places.event_days), now)
        if places.report_days is not None:
            reports = expire_reports(con, days_before(now, places.report_days), now)
    files = journal.expire(store.landfill, places.landfill_days, now.date()) if places.landfill_days else []
    return ExpiryReport(events, reports, len(bodies), len(files), letters)


def days_before(now: datetime, days: int) -> date:
    """The day so many days ago, or the first that there is."""
    return date.fromordinal(max(1, now.astimezone(UTC).toordinal() - days))

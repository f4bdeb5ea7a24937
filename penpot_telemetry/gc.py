"""Garbage collection: drops rows older than the retention, then the oldest above the cap, and counts each.

Each step looks at the rows and deletes in one snapshot, so that a row that Penpot has just written is counted before
it is dropped. Rows of the batch in the outbox are never taken.
"""

from datetime import datetime, timedelta
from functools import partial

from psycopg import Connection

from penpot_telemetry import account, audit_log, outbox, reconcile
from penpot_telemetry.anonymise import truncate_day
from penpot_telemetry.config import Settings
from penpot_telemetry.lease import Lease

GC_STEP = 10_000
"""Rows that one transaction of gc drops: few, so that other programs do not wait long for their locks."""


def collect_garbage(held: Lease, settings: Settings, now: datetime, present: int) -> int:
    """Drops rows older than the retention, then the oldest above the cap, and says how many.

    `present`: how many rows a reconciliation has just found.
    """
    dropped = 0
    if (before := retention_start(settings, now)) is not None:
        while step := held.step(lambda: drop_oldest(held.conn, GC_STEP, before), snapshot=True):
            dropped += step
    excess = find_excess(settings, present - dropped, outbox.fetch_batch(held.conn))
    for limit in [GC_STEP] * (excess // GC_STEP) + [excess % GC_STEP]:
        if limit:
            dropped += held.step(partial(drop_oldest, held.conn, limit), snapshot=True)
    return dropped


def retention_start(settings: Settings, now: datetime) -> datetime | None:
    """The first instant that is kept, or None when everything is."""
    if settings.retention_days is None:
        return None
    return truncate_day(now, "now") - timedelta(days=settings.retention_days)


def find_excess(settings: Settings, present: int, batch: outbox.OutboxBatch | None) -> int:
    """How many events there are above the cap; the outbox batch counts and is never dropped."""
    pending = present + (batch.event_count if batch else 0)
    return min(present, max(0, pending - settings.cap_rows))


def drop_oldest(conn: Connection, limit: int, before: datetime | None = None) -> int:
    """One step: deletes the oldest rows and counts them as dropped. To be called in a snapshot."""
    reconcile.reconcile(conn)
    ids, count = audit_log.drop_oldest(conn, limit, before)
    if count:
        account.take(conn, ids)
        account.add(conn, dropped=count)
    return count

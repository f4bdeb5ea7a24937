"""The sender's account: one row of numbers, and the ids of the rows that entered and left what waits.

Each function is one step that its caller puts into a transaction together with what happens to `audit_log`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.wire.payload import Totals


@dataclass(frozen=True, slots=True)
class AccountState:
    """The account since the beginning, in events. `tallied`: recorded since the last reconciliation.

    `unread`: rows entered or were taken since then. `receipts_from` is the address that gave the last receipt,
    `verified_seq` the last batch that both ledgers were found to agree on.
    """

    instance_id: UUID | None = None
    instance_origin: str | None = None
    next_seq: int = 1
    recorded: int = 0
    adopted: int = 0
    shipped: int = 0
    dropped: int = 0
    quarantined: int = 0
    missing: int = 0
    tallied: int = 0
    unread: bool = False
    receipts_from: str | None = None
    verified_seq: int = 0
    report_sent_on: date | None = None

    @property
    def expected(self) -> int:
        """The events that wait, by the last reconciliation."""
        return self.recorded + self.adopted - self.shipped - self.dropped - self.quarantined - self.missing

    def totals(self, adopted: int = 0, missing: int = 0) -> Totals:
        """The account as a batch carries it, with what was just found; missing events are left out of the sum."""
        return Totals(
            recorded=self.recorded + self.tallied + self.adopted + adopted,
            shipped=self.shipped,
            dropped=self.dropped,
            quarantined=self.quarantined,
            pending=max(0, self.expected + self.tallied + adopted - missing),
        )


_SELECT_STATE = """
SELECT instance_id, instance_origin, next_seq, recorded, adopted, shipped, dropped, quarantined, missing,
       (SELECT coalesce(sum(recorded), 0)::bigint FROM penpot_telemetry.entered) AS tallied,
       EXISTS (SELECT FROM penpot_telemetry.taken)
           OR EXISTS (SELECT FROM penpot_telemetry.entered WHERE recorded > 0) AS unread,
       receipts_from, verified_seq, report_sent_on
FROM penpot_telemetry.state
"""


def read_state(conn: Connection) -> AccountState:
    """The account as it is now."""
    with conn.cursor(row_factory=class_row(AccountState)) as cursor:
        found = cursor.execute(_SELECT_STATE).fetchone()
    if found is None:
        raise DatabaseError("database: penpot_telemetry.state has no row: the schema was tampered with, restore it")
    return found


def enter(conn: Connection, row_ids: str, recorded: int) -> None:
    """Enters rows by id, in the transaction that stores them; `recorded` of them are new to the account."""
    conn.execute("INSERT INTO penpot_telemetry.entered (ids, recorded) VALUES (%s::uuid[], %s)", (row_ids, recorded))


def take(conn: Connection, row_ids: str) -> None:
    """Notes that the sender itself took rows out of what waits."""
    conn.execute("INSERT INTO penpot_telemetry.taken (ids) VALUES (%s::uuid[])", (row_ids,))


_ADD = """
UPDATE penpot_telemetry.state SET adopted = adopted + %(adopted)s, dropped = dropped + %(dropped)s,
    quarantined = quarantined + %(quarantined)s, missing = missing + %(missing)s
"""


def add(conn: Connection, *, adopted: int = 0, dropped: int = 0, quarantined: int = 0, missing: int = 0) -> None:
    """Enters events into the account, in the transaction that moves them."""
    conn.execute(_ADD, {"adopted": adopted, "dropped": dropped, "quarantined": quarantined, "missing": missing})


_COUNT_CHANGED = """
INSERT INTO penpot_telemetry.changed (key, events)
SELECT key, events FROM unnest(%s::text[], %s::bigint[]) n(key, events)
"""


def count_changed(conn: Connection, changed: Mapping[str, int]) -> None:
    """Counts events by the context keys whose values were changed.

    Each count is a row, so that recorders never wait for each other.
    """
    if changed:
        conn.execute(_COUNT_CHANGED, (list(changed.keys()), list(changed.values())))


_READ_CHANGED = "SELECT key, sum(events)::bigint FROM penpot_telemetry.changed GROUP BY key ORDER BY key"

_SUM_CHANGED = """
WITH counted AS (DELETE FROM penpot_telemetry.changed RETURNING key, events)
INSERT INTO penpot_telemetry.changed SELECT key, sum(events) FROM counted GROUP BY key
"""


def read_changed(conn: Connection) -> Mapping[str, int]:
    """How many events there were so far whose value under a context key was changed, by key."""
    return dict(conn.execute(_READ_CHANGED).fetchall())


def sum_changed(conn: Connection) -> None:
    """One row a key again."""
    conn.execute(_SUM_CHANGED)


def keep_instance_id(conn: Connection, instance_id: UUID, origin: str) -> None:
    """The id of this instance from now on."""
    conn.execute("UPDATE penpot_telemetry.state SET instance_id = %s, instance_origin = %s", (instance_id, origin))


def keep_receipts_from(conn: Connection, url: str) -> None:
    """Remembers the address that gave a receipt."""
    conn.execute("UPDATE penpot_telemetry.state SET receipts_from = %s", (url,))


def keep_verified(conn: Connection, seq: int) -> None:
    """Remembers the last batch on which both ledgers agree."""
    conn.execute("UPDATE penpot_telemetry.state SET verified_seq = %s", (seq,))


def keep_report_sent(conn: Connection, day: date) -> None:
    """Remembers the day of the last legacy report."""
    conn.execute("UPDATE penpot_telemetry.state SET report_sent_on = %s", (day,))

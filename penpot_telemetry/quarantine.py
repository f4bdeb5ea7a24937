"""What an operator decides about the sender's dead letters and about rows that somebody else deleted."""

from collections.abc import Sequence
from uuid import UUID

from psycopg import Connection

from penpot_telemetry import account, lease, outbox, store


def retry(conn: Connection, ids: Sequence[UUID] | None = None) -> int:
    """Puts dead letters (all without `ids`) back to be shipped, and says how many."""
    with store.database_errors(), lease.hold(conn) as held:
        return held.step(lambda: outbox.put_back(conn, ids))


def drop(conn: Connection, ids: Sequence[UUID] | None = None) -> int:
    """Deletes dead letters (all without `ids`); they count as dropped. Says how many."""
    with store.database_errors(), lease.hold(conn) as held:
        return held.step(lambda: outbox.remove_quarantined(conn, ids))


def accept_missing(conn: Connection) -> int:
    """Counts the rows that somebody else deleted as dropped, once it is known why; says how many they were.

    They never left, so they are a loss like any other, and the receiver is told of it with the next batch.
    """

    def step() -> int:
        account.enter(conn)
        missing = outbox.read_state(conn).missing
        outbox.add(conn, dropped=missing, missing=-missing)
        return missing

    with store.database_errors(), lease.hold(conn) as held:
        return held.step(step, snapshot=True)

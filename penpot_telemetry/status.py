"""Where every event is, in one snapshot; reads only, also on a standby and in a database that no sender has seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import Connection

from penpot_telemetry import account, audit_log, dead_letters, gc, grants, outbox, reconcile, schema, segments
from penpot_telemetry.account import AccountState
from penpot_telemetry.config import Settings
from penpot_telemetry.connection import database_errors
from penpot_telemetry.reconcile import Observation


@dataclass(frozen=True, slots=True)
class Status:
    """The account and the rows behind it, in events. `pending` is counted, never a difference.

    `frozen` are in the outbox, `waiting` counts parts of refused batches. `excess` rows are above the cap: the next
    pass drops the oldest so many of those that it cannot send. `would_expire` rows are older than the retention: it
    drops them in any case. `changed` counts events whose context value was changed, by key.
    """

    state: AccountState
    seen: Observation
    days: Sequence[audit_log.DayCount]
    room: int
    frozen: int
    waiting: int
    dead_letters: int
    excess: int
    would_expire: int
    changed: Mapping[str, int]
    warnings: Sequence[str]

    @property
    def pending(self) -> int:
        """The events that wait: rows, and the batch in the outbox."""
        return self.seen.present + self.frozen

    @property
    def unseen(self) -> int:
        """Rows that Penpot wrote since the last pass, which will adopt them."""
        return self.seen.adopted

    @property
    def missing(self) -> int:
        """Rows that another program deleted, found by a pass or just now."""
        return self.state.missing + self.seen.missing

    @property
    def recorded(self) -> int:
        """Everything that ever entered."""
        return self.state.totals(self.seen.adopted).recorded

    @property
    def adds_up(self) -> bool:
        """Whether recorded = shipped + dropped + quarantined + pending, and the dead letters are as many as counted."""
        state = self.state
        accounted = state.shipped + state.dropped + state.quarantined + self.pending
        return self.recorded == accounted and not self.missing and self.dead_letters == state.quarantined


def read_status(conn: Connection, settings: Settings) -> Status:
    """The account and the rows behind it, read in one snapshot; nothing is changed."""
    with database_errors(), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        has_schema = schema.has_schema(conn)
        seen = reconcile.observe(conn, has_schema=has_schema)
        batch = outbox.fetch_batch(conn) if has_schema else None
        frozen = batch.event_count if batch else 0
        expiring = gc.retention_start(settings, datetime.now(UTC))
        return Status(
            state=account.read_state(conn) if has_schema else AccountState(),
            seen=seen,
            days=audit_log.count_days(conn),
            room=settings.cap_rows - seen.present - frozen,
            frozen=frozen,
            waiting=segments.count_segments(conn) if has_schema else 0,
            dead_letters=dead_letters.count_dead_letters(conn) if has_schema else 0,
            excess=gc.find_excess(settings, seen.present, batch),
            would_expire=audit_log.count_before(conn, expiring) if expiring else 0,
            changed=account.read_changed(conn) if has_schema else {},
            warnings=grants.warn_of_index(conn),
        )

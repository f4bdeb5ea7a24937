"""Where every event is, in one snapshot; reads only, also on a standby and in a database that no sender has seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import Connection

from penpot_telemetry import account, gc, outbox, store
from penpot_telemetry.account import Observation
from penpot_telemetry.config import Settings
from penpot_telemetry.outbox import State


@dataclass(frozen=True, slots=True)
class Status:
    """The account and the rows behind it, in events. `pending` is counted, never a difference.

    `frozen` are in the outbox, `waiting` counts parts of refused batches, `set_aside` the dead letters. `excess` rows
    are above the cap: the next pass drops the oldest so many of those that it cannot send, and `would_expire` ones in
    any case. `changed` counts events whose context value was changed, by key.
    """

    state: State
    seen: Observation
    days: Sequence[store.DayCount]
    room: int
    frozen: int
    waiting: int
    set_aside: int
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
        """Rows that somebody else deleted, found by a pass or just now."""
        return self.state.missing + self.seen.missing

    @property
    def recorded(self) -> int:
        """Everything that ever entered."""
        return self.state.totals(self.seen.adopted).recorded

    @property
    def adds_up(self) -> bool:
        """Whether recorded = shipped + dropped + quarantined + pending, and the quarantine holds what it should."""
        state = self.state
        accounted = state.shipped + state.dropped + state.quarantined + self.pending
        return self.recorded == accounted and not self.missing and self.set_aside == state.quarantined


def read_status(conn: Connection, settings: Settings) -> Status:
    """The account and the rows behind it, read in one snapshot; nothing is changed."""
    with store.database_errors(), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        has_schema = outbox.has_schema(conn)
        seen = account.observe(conn, has_schema=has_schema)
        page = outbox.fetch_page(conn) if has_schema else None
        frozen = page.event_count if page else 0
        expiring = gc.retention_start(settings, datetime.now(UTC))
        return Status(
            state=outbox.read_state(conn) if has_schema else State(),
            seen=seen,
            days=store.count_days(conn),
            room=settings.cap_rows - seen.present - frozen,
            frozen=frozen,
            waiting=outbox.count_segments(conn) if has_schema else 0,
            set_aside=outbox.count_quarantine(conn) if has_schema else 0,
            excess=gc.find_excess(settings, seen.present, page),
            would_expire=store.count_before(conn, expiring) if expiring else 0,
            changed=outbox.read_changed(conn) if has_schema else {},
            warnings=_warnings(conn),
        )


def _warnings(conn: Connection) -> Sequence[str]:
    if store.has_index(conn):
        return ()
    return (
        "audit_log has no index by source and day, so each pass reads the whole table: "
        "`penpot-telemetry grants` prints the statement that adds it",
    )

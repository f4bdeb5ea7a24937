"""The batch that the next pass would send first, made in the same way; reads only."""

from dataclasses import dataclass, replace

from psycopg import Connection

from penpot_telemetry import account, outbox, reconcile, schema
from penpot_telemetry.config import Settings
from penpot_telemetry.connection import database_errors
from penpot_telemetry.freeze import draft_batch
from penpot_telemetry.wire import payload
from penpot_telemetry.work_queue import WorkQueue


@dataclass(frozen=True, slots=True)
class Preview:
    """What the next pass would send first: the complete body and its events. `odd` rows would become dead letters."""

    body: bytes
    event_count: int
    odd: int


def preview_batch(conn: Connection, settings: Settings) -> Preview | None:
    """The batch that the next pass would send first, made in the same way. Reads only; None when nothing waits."""
    with database_errors(), conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        has_schema = schema.has_schema(conn)
        if has_schema and (batch := outbox.fetch_batch(conn)) is not None:
            return Preview(batch.body, batch.event_count, 0)
        seen = reconcile.observe(conn, has_schema=has_schema)
        state = account.read_state(conn) if has_schema else account.AccountState()
        queue = WorkQueue(seen.fresh, has_segments=has_schema)
        odd = 0
        while (draft := draft_batch(conn, settings, queue, state, seen)) is not None:
            odd += len(draft.content.odd)
            if draft.content.refs:
                return Preview(payload.build_events(draft.envelope), len(draft.content.refs), odd)
            queue.skip(draft.item, draft.read)
            state = replace(state, quarantined=state.quarantined + len(draft.content.odd))
        return None

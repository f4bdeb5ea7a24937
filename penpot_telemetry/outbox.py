"""The outbox: at most one batch at a time, whose bytes are kept as they are sent until they are answered.

Each function is one step that its caller puts into a transaction together with what happens to `audit_log`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Json

from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.rows import Rows
from penpot_telemetry.wire.payload import EventsBatch, build_events

Outcome = Literal["accepted", "quarantined", "refused"]


@dataclass(frozen=True, slots=True)
class OutboxBatch:
    """The batch in the outbox: `body` is the complete POST body.

    `supersedes` are the refused batches that held its rows before.
    """

    batch_id: UUID
    seq: int
    row_ids: str
    row_hashes: str
    body: bytes
    digest: str
    event_count: int
    frozen_at: datetime
    supersedes: Sequence[UUID]

    @property
    def rows(self) -> Rows:
        """The rows as they were when the batch was made."""
        return Rows(self.row_ids, self.row_hashes)


_SELECT_BATCH = """
SELECT batch_id, seq, row_ids::text AS row_ids, row_hashes::text AS row_hashes, body, digest, event_count, frozen_at,
       supersedes
FROM penpot_telemetry.outbox
"""


def fetch_batch(conn: Connection) -> OutboxBatch | None:
    """The batch in the outbox, if there is one."""
    with conn.cursor(row_factory=class_row(OutboxBatch), binary=True) as cursor:
        return cursor.execute(_SELECT_BATCH).fetchone()


_INSERT_BATCH = """
INSERT INTO penpot_telemetry.outbox (batch_id, seq, row_ids, row_hashes, body, digest, event_count, supersedes)
VALUES (%(batch_id)s, %(seq)s, %(row_ids)s::uuid[], %(row_hashes)s::bigint[], %(body)b, %(digest)s, %(event_count)s,
        %(supersedes)s)
RETURNING row_ids::text, frozen_at
"""


def insert_batch(conn: Connection, envelope: EventsBatch, rows: Rows) -> OutboxBatch:
    """Puts a batch into the outbox with its bytes, and takes its sequence number."""
    assert envelope.batch_id and envelope.batch_seq and envelope.digest and envelope.event_count  # noqa: S101
    batch: dict[str, Any] = {
        "batch_id": envelope.batch_id,
        "seq": envelope.batch_seq,
        "row_ids": rows.ids,
        "row_hashes": rows.hashes,
        "body": build_events(envelope),
        "digest": envelope.digest,
        "event_count": envelope.event_count,
        "supersedes": list(envelope.supersedes),
    }
    frozen = conn.execute(_INSERT_BATCH, batch).fetchone()
    conn.execute("UPDATE penpot_telemetry.state SET next_seq = next_seq + 1")
    assert frozen is not None  # noqa: S101  an INSERT that does not raise returns its row
    return OutboxBatch(**batch | {"row_ids": frozen[0]}, frozen_at=frozen[1])


def replace_body(conn: Connection, batch_id: UUID, body: bytes) -> None:
    """Replaces the bytes of the outbox batch: it is the same batch, with another signature."""
    conn.execute("UPDATE penpot_telemetry.outbox SET body = %b WHERE batch_id = %s", (body, batch_id))


_CLOSE_BATCH = """
WITH batch AS (DELETE FROM penpot_telemetry.outbox WHERE batch_id = %(batch_id)s RETURNING *)
INSERT INTO penpot_telemetry.ledger (batch_id, seq, events, bytes, digest, frozen_at, outcome, receipt)
SELECT batch_id, seq, event_count, octet_length(body), digest, frozen_at, %(outcome)s, %(receipt)s FROM batch
"""


_RETURN_SEQ = """
UPDATE penpot_telemetry.state SET next_seq = %(seq)s
WHERE EXISTS (SELECT FROM penpot_telemetry.ledger WHERE batch_id = %(whole)s AND seq < %(seq)s)
"""


def acknowledge_batch(
    conn: Connection, batch: OutboxBatch, receipt: Mapping[str, object], whole: UUID | None = None
) -> None:
    """Enters the receipt, ends the batch and counts its events as shipped. The caller removes its rows.

    `whole`: the refused batch that arrived after all, and that this one is a part of. It has a sequence number already,
    so all its parts but the first return theirs.
    """
    _close_batch(conn, batch, "accepted", receipt)
    conn.execute("UPDATE penpot_telemetry.state SET shipped = shipped + %s", (batch.event_count,))
    if whole is not None:
        conn.execute(_RETURN_SEQ, {"seq": batch.seq, "whole": whole})


def refuse_batch(conn: Connection, batch: OutboxBatch, receipt: Mapping[str, object]) -> None:
    """Enters the refusal, ends the batch and returns its sequence number. The caller decides what its rows become."""
    _close_batch(conn, batch, "refused", receipt)
    conn.execute("UPDATE penpot_telemetry.state SET next_seq = %s", (batch.seq,))


def _close_batch(conn: Connection, batch: OutboxBatch, outcome: Outcome, receipt: Mapping[str, object]) -> None:
    parameters = {"batch_id": batch.batch_id, "outcome": outcome, "receipt": Json(receipt)}
    if conn.execute(_CLOSE_BATCH, parameters).rowcount != 1:
        raise DatabaseError(f"database: batch {batch.batch_id} is not in the outbox any more: another sender was here")

"""Dead letters: rows that were refused alone, or that no batch can hold, kept whole with the reason.

They are in the table `quarantine` until an operator retries or drops them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import Connection, sql
from psycopg.rows import class_row

from penpot_telemetry import account, lease, segments
from penpot_telemetry.connection import database_errors
from penpot_telemetry.events import SHIPPED_SOURCES
from penpot_telemetry.rows import CONTENT_HASH, UNCHANGED, Rows
from penpot_telemetry.wire.payload import MOST_SUPERSEDED


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, without what the row holds."""

    id: UUID
    name: str
    source: str
    reason: str
    batch_id: UUID | None
    since: datetime


_ADD_ROWS = f"""
WITH taken AS (DELETE {UNCHANGED} RETURNING a.*),
     kept AS (
         INSERT INTO penpot_telemetry.quarantine (id, "row", reason, batch_id, supersedes)
         SELECT taken.id, to_jsonb(taken), %(reason)s, %(batch_id)s, %(supersedes)s::uuid[] FROM taken RETURNING id
     )
SELECT coalesce(array_agg(id), '{{}}')::text, count(*) FROM kept
"""  # noqa: S608  our own constant


def add_rows(
    conn: Connection, rows: Rows, reason: str, batch_id: UUID | None = None, supersedes: Sequence[UUID] = ()
) -> int:
    """Moves unchanged rows out of `audit_log` into the dead letters, whole, with the reason; says how many."""
    parameters = {
        "ids": rows.ids,
        "hashes": rows.hashes,
        "sources": list(SHIPPED_SOURCES),
        "reason": reason,
        "batch_id": batch_id,
        "supersedes": list(supersedes),
    }
    found = conn.execute(_ADD_ROWS, parameters).fetchone()
    assert found is not None  # noqa: S101  an aggregate has a row
    taken, count = found
    account.take(conn, taken)
    account.add(conn, quarantined=count)
    return int(count)


_SELECT_DEAD_LETTERS = """
SELECT id, "row" ->> 'name' AS name, "row" ->> 'source' AS source, reason, batch_id, since
FROM penpot_telemetry.quarantine ORDER BY since, id
"""


def read_dead_letters(conn: Connection) -> Sequence[DeadLetter]:
    """All dead letters, oldest first."""
    with conn.cursor(row_factory=class_row(DeadLetter)) as cursor:
        return cursor.execute(_SELECT_DEAD_LETTERS).fetchall()


def count_dead_letters(conn: Connection) -> int:
    """How many dead letters there are."""
    found = conn.execute("SELECT count(*) FROM penpot_telemetry.quarantine").fetchone()
    return int(found[0]) if found else 0


_ACKNOWLEDGE_ARRIVED = "DELETE FROM penpot_telemetry.quarantine WHERE %s = ANY(supersedes)"


def acknowledge_arrived(conn: Connection, batch_id: UUID) -> int:
    """Counts the dead letters of a refused batch as shipped, because the batch arrived after all; says how many."""
    count = conn.execute(_ACKNOWLEDGE_ARRIVED, (batch_id,)).rowcount
    account.add(conn, quarantined=-count)
    conn.execute("UPDATE penpot_telemetry.state SET shipped = shipped + %s", (count,))
    return count


_CHOSEN = "%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[])"

_RETRIED = f"""
SELECT DISTINCT ON (id) number, id, "row", supersedes FROM penpot_telemetry.quarantine q
WHERE ({_CHOSEN}) AND cardinality(supersedes) < {MOST_SUPERSEDED}
  AND NOT EXISTS (SELECT FROM audit_log a WHERE a.id = q.id)
ORDER BY id, number
"""  # noqa: S608  our own constants
"""A row whose id is in `audit_log` again stays: somebody stored it anew. Of one id the oldest is requeued first."""

_STORED_COLUMNS = f"""
SELECT attname FROM pg_attribute
WHERE attrelid = 'audit_log'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity <> 'a'
  AND NOT EXISTS (SELECT FROM ({_RETRIED}) r WHERE NOT r."row" ? attname)
"""  # noqa: S608  likewise
"""The columns that all of these rows had when they became dead letters: later columns have a default."""

_REQUEUE = f"""
WITH chosen AS ({_RETRIED}), stored AS (
    INSERT INTO audit_log AS a ({{columns}})
    SELECT {{values}} FROM chosen, jsonb_populate_record(NULL::audit_log, "row") r
    RETURNING a.id, {CONTENT_HASH} AS hash
), released AS (
    DELETE FROM penpot_telemetry.quarantine q USING chosen JOIN stored USING (id) WHERE q.number = chosen.number
)
SELECT array_agg(id)::text, array_agg(hash)::text, supersedes FROM chosen JOIN stored USING (id) GROUP BY supersedes
"""  # noqa: S608  likewise


def requeue_rows(conn: Connection, ids: Sequence[UUID] | None) -> int:
    """Moves dead letters (all without `ids`) back into `audit_log` as they were, and says how many."""
    parameters = {"ids": None if ids is None else list(ids)}
    names = [name for (name,) in conn.execute(_STORED_COLUMNS, parameters)]
    query = sql.SQL(_REQUEUE).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        values=sql.SQL(", ").join(sql.Identifier("r", name) for name in names),
    )
    groups = conn.execute(query, parameters).fetchall()
    count = 0
    for row_ids, row_hashes, supersedes in groups:
        rows = Rows(row_ids, row_hashes)
        account.enter(conn, rows.ids, 0)
        if supersedes:
            segments.push_segment(conn, rows, supersedes)
        count += len(rows)
    account.add(conn, quarantined=-count)
    return count


_REMOVE = f"DELETE FROM penpot_telemetry.quarantine WHERE {_CHOSEN}"  # noqa: S608  our own constant


def remove_rows(conn: Connection, ids: Sequence[UUID] | None) -> int:
    """Removes dead letters (all without `ids`); they count as dropped. Says how many."""
    count = conn.execute(_REMOVE, {"ids": None if ids is None else list(ids)}).rowcount
    account.add(conn, quarantined=-count, dropped=count)
    return count


# -- what an operator decides ----------------------------------------------------------------------------------------


def retry(conn: Connection, ids: Sequence[UUID] | None = None) -> int:
    """Puts dead letters (all without `ids`) back to be shipped, and says how many."""
    with database_errors(), lease.hold(conn) as held:
        return held.step(lambda: requeue_rows(conn, ids))


def drop(conn: Connection, ids: Sequence[UUID] | None = None) -> int:
    """Drops dead letters (all without `ids`) for good. Says how many."""
    with database_errors(), lease.hold(conn) as held:
        return held.step(lambda: remove_rows(conn, ids))

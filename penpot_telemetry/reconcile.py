"""Reconciliation: the account compared with the rows of `audit_log`, id by id.

What entered and was not taken by the sender must be there. A row that is there and never entered was written by Penpot,
and enters now; a row that is not there any more was deleted by another program, and is missing. So the account is exact
while other programs write and delete, and nothing in it is a difference of two counts.
"""

from dataclasses import dataclass

from psycopg import Connection

from penpot_telemetry import account, lease
from penpot_telemetry.connection import database_errors
from penpot_telemetry.events import SHIPPED_SOURCES
from penpot_telemetry.lease import Lease
from penpot_telemetry.pass_report import PassReport
from penpot_telemetry.rows import ID_BYTES

_KNOWN = """
known AS MATERIALIZED (
    SELECT id FROM (
        SELECT unnest(ids) AS id, 1 AS n FROM penpot_telemetry.entered
        UNION ALL SELECT unnest(ids), -1 FROM penpot_telemetry.taken
    ) moves GROUP BY id HAVING sum(n) > 0
)
"""
_PRESENT = """
present AS MATERIALIZED (
    SELECT a.id, a.created_at FROM audit_log a
    WHERE a.source = ANY(%(sources)s)
      AND NOT EXISTS (SELECT FROM penpot_telemetry.outbox o, unnest(o.row_ids) f(id) WHERE f.id = a.id)
)
"""
_OBSERVE = f"""
WITH {_KNOWN}, {_PRESENT}, compared AS (
    SELECT count(*) FILTER (WHERE k.id IS NULL) AS adopted, count(*) FILTER (WHERE p.id IS NULL) AS missing
    FROM known k FULL JOIN present p USING (id)
)
SELECT adopted, missing, (SELECT count(*) FROM present),
       (SELECT coalesce(string_agg(uuid_send(p.id), '' ORDER BY p.created_at, p.id), '') FROM present p
        WHERE NOT EXISTS (SELECT FROM penpot_telemetry.segment s, unnest(s.row_ids) w(id) WHERE w.id = p.id))
FROM compared
"""  # noqa: S608  our own constants
_OBSERVE_FRESH = """
WITH present AS (SELECT id, created_at FROM audit_log WHERE source = ANY(%(sources)s))
SELECT count(*), 0, count(*), coalesce(string_agg(uuid_send(id), '' ORDER BY created_at, id), '') FROM present
"""
"""In a database that no sender has seen yet: all rows were written by Penpot."""

_ENTER_PRESENT = f"""
WITH {_PRESENT} INSERT INTO penpot_telemetry.entered (ids) SELECT array_agg(id) FROM present HAVING count(*) > 0
"""  # noqa: S608  our own constant
_CLEAR_IDS = """
WITH entered AS (DELETE FROM penpot_telemetry.entered RETURNING recorded),
     taken AS (DELETE FROM penpot_telemetry.taken)
UPDATE penpot_telemetry.state SET recorded = recorded + (SELECT coalesce(sum(recorded), 0) FROM entered)
"""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one reconciliation found, in rows. `fresh`: the ids that wait to be put into a batch, oldest first.

    `adopted` rows were written by Penpot since the last one, `missing` rows were deleted by another program; `present`
    counts all rows but those of the outbox batch.
    """

    adopted: int
    missing: int
    present: int
    fresh: bytes

    @property
    def waiting(self) -> int:
        """How many rows wait to be put into a batch."""
        return len(self.fresh) // ID_BYTES


def observe(conn: Connection, *, has_schema: bool = True) -> Observation:
    """Compares, and changes nothing. The caller's transaction should see one instant (REPEATABLE READ)."""
    parameters = {"sources": list(SHIPPED_SOURCES)}
    with conn.cursor(binary=True) as cursor:
        found = cursor.execute(_OBSERVE if has_schema else _OBSERVE_FRESH, parameters).fetchone()
    assert found is not None  # noqa: S101  an aggregate has a row
    return Observation(*found)


def reconcile(conn: Connection) -> Observation:
    """Compares, and enters what was found into the account. To be called in a step of the lease, in a snapshot."""
    found = observe(conn)
    state = account.read_state(conn)
    if found.adopted or found.missing or state.unread:
        conn.execute(_CLEAR_IDS)
        account.sum_changed(conn)
        conn.execute(_ENTER_PRESENT, {"sources": list(SHIPPED_SOURCES)})
        account.add(conn, adopted=found.adopted, missing=found.missing)
    return found


def reconcile_step(held: Lease, report: PassReport) -> Observation:
    """Reconciles in a step of the lease, and adds what was found to the report of the pass."""
    found = held.step(lambda: reconcile(held.conn), snapshot=True)
    report.adopted += found.adopted
    report.missing += found.missing
    return found


def accept_missing(conn: Connection) -> int:
    """Counts the rows that another program deleted as dropped, once it is known why; says how many they were.

    They were never sent, so they are lost, and the next batch reports the loss to the receiver.
    """

    def step() -> int:
        reconcile(conn)
        missing = account.read_state(conn).missing
        account.add(conn, dropped=missing, missing=-missing)
        return missing

    with database_errors(), lease.hold(conn) as held:
        return held.step(step, snapshot=True)

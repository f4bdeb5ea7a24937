"""Every SQL statement on the schema `penpot_telemetry`: the outbox batch, parts of refused batches, ledger, account.

At most one batch is in the outbox at a time; its bytes are kept as they are sent until they are answered. Each function
is one step that its caller puts into a transaction together with what happens to `audit_log`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal
from uuid import UUID

from psycopg import Connection, errors, sql
from psycopg.rows import class_row
from psycopg.types.json import Json

from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.events import SHIPPED_SOURCES
from penpot_telemetry.rows import CONTENT_HASH, UNCHANGED, Rows
from penpot_telemetry.wire.payload import MOST_SUPERSEDED, EventsBatch, Totals, build_events

Outcome = Literal["accepted", "quarantined", "refused"]

# -- schema ----------------------------------------------------------------------------------------------------------

_SELECT_VERSION = "SELECT schema_version FROM penpot_telemetry.state"
_SELECT_SCHEMA = "SELECT 1 FROM pg_namespace WHERE nspname = 'penpot_telemetry'"
_SELECT_STATE_TABLE = """
SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'penpot_telemetry' AND c.relname = 'state'
"""
"""Read from the catalogue's tables: after a lock was waited for, `to_regclass` may still say what was before."""

_SETUP_LOCK = 7_031_542_201


def ensure_schema(conn: Connection) -> None:
    """Creates or upgrades the schema; a second call, or a second process, finds it done."""
    steps = _steps()
    if _read_version(conn) == steps[-1][0]:
        return
    try:
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
            _upgrade(conn, steps)
    except errors.InsufficientPrivilege:
        raise DatabaseError(
            "database: the role may not create the schema penpot_telemetry or its tables: let the owner run what "
            "`penpot-telemetry grants ROLE` prints"
        ) from None


def has_schema(conn: Connection) -> bool:
    """Whether a sender was here before. Raises DatabaseError when it was one of another release."""
    version, latest = _read_version(conn), _steps()[-1][0]
    if version > latest:
        raise _newer(version, latest)
    if 0 < version < latest:
        raise DatabaseError(
            f"database: schema penpot_telemetry is version {version}, this release reads {latest}: "
            "`penpot-telemetry run` brings it forward"
        )
    return version == latest


def _steps() -> Sequence[tuple[int, Traversable]]:
    return sorted(
        (int(file.name[:3]), file)
        for file in (files("penpot_telemetry") / "sql").iterdir()
        if file.name[:3].isdigit() and file.name.endswith(".sql")
    )


def _upgrade(conn: Connection, steps: Sequence[tuple[int, Traversable]]) -> None:
    version, latest = _read_version(conn), steps[-1][0]
    if version > latest:
        raise _newer(version, latest)
    if not _exists(conn, _SELECT_SCHEMA):
        conn.execute("CREATE SCHEMA penpot_telemetry")
    for number, file in steps:
        if number > version:
            conn.execute(file.read_text(encoding="utf-8"))
            if number == 1:
                conn.execute("INSERT INTO penpot_telemetry.state (schema_version) VALUES (1)")
            conn.execute("UPDATE penpot_telemetry.state SET schema_version = %s", (number,))


def _newer(version: int, latest: int) -> DatabaseError:
    return DatabaseError(
        f"database: schema penpot_telemetry is version {version}, made by a newer release: "
        f"this one knows {latest}, upgrade it"
    )


def _read_version(conn: Connection) -> int:
    if not _exists(conn, _SELECT_STATE_TABLE):
        return 0
    found = conn.execute(_SELECT_VERSION).fetchone()
    return int(found[0]) if found else 0


def _exists(conn: Connection, query: str) -> bool:
    return conn.execute(query).fetchone() is not None


# -- the account -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """The account since the beginning, in events. `tallied` is recorded since the sender last looked.

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
        """The events that wait, by the last look at `audit_log`."""
        return self.recorded + self.adopted - self.shipped - self.dropped - self.quarantined - self.missing

    def totals(self, adopted: int = 0, missing: int = 0) -> Totals:
        """The account as it travels with a batch, with what a look just found; its sum lacks what is missing."""
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


def read_state(conn: Connection) -> State:
    """The account as it stands."""
    with conn.cursor(row_factory=class_row(State)) as cursor:
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
    """Counts events by the context keys whose values were changed. Each count is a row: nobody waits for another."""
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


# -- the outbox batch ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that wait as a part of a refused batch. `supersedes`: the batches that they were a part of."""

    position: int
    row_ids: str
    row_hashes: str
    supersedes: Sequence[UUID]

    @property
    def rows(self) -> Rows:
        """The rows as they were when that batch was made."""
        return Rows(self.row_ids, self.row_hashes)


@dataclass(frozen=True, slots=True)
class Page:
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


_SELECT_PAGE = """
SELECT batch_id, seq, row_ids::text AS row_ids, row_hashes::text AS row_hashes, body, digest, event_count, frozen_at,
       supersedes
FROM penpot_telemetry.outbox
"""


def fetch_page(conn: Connection) -> Page | None:
    """The batch in the outbox, if there is one."""
    with conn.cursor(row_factory=class_row(Page), binary=True) as cursor:
        return cursor.execute(_SELECT_PAGE).fetchone()


_INSERT_PAGE = """
INSERT INTO penpot_telemetry.outbox (batch_id, seq, row_ids, row_hashes, body, digest, event_count, supersedes)
VALUES (%(batch_id)s, %(seq)s, %(row_ids)s::uuid[], %(row_hashes)s::bigint[], %(body)b, %(digest)s, %(event_count)s,
        %(supersedes)s)
RETURNING row_ids::text, frozen_at
"""


def insert_page(conn: Connection, envelope: EventsBatch, rows: Rows) -> Page:
    """Puts a batch into the outbox with its bytes, and takes its sequence number."""
    assert envelope.batch_id and envelope.batch_seq and envelope.digest and envelope.event_count  # noqa: S101
    page: dict[str, Any] = {
        "batch_id": envelope.batch_id,
        "seq": envelope.batch_seq,
        "row_ids": rows.ids,
        "row_hashes": rows.hashes,
        "body": build_events(envelope),
        "digest": envelope.digest,
        "event_count": envelope.event_count,
        "supersedes": list(envelope.supersedes),
    }
    frozen = conn.execute(_INSERT_PAGE, page).fetchone()
    conn.execute("UPDATE penpot_telemetry.state SET next_seq = next_seq + 1")
    assert frozen is not None  # noqa: S101  an INSERT that does not raise returns its row
    return Page(**page | {"row_ids": frozen[0]}, frozen_at=frozen[1])


def replace_body(conn: Connection, batch_id: UUID, body: bytes) -> None:
    """Other bytes for the batch in the outbox: the same batch, signed anew."""
    conn.execute("UPDATE penpot_telemetry.outbox SET body = %b WHERE batch_id = %s", (body, batch_id))


_CLOSE_PAGE = """
WITH page AS (DELETE FROM penpot_telemetry.outbox WHERE batch_id = %(batch_id)s RETURNING *)
INSERT INTO penpot_telemetry.ledger (batch_id, seq, events, bytes, digest, frozen_at, outcome, receipt)
SELECT batch_id, seq, event_count, octet_length(body), digest, frozen_at, %(outcome)s, %(receipt)s FROM page
"""


_GIVE_BACK_SEQ = """
UPDATE penpot_telemetry.state SET next_seq = %(seq)s
WHERE EXISTS (SELECT FROM penpot_telemetry.ledger WHERE batch_id = %(whole)s AND seq < %(seq)s)
"""


def acknowledge_page(conn: Connection, page: Page, receipt: Mapping[str, object], whole: UUID | None = None) -> None:
    """Enters the receipt, ends the batch and counts its events as shipped. Its rows are the caller's to delete.

    `whole`: the refused batch that arrived all the same, and that this one is a part of. It has a sequence number
    already, so all its parts but the first give theirs back.
    """
    _close_page(conn, page, "accepted", receipt)
    conn.execute("UPDATE penpot_telemetry.state SET shipped = shipped + %s", (page.event_count,))
    if whole is not None:
        conn.execute(_GIVE_BACK_SEQ, {"seq": page.seq, "whole": whole})


def refuse_page(conn: Connection, page: Page, receipt: Mapping[str, object]) -> None:
    """Enters the refusal, ends the batch and gives its sequence number back. Its rows are the caller's to place."""
    _close_page(conn, page, "refused", receipt)
    conn.execute("UPDATE penpot_telemetry.state SET next_seq = %s", (page.seq,))


def _close_page(conn: Connection, page: Page, outcome: Outcome, receipt: Mapping[str, object]) -> None:
    parameters = {"batch_id": page.batch_id, "outcome": outcome, "receipt": Json(receipt)}
    if conn.execute(_CLOSE_PAGE, parameters).rowcount != 1:
        raise DatabaseError(f"database: batch {page.batch_id} left the outbox: another sender was here")


# -- parts of refused batches ----------------------------------------------------------------------------------------

_SEGMENT = "position, row_ids::text AS row_ids, row_hashes::text AS row_hashes, supersedes"
_LARGEST = f"""
SELECT {_SEGMENT} FROM penpot_telemetry.segment
WHERE cardinality(row_ids) > 1 AND position <> ALL(%s::bigint[])
ORDER BY cardinality(row_ids) DESC, position LIMIT 1
"""  # noqa: S608  our own constant
_SINGLE = f"""
SELECT {_SEGMENT} FROM penpot_telemetry.segment
WHERE cardinality(row_ids) = 1 AND position <> ALL(%s::bigint[]) ORDER BY position LIMIT 1
"""  # noqa: S608  likewise


def largest_segment(conn: Connection, beside: Sequence[int] = ()) -> Segment | None:
    """The largest part of two rows or more, beside those at some positions."""
    return _segment(conn, _LARGEST, beside)


def single_segment(conn: Connection, beside: Sequence[int] = ()) -> Segment | None:
    """The oldest part of one row, beside those at some positions."""
    return _segment(conn, _SINGLE, beside)


def _segment(conn: Connection, query: str, beside: Sequence[int]) -> Segment | None:
    with conn.cursor(row_factory=class_row(Segment)) as cursor:
        return cursor.execute(query, (list(beside),)).fetchone()


def remove_segments(conn: Connection, positions: Sequence[int]) -> None:
    """Parts that became a batch, or whose rows are gone, wait no longer."""
    conn.execute("DELETE FROM penpot_telemetry.segment WHERE position = ANY(%s::bigint[])", (list(positions),))


_PUSH_SEGMENT = """
INSERT INTO penpot_telemetry.segment (position, row_ids, row_hashes, supersedes)
SELECT coalesce(max(position), 0) + 1, %s::uuid[], %s::bigint[], %s::uuid[] FROM penpot_telemetry.segment
"""


def push_segment(conn: Connection, rows: Rows, supersedes: Sequence[UUID]) -> None:
    """Rows that wait as a part of the batches that are named."""
    conn.execute(_PUSH_SEGMENT, (rows.ids, rows.hashes, list(supersedes)))


def count_segments(conn: Connection) -> int:
    """How many parts of refused batches wait."""
    found = conn.execute("SELECT count(*) FROM penpot_telemetry.segment").fetchone()
    return int(found[0]) if found else 0


# -- the ledger ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch of the ledger."""

    batch_id: UUID
    seq: int
    events: int
    bytes: int
    digest: str
    frozen_at: datetime
    settled_at: datetime
    outcome: str
    receipt: Mapping[str, object]


_SELECT_LEDGER = """
SELECT batch_id, seq, events, bytes, digest, frozen_at, settled_at, outcome, receipt FROM penpot_telemetry.ledger
WHERE seq > %s ORDER BY settled_at, seq, batch_id
"""


def read_ledger(conn: Connection, after: int = 0) -> Iterator[Entry]:
    """Every batch past a sequence number that was answered, in the order of the answers."""
    with conn.cursor(row_factory=class_row(Entry)) as cursor:
        yield from cursor.execute(_SELECT_LEDGER, (after,))


# -- dead letters ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One row in quarantine, without the row."""

    id: UUID
    name: str
    source: str
    reason: str
    batch_id: UUID | None
    since: datetime


_SET_ASIDE = f"""
WITH taken AS (DELETE {UNCHANGED} RETURNING a.*),
     kept AS (
         INSERT INTO penpot_telemetry.quarantine (id, "row", reason, batch_id, supersedes)
         SELECT taken.id, to_jsonb(taken), %(reason)s, %(batch_id)s, %(supersedes)s::uuid[] FROM taken RETURNING id
     )
SELECT coalesce(array_agg(id), '{{}}')::text, count(*) FROM kept
"""  # noqa: S608  our own constant


def set_aside(
    conn: Connection, rows: Rows, reason: str, batch_id: UUID | None = None, supersedes: Sequence[UUID] = ()
) -> int:
    """Moves rows that nobody changed out of `audit_log` into quarantine, whole, with the reason; says how many."""
    parameters = {
        "ids": rows.ids,
        "hashes": rows.hashes,
        "sources": list(SHIPPED_SOURCES),
        "reason": reason,
        "batch_id": batch_id,
        "supersedes": list(supersedes),
    }
    found = conn.execute(_SET_ASIDE, parameters).fetchone()
    assert found is not None  # noqa: S101  an aggregate has a row
    taken, count = found
    take(conn, taken)
    add(conn, quarantined=count)
    return int(count)


_SELECT_QUARANTINE = """
SELECT id, "row" ->> 'name' AS name, "row" ->> 'source' AS source, reason, batch_id, since
FROM penpot_telemetry.quarantine ORDER BY since, id
"""


def read_quarantine(conn: Connection) -> Sequence[DeadLetter]:
    """What lies in quarantine, oldest first."""
    with conn.cursor(row_factory=class_row(DeadLetter)) as cursor:
        return cursor.execute(_SELECT_QUARANTINE).fetchall()


def count_quarantine(conn: Connection) -> int:
    """How many rows lie in quarantine."""
    found = conn.execute("SELECT count(*) FROM penpot_telemetry.quarantine").fetchone()
    return int(found[0]) if found else 0


_SETTLE_ARRIVED = "DELETE FROM penpot_telemetry.quarantine WHERE %s = ANY(supersedes)"


def settle_arrived(conn: Connection, batch_id: UUID) -> int:
    """Ends the dead letters of a refused batch that arrived whole all the same: they are shipped. Says how many."""
    count = conn.execute(_SETTLE_ARRIVED, (batch_id,)).rowcount
    add(conn, quarantined=-count)
    conn.execute("UPDATE penpot_telemetry.state SET shipped = shipped + %s", (count,))
    return count


_CHOSEN = "%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[])"
_RETRIED = f"""
SELECT DISTINCT ON (id) number, id, "row", supersedes FROM penpot_telemetry.quarantine q
WHERE ({_CHOSEN}) AND cardinality(supersedes) < {MOST_SUPERSEDED}
  AND NOT EXISTS (SELECT FROM audit_log a WHERE a.id = q.id)
ORDER BY id, number
"""  # noqa: S608  our own constants
"""A row whose id is in `audit_log` again stays: somebody stored it anew. Of one id the oldest is put back first."""

_STORED_COLUMNS = f"""
SELECT attname FROM pg_attribute
WHERE attrelid = 'audit_log'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity <> 'a'
  AND NOT EXISTS (SELECT FROM ({_RETRIED}) r WHERE NOT r."row" ? attname)
"""  # noqa: S608  likewise
"""The columns that all of these rows had when they were set aside: others were added since and have a default."""

_PUT_BACK = f"""
WITH chosen AS ({_RETRIED}), stored AS (
    INSERT INTO audit_log AS a ({{columns}})
    SELECT {{values}} FROM chosen, jsonb_populate_record(NULL::audit_log, "row") r
    RETURNING a.id, {CONTENT_HASH} AS hash
), released AS (
    DELETE FROM penpot_telemetry.quarantine q USING chosen JOIN stored USING (id) WHERE q.number = chosen.number
)
SELECT array_agg(id)::text, array_agg(hash)::text, supersedes FROM chosen JOIN stored USING (id) GROUP BY supersedes
"""  # noqa: S608  likewise


def put_back(conn: Connection, ids: Sequence[UUID] | None) -> int:
    """Moves rows (all without `ids`) from quarantine back into `audit_log` as they were, and says how many."""
    parameters = {"ids": None if ids is None else list(ids)}
    names = [name for (name,) in conn.execute(_STORED_COLUMNS, parameters)]
    query = sql.SQL(_PUT_BACK).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        values=sql.SQL(", ").join(sql.Identifier("r", name) for name in names),
    )
    groups = conn.execute(query, parameters).fetchall()
    count = 0
    for row_ids, row_hashes, supersedes in groups:
        rows = Rows(row_ids, row_hashes)
        enter(conn, rows.ids, 0)
        if supersedes:
            push_segment(conn, rows, supersedes)
        count += len(rows)
    add(conn, quarantined=-count)
    return count


_REMOVE = f"DELETE FROM penpot_telemetry.quarantine WHERE {_CHOSEN}"  # noqa: S608  our own constant


def remove_quarantined(conn: Connection, ids: Sequence[UUID] | None) -> int:
    """Deletes rows of the quarantine (all without `ids`); they count as dropped. Says how many."""
    count = conn.execute(_REMOVE, {"ids": None if ids is None else list(ids)}).rowcount
    add(conn, quarantined=-count, dropped=count)
    return count

"""Every SQL statement on the schema `penpot_telemetry`: the frozen page, what was split off, the ledger, the account.

At most one page is frozen at a time; its bytes are kept as they are sent until they are answered. Each function is
one step that its caller puts into a transaction together with what happens to `audit_log`. A list of row ids is
Postgres' own array text, so that ten thousand of them cost nothing to pass along.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Json

from penpot_telemetry.errors import BusyError, ConfigError, DatabaseError
from penpot_telemetry.wire.payload import EventsBatch, Totals, build_events

Outcome = Literal["accepted", "quarantined", "refused"]

# -- schema ----------------------------------------------------------------------------------------------------------

_SELECT_VERSION = "SELECT schema_version FROM penpot_telemetry.state"
_SETUP_LOCK = 7_031_542_201


def ensure_schema(conn: Connection) -> None:
    """Creates or upgrades the schema; a second call, or a second process, finds it done."""
    steps = sorted(
        (int(file.name[:3]), file)
        for file in (files("penpot_telemetry") / "sql").iterdir()
        if file.name[:3].isdigit() and file.name.endswith(".sql")
    )
    if _read_version(conn) == steps[-1][0]:
        return
    conn.execute("SELECT pg_advisory_lock(%s)", (_SETUP_LOCK,))  # before the transaction, or it sees what was before
    try:
        with conn.transaction():
            _upgrade(conn, steps)
    finally:
        conn.execute("SELECT pg_advisory_unlock(%s)", (_SETUP_LOCK,))


def _upgrade(conn: Connection, steps: Sequence[tuple[int, Traversable]]) -> None:
    version, latest = _read_version(conn), steps[-1][0]
    if version > latest:
        raise DatabaseError(
            f"database: schema penpot_telemetry is version {version}, made by a newer release: "
            f"this one knows {latest}, upgrade it"
        )
    if _missing(conn, "SELECT to_regnamespace('penpot_telemetry')"):
        conn.execute("CREATE SCHEMA penpot_telemetry")
    for number, file in steps:
        if number > version:
            conn.execute(file.read_text(encoding="utf-8"))
            if number == 1:
                conn.execute("INSERT INTO penpot_telemetry.state (schema_version) VALUES (1)")
            conn.execute("UPDATE penpot_telemetry.state SET schema_version = %s", (number,))


def _read_version(conn: Connection) -> int:
    if _missing(conn, "SELECT to_regclass('penpot_telemetry.state')"):
        return 0
    found = conn.execute(_SELECT_VERSION).fetchone()
    return int(found[0]) if found else 0


def _missing(conn: Connection, query: str) -> bool:
    found = conn.execute(query).fetchone()
    return found is None or found[0] is None


# -- one sender at a time --------------------------------------------------------------------------------------------

_SENDER_LOCK = 7_031_542_202


@contextmanager
def hold_road(conn: Connection) -> Iterator[None]:
    """The right to send from this database, for the block. Raises BusyError when another sender has it.

    The lock lives and dies with the connection that also does the work, so a sender that was cut off has no way to
    go on beside its successor.
    """
    found = conn.execute("SELECT pg_try_advisory_lock(%s)", (_SENDER_LOCK,)).fetchone()
    if found is None or not found[0]:
        raise BusyError("another sender is at work on this database: nothing was done here")
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(%s)", (_SENDER_LOCK,))


# -- the account -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """The account since the beginning, in events. `tallied` is recorded, and not yet added up."""

    instance_id: UUID | None
    next_seq: int
    recorded: int
    adopted: int
    shipped: int
    dropped: int
    quarantined: int
    missing: int
    tallied: int

    @property
    def expected(self) -> int:
        """The events that should be waiting."""
        entered = self.recorded + self.tallied + self.adopted
        return entered - self.shipped - self.dropped - self.quarantined - self.missing

    @property
    def totals(self) -> Totals:
        """The account as it travels with a batch; what is missing is what its sum lacks."""
        return Totals(
            recorded=self.recorded + self.tallied + self.adopted,
            shipped=self.shipped,
            dropped=self.dropped,
            quarantined=self.quarantined,
            pending=self.expected,
        )


_SELECT_STATE = """
SELECT instance_id, next_seq, recorded, adopted, shipped, dropped, quarantined, missing,
       (SELECT coalesce(sum(recorded), 0)::bigint FROM penpot_telemetry.tally) AS tallied
FROM penpot_telemetry.state
"""


def read_state(conn: Connection) -> State:
    """The account as it stands."""
    with conn.cursor(row_factory=class_row(State)) as cursor:
        found = cursor.execute(_SELECT_STATE).fetchone()
    if found is None:
        raise DatabaseError("database: penpot_telemetry.state has no row: the schema was tampered with, restore it")
    return found


_ADD_UP = """
WITH counted AS (DELETE FROM penpot_telemetry.tally RETURNING recorded)
UPDATE penpot_telemetry.state SET recorded = recorded + (SELECT coalesce(sum(recorded), 0) FROM counted)
"""


def add_up(conn: Connection) -> State:
    """Moves the tally into the account and returns it; other transactions of a sender wait for this one."""
    conn.execute(_ADD_UP)
    return read_state(conn)


def tally(conn: Connection, recorded: int) -> None:
    """Counts recorded events, in the transaction that stores them."""
    conn.execute("INSERT INTO penpot_telemetry.tally (recorded) VALUES (%s)", (recorded,))


_ADD = """
UPDATE penpot_telemetry.state SET adopted = adopted + %(adopted)s, dropped = dropped + %(dropped)s,
    quarantined = quarantined + %(quarantined)s, missing = missing + %(missing)s
"""


def add(conn: Connection, *, adopted: int = 0, dropped: int = 0, quarantined: int = 0, missing: int = 0) -> None:
    """Enters events into the account, in the transaction that moves them."""
    conn.execute(_ADD, {"adopted": adopted, "dropped": dropped, "quarantined": quarantined, "missing": missing})


def keep_instance_id(conn: Connection, chosen: UUID | None, candidate: UUID) -> UUID:
    """The id of this instance: the one that is kept, else `chosen`, else `candidate`, kept from now on."""
    kept = read_state(conn).instance_id
    if kept is None:
        kept = chosen or candidate
        conn.execute("UPDATE penpot_telemetry.state SET instance_id = %s", (kept,))
    if chosen is not None and chosen != kept:
        raise ConfigError(
            f"PENPOT_TELEMETRY_INSTANCE_ID differs from the id that this database ships under ({kept}): unset it"
        )
    return kept


# -- the frozen page -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Segment:
    """Row ids that are frozen before any new row."""

    position: int
    row_ids: str
    half_of: UUID
    suspect: bool
    size: int


@dataclass(frozen=True, slots=True)
class Page:
    """The frozen page: `body` is the complete POST body, `row_ids` the array text of its rows' ids.

    `half_of` is the refused whole that it is a half of, and `suspect` says that the other half was accepted.
    """

    batch_id: UUID
    seq: int
    row_ids: str
    body: bytes
    digest: str
    event_count: int
    frozen_at: datetime
    half_of: UUID | None
    suspect: bool


_PAGE_COLUMNS = "batch_id, seq, row_ids::text AS row_ids, body, digest, event_count, frozen_at, half_of, suspect"
_SELECT = "SELECT {columns} FROM penpot_telemetry.outbox"
_SELECT_PAGE = _SELECT.format(columns=_PAGE_COLUMNS)


def fetch_page(conn: Connection) -> Page | None:
    """The page that is frozen, if there is one."""
    with conn.cursor(row_factory=class_row(Page), binary=True) as cursor:
        return cursor.execute(_SELECT_PAGE).fetchone()


_INSERT_PAGE = """
INSERT INTO penpot_telemetry.outbox (batch_id, seq, row_ids, body, digest, event_count, half_of, suspect)
VALUES (%(batch_id)s, %(seq)s, %(row_ids)s::uuid[], %(body)b, %(digest)s, %(event_count)s, %(half_of)s, %(suspect)s)
RETURNING row_ids::text, frozen_at
"""


def insert_page(conn: Connection, envelope: EventsBatch, row_ids: str, part: Segment | None) -> Page:
    """Freezes a batch with its bytes, and takes its sequence number; `part` is what its rows waited as."""
    assert envelope.batch_id and envelope.batch_seq and envelope.digest and envelope.event_count  # noqa: S101
    page: dict[str, Any] = {
        "batch_id": envelope.batch_id,
        "seq": envelope.batch_seq,
        "row_ids": row_ids,
        "body": build_events(envelope),
        "digest": envelope.digest,
        "event_count": envelope.event_count,
        "half_of": part.half_of if part else None,
        "suspect": part.suspect if part else False,
    }
    frozen = conn.execute(_INSERT_PAGE, page).fetchone()
    conn.execute("UPDATE penpot_telemetry.state SET next_seq = next_seq + 1")
    assert frozen is not None  # noqa: S101  an INSERT that does not raise returns its row
    return Page(**page | {"row_ids": frozen[0]}, frozen_at=frozen[1])


_CLOSE_PAGE = """
WITH page AS (DELETE FROM penpot_telemetry.outbox WHERE batch_id = %(batch_id)s RETURNING *)
INSERT INTO penpot_telemetry.ledger (batch_id, seq, events, bytes, digest, frozen_at, outcome, receipt)
SELECT batch_id, seq, event_count, octet_length(body), digest, frozen_at, %(outcome)s, %(receipt)s FROM page
"""
_SUSPECT_SIBLING = "UPDATE penpot_telemetry.segment SET suspect = true WHERE half_of = %s"


def settle_page(conn: Connection, page: Page, outcome: Outcome, receipt: Mapping[str, object]) -> None:
    """Enters the receipt and ends the page; its other half, if one waits, is now known to hold the bad row."""
    _close_page(conn, page, outcome, receipt)
    conn.execute("UPDATE penpot_telemetry.state SET shipped = shipped + %s", (page.event_count,))
    if page.half_of is not None:
        conn.execute(_SUSPECT_SIBLING, (page.half_of,))


def refuse_page(conn: Connection, page: Page, receipt: Mapping[str, object]) -> None:
    """Enters the refusal, ends the page and gives its sequence number back. Its rows are the caller's to place."""
    _close_page(conn, page, "refused", receipt)
    conn.execute("UPDATE penpot_telemetry.state SET next_seq = %s", (page.seq,))


def _close_page(conn: Connection, page: Page, outcome: Outcome, receipt: Mapping[str, object]) -> None:
    parameters = {"batch_id": page.batch_id, "outcome": outcome, "receipt": Json(receipt)}
    if conn.execute(_CLOSE_PAGE, parameters).rowcount != 1:
        raise DatabaseError(f"database: batch {page.batch_id} is no longer frozen: another sender was here")


# -- what was split off ----------------------------------------------------------------------------------------------


_TAKE_SEGMENT = """
DELETE FROM penpot_telemetry.segment WHERE position = ({choice})
RETURNING position, row_ids::text AS row_ids, half_of, suspect, cardinality(row_ids) AS size
"""
_TAKE_FIRST = _TAKE_SEGMENT.format(choice="SELECT min(position) FROM penpot_telemetry.segment")
_LARGEST = """
SELECT position FROM penpot_telemetry.segment WHERE position <> ALL(%(tried)s) AND cardinality(row_ids) > 1
ORDER BY cardinality(row_ids) DESC, position DESC LIMIT 1
"""
_TAKE_LARGEST = _TAKE_SEGMENT.format(choice=_LARGEST)
_TAKE_LAST = _TAKE_SEGMENT.format(
    choice="SELECT max(position) FROM penpot_telemetry.segment WHERE position <> ALL(%(tried)s)"
)


def take_first_segment(conn: Connection, tried: Sequence[int] = ()) -> Segment | None:
    """The segment whose turn it is, tried or not; it stops waiting."""
    return _take(conn, _TAKE_FIRST, tried)


def take_largest_segment(conn: Connection, tried: Sequence[int]) -> Segment | None:
    """The largest segment of two rows or more, beside those at `tried` positions; it stops waiting."""
    return _take(conn, _TAKE_LARGEST, tried)


def take_last_segment(conn: Connection, tried: Sequence[int]) -> Segment | None:
    """The segment that would come last, beside those at `tried` positions; it stops waiting."""
    return _take(conn, _TAKE_LAST, tried)


def _take(conn: Connection, query: str, tried: Sequence[int]) -> Segment | None:
    with conn.cursor(row_factory=class_row(Segment)) as cursor:
        return cursor.execute(query, {"tried": list(tried)}).fetchone()


_PUSH_SEGMENT = """
INSERT INTO penpot_telemetry.segment (position, row_ids, half_of)
SELECT {position}, %(row_ids)s::uuid[], %(half_of)s FROM penpot_telemetry.segment
RETURNING position
"""
_PUSH_FIRST = _PUSH_SEGMENT.format(position="coalesce(min(position), 0) - 1")
_PUSH_LAST = _PUSH_SEGMENT.format(position="coalesce(max(position), 0) + 1")


def push_segment(conn: Connection, row_ids: str, half_of: UUID, *, last: bool = False) -> int:
    """Puts rows before all that wait, or behind, and says at which position."""
    query = _PUSH_LAST if last else _PUSH_FIRST
    found = conn.execute(query, {"row_ids": row_ids, "half_of": half_of}).fetchone()
    assert found is not None  # noqa: S101  an INSERT that does not raise returns its row
    return int(found[0])


def push_halves(conn: Connection, row_ids: str, half_of: UUID, *, last: bool = False) -> None:
    """Puts the two halves of rows before all that wait, or behind; the first half is the smaller one."""
    ids = row_ids.strip("{}").split(",")
    middle = len(ids) // 2
    halves = [_array(ids[:middle]), _array(ids[middle:])]
    for half in halves if last else reversed(halves):
        push_segment(conn, half, half_of, last=last)


def _array(ids: Sequence[str]) -> str:
    return "{" + ",".join(ids) + "}"


_WAITING_IDS = """
SELECT coalesce(array_agg(id), '{}')::text FROM penpot_telemetry.segment, unnest(row_ids) AS id
"""


def waiting_ids(conn: Connection) -> str:
    """The ids of all rows that were split off."""
    found = conn.execute(_WAITING_IDS).fetchone()
    return str(found[0]) if found else "{}"


def count_waiting(conn: Connection) -> int:
    """How many segments wait."""
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
ORDER BY settled_at, seq, batch_id
"""


def read_ledger(conn: Connection) -> Iterator[Entry]:
    """Every batch that was answered, in the order of the answers."""
    with conn.cursor(row_factory=class_row(Entry)) as cursor:
        yield from cursor.execute(_SELECT_LEDGER)


def has_receipts(conn: Connection) -> bool:
    """Whether an answer ever named its batch: then there is a receiver that keeps a ledger."""
    found = conn.execute("SELECT EXISTS (SELECT FROM penpot_telemetry.ledger WHERE receipt ? 'batch-id')").fetchone()
    return found is not None and bool(found[0])


# -- quarantine ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetAside:
    """One row of the quarantine, without the row."""

    id: UUID
    name: str
    source: str
    reason: str
    batch_id: UUID | None
    since: datetime


_INSERT_QUARANTINE = """
INSERT INTO penpot_telemetry.quarantine (id, "row", reason, batch_id) VALUES (%s, %s::jsonb, %s, %s)
"""


def set_aside(conn: Connection, rows: Sequence[tuple[UUID, str]], reason: str, batch_id: UUID | None = None) -> int:
    """Keeps rows, whole, with the reason; enters them into the account and says how many."""
    with conn.cursor() as cursor:
        cursor.executemany(_INSERT_QUARANTINE, [(row_id, row, reason, batch_id) for row_id, row in rows])
    add(conn, quarantined=len(rows))
    return len(rows)


_SELECT_QUARANTINE = """
SELECT id, "row" ->> 'name' AS name, "row" ->> 'source' AS source, reason, batch_id, since
FROM penpot_telemetry.quarantine ORDER BY since, id
"""


def read_quarantine(conn: Connection) -> Sequence[SetAside]:
    """What was set aside, oldest first."""
    with conn.cursor(row_factory=class_row(SetAside)) as cursor:
        return cursor.execute(_SELECT_QUARANTINE).fetchall()


_RELEASE = """
DELETE FROM penpot_telemetry.quarantine WHERE %(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[]) RETURNING "row"::text
"""


def release_rows(conn: Connection, ids: Sequence[UUID] | None) -> Sequence[str]:
    """Takes rows out of the quarantine (all without `ids`), out of the account too, and returns them as JSON text."""
    rows = [row for (row,) in conn.execute(_RELEASE, {"ids": None if ids is None else list(ids)})]
    add(conn, quarantined=-len(rows))
    return rows

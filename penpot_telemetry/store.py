"""Every SQL statement on `audit_log`: telemetry events in, pages of rows out, rows deleted by id.

Functions take a connection; the caller owns the transaction. Only rows whose source is one of those that ship are
ever read or deleted, and an existing table is never altered but for one index. A list of row ids is Postgres' own
array text (`{…}`) and is passed along unread.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from typing import cast
from uuid import UUID

import psycopg
from psycopg import Connection, errors

from penpot_telemetry.errors import DatabaseError
from penpot_telemetry.events import NO_ADDRESS, SHIPPED_SOURCES, SOURCE, TelemetryEvent
from penpot_telemetry.wire.batch import EventRow
from penpot_telemetry.wire.transit import dumps_verbose

PAGE_BYTES = 16 * 1024 * 1024
"""The most text that one page is read as: a page of ordinary rows has 3 MiB, and memory is bounded by this."""

COLUMNS = frozenset(
    {"id", "name", "type", "created_at", "profile_id", "ip_addr", "props", "tracked_at", "source", "context"}
)

NO_IDS = "{}"

# -- connection and table --------------------------------------------------------------------------------------------


@contextmanager
def connect(parameters: Mapping[str, str]) -> Iterator[Connection]:
    """An autocommit connection in UTC. Whatever Postgres objects to inside the block is a DatabaseError."""
    chosen = {"connect_timeout": "10", "application_name": "penpot-telemetry", **parameters}
    with database_errors(), psycopg.connect(**chosen, autocommit=True, prepare_threshold=None) as conn:  # type: ignore[arg-type]
        conn.execute("SET TIME ZONE 'UTC'")
        yield conn


@contextmanager
def database_errors() -> Iterator[None]:
    """Says in one line what Postgres objects to and what to do. Never repeats a value of a row."""
    try:
        yield
    except psycopg.Error as error:
        raise DatabaseError(_explain(error)) from None


_REMEDIES: Sequence[tuple[type[psycopg.Error], str]] = (
    (errors.InsufficientPrivilege, "grant the role that right, or name another in PENPOT_DATABASE_USERNAME"),
    (errors.DiskFull, "the database's disk is full: nothing was changed, make room and run again"),
    (errors.TooManyConnections, "try again later, or raise max_connections"),
    (errors.ReadOnlySqlTransaction, "PENPOT_DATABASE_URI should name the primary server, this one only reads"),
    (errors.LockNotAvailable, "another process holds the table: nothing was changed, run again"),
    (errors.AdminShutdown, "the server is shutting down: nothing was changed, run again"),
)


def _explain(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.DataError):  # its message repeats the value
        return f"database: a value is not accepted ({type(error).__name__})"
    said = error.diag.message_primary or next(iter(str(error).splitlines()), type(error).__name__)
    remedy = next((text for kind, text in _REMEDIES if isinstance(error, kind)), None)
    if remedy is None and error.sqlstate is None:
        remedy = "check PENPOT_DATABASE_URI, _USERNAME and _PASSWORD, and that the server is up"
    return f"database: {said}" + (f"; {remedy}" if remedy else "")


def create_table(conn: Connection) -> None:
    """Penpot's table where there is none: for a database of our own."""
    text = (files("penpot_telemetry") / "sql" / "audit_log.sql").read_text(encoding="utf-8")
    conn.execute(text)


_SELECT_COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('audit_log') AND attnum > 0 AND NOT attisdropped
"""


def check_table(conn: Connection) -> None:
    """Raises DatabaseError unless `audit_log` is there and has the columns that are read and written."""
    found = {name for (name,) in conn.execute(_SELECT_COLUMNS)}
    if not found:
        raise DatabaseError(
            "database: there is no audit_log table: PENPOT_DATABASE_URI should name Penpot's database "
            "(PENPOT_TELEMETRY_CREATE_TABLE=true makes the table in a database of your own)"
        )
    if lacking := sorted(COLUMNS - found):
        raise DatabaseError(f"database: audit_log has no column {', '.join(lacking)}: it should be Penpot's table")


_SELECT_INDEX = """
SELECT i.indisvalid FROM pg_index i
WHERE i.indrelid = to_regclass('audit_log') AND i.indpred IS NULL
  AND pg_get_indexdef(i.indexrelid) ~ '\\(source, created_at'
ORDER BY i.indisvalid DESC
"""
INDEX_PATIENCE = "10s"
"""A forgotten transaction would hold up an index for ever; without the index pages are read more slowly."""

_CREATE_INDEX = "INDEX audit_log__source__created_at__idx ON audit_log (source, created_at ASC)"


def ensure_index(conn: Connection) -> None:
    """The one thing added to Penpot's table, without locking out its writers; left out where the right is missing."""
    if (found := conn.execute(_SELECT_INDEX).fetchone()) is not None and found[0]:
        return
    try:
        if conn.execute("SELECT 1 FROM audit_log LIMIT 1").fetchone() is None:
            conn.execute("CREATE INDEX IF NOT EXISTS" + _CREATE_INDEX.removeprefix("INDEX"))
            return
        conn.execute("SELECT set_config('lock_timeout', %s, false)", (INDEX_PATIENCE,))
        try:
            conn.execute("DROP INDEX CONCURRENTLY IF EXISTS audit_log__source__created_at__idx")  # a half-built one
            conn.execute("CREATE INDEX CONCURRENTLY" + _CREATE_INDEX.removeprefix("INDEX"))
        finally:
            conn.execute("RESET lock_timeout")
    except (errors.InsufficientPrivilege, errors.LockNotAvailable, errors.ReadOnlySqlTransaction):
        return


# -- writing ---------------------------------------------------------------------------------------------------------

_COPY_EVENTS = """
COPY audit_log (id, name, type, created_at, profile_id, ip_addr, props, tracked_at, source, context) FROM STDIN
"""
_CHUNK = 256


def copy_events(conn: Connection, events: Iterable[TelemetryEvent]) -> int:
    """Stores events as rows, and says how many."""
    count = 0
    contexts: dict[int, tuple[Mapping[str, object], str]] = {}
    days: dict[datetime, str] = {}
    with conn.cursor() as cursor, cursor.copy(_COPY_EVENTS) as copy:
        lines: list[str] = []
        for event in events:
            context = event.context
            known = contexts.get(id(context))
            if known is None:
                if len(contexts) > 4096:  # noqa: PLR2004  as many as anonymise remembers
                    contexts.clear()
                known = contexts[id(context)] = (context, _escape(dumps_verbose(cast("Mapping[str, str]", context))))
            created = days.get(event.created_at) or days.setdefault(event.created_at, event.created_at.isoformat())
            tracked = days.get(event.tracked_at) or days.setdefault(event.tracked_at, event.tracked_at.isoformat())
            lines.append(
                f"{event.id.hex}\t{event.name}\t{event.type}\t{created}\t{event.profile_id.hex}"
                f"\t{NO_ADDRESS}\t{{}}\t{tracked}\t{SOURCE}\t{known[1]}\n"
            )
            count += 1
            if len(lines) == _CHUNK:
                copy.write("".join(lines))
                lines.clear()
        copy.write("".join(lines))
    return count


def _escape(text: str) -> str:
    """Text for COPY. JSON has no raw control characters, and names are plain words: the backslash is all there is."""
    return text.replace("\\", "\\\\")


# -- reading ---------------------------------------------------------------------------------------------------------

_OLDEST_OF = """
(SELECT a.* FROM audit_log a
 WHERE a.source = '{source}' AND NOT EXISTS (SELECT FROM unnest(%(exclude)s::uuid[]) e(id) WHERE e.id = a.id)
 ORDER BY a.created_at LIMIT %(limit)s)
"""
_OLDEST = "SELECT a.* FROM ({sources}) a ORDER BY a.created_at LIMIT %(limit)s".format(  # noqa: S608  our constants
    sources="UNION ALL".join(_OLDEST_OF.format(source=source) for source in SHIPPED_SOURCES)
)
"""Source by source, merged, so that the index gives the order and what is read ends with the page: 7 ms for 10,000
rows, however many share their day. Rows of one instant come in any order: to order them by id too is to sort the day.
"""

_NAMED = """
SELECT a.* FROM unnest(%(ids)s::uuid[]) i(id) JOIN audit_log a USING (id)
WHERE a.source = ANY(%(sources)s) ORDER BY a.created_at
"""

_FETCH_ROWS = """
WITH measured AS (
    SELECT *, sum(size) OVER (ROWS UNBOUNDED PRECEDING) AS bytes FROM (
        SELECT *, octet_length(name) + octet_length(props) + octet_length(context) AS size FROM (
            SELECT a.id, a.name, a.type, a.source, a.profile_id,
                   (coalesce(a.tracked_at, a.created_at) AT TIME ZONE 'UTC')::date - date '1970-01-01' AS day,
                   coalesce(a.props::text, '{{}}') AS props, coalesce(a.context::text, '{{}}') AS context
            FROM ({page}) a OFFSET 0
        ) texts
    ) sized
)
SELECT name, type, source, day * 86400000::bigint, uuid_send(profile_id),
       CASE WHEN bytes <= %(bytes)s THEN props END, context, uuid_send(id)
FROM measured WHERE bytes <= %(bytes)s OR bytes = size
"""
"""Nothing here sorts: rows stay as the page has them. Each jsonb is made text once, which is what OFFSET 0 is for. The
first row comes also when it is too large alone, then without its props.
"""
_FETCH_OLDEST = _FETCH_ROWS.format(page=_OLDEST)
_FETCH_BY_ID = _FETCH_ROWS.format(page=_NAMED)


AT_ONCE = 500 if psycopg.pq.version() >= 170_000 else 1  # noqa: PLR2004  libpq 17 began to hand out several at once
"""Rows of a page that are read while Postgres is still at the next ones: a fifth of the time less."""


@dataclass(frozen=True, slots=True)
class PageRows:
    """Rows in the order of a page, oldest first, and beside them the 16 bytes of each id.

    `too_large` is the id of the first row when no page can hold it; then there are no rows.
    """

    rows: list[EventRow]
    ids: list[bytes]
    too_large: bytes | None = None


def fetch_oldest(conn: Connection, limit: int, exclude: str = NO_IDS, max_bytes: int = PAGE_BYTES) -> PageRows:
    """The oldest rows that ship, at most `limit` and at most `max_bytes` of text."""
    return _page(conn, _FETCH_OLDEST, {"limit": limit, "exclude": exclude, "bytes": max_bytes})


def fetch_by_id(conn: Connection, ids: str, max_bytes: int = PAGE_BYTES) -> PageRows:
    """Those of the named rows that are still there."""
    return _page(conn, _FETCH_BY_ID, {"ids": ids, "bytes": max_bytes, "sources": list(SHIPPED_SOURCES)})


def _page(conn: Connection, query: str, parameters: dict[str, object]) -> PageRows:
    with conn.cursor(binary=True) as cursor:
        found = list(cursor.stream(query, parameters, size=AT_ONCE))
    if found and found[0][5] is None:
        return PageRows([], [], found[0][7])
    return PageRows([EventRow._make(row[:7]) for row in found], [row[7] for row in found])


def format_ids(ids: Iterable[bytes]) -> str:
    """Row ids as the text of a Postgres array."""
    return "{" + ",".join(row_id.hex() for row_id in ids) + "}"


_COUNT_ROWS = """
SELECT count(*) - (SELECT count(*) FROM audit_log WHERE id = ANY(%s::uuid[])) FROM audit_log WHERE source = ANY(%s)
"""


def count_rows(conn: Connection, exclude: str = NO_IDS) -> int:
    """How many telemetry rows there are beside those of `exclude`."""
    found = conn.execute(_COUNT_ROWS, (exclude, list(SHIPPED_SOURCES))).fetchone()
    return int(found[0]) if found else 0


@dataclass(frozen=True, slots=True)
class DayCount:
    """The rows of one day and source."""

    day: date
    source: str
    rows: int


_COUNT_DAYS = """
SELECT (created_at AT TIME ZONE 'UTC')::date AS day, source, count(*) FROM audit_log
WHERE source = ANY(%s) GROUP BY day, source ORDER BY day, source
"""


def count_days(conn: Connection) -> Sequence[DayCount]:
    """The telemetry rows by day and source, oldest first."""
    return [DayCount(*row) for row in conn.execute(_COUNT_DAYS, (list(SHIPPED_SOURCES),))]


_SELECT_SERVER_PROP = "SELECT content #>> '{}' FROM server_prop WHERE id = 'instance-id'"


def read_instance_id(conn: Connection) -> UUID | None:
    """Penpot's own instance id, from its `server_prop`; None where that cannot be had."""
    try:
        with conn.transaction():
            found = conn.execute(_SELECT_SERVER_PROP).fetchone()
        return UUID(str(found[0]).removeprefix("~u")) if found and found[0] else None
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InsufficientPrivilege):
        return None
    except ValueError:
        return None


# -- deleting --------------------------------------------------------------------------------------------------------

_DELETE_ROWS = "DELETE FROM audit_log WHERE id = ANY(%s::uuid[]) AND source = ANY(%s)"
_STILL_THERE = "SELECT FROM audit_log WHERE id = ANY(%s::uuid[]) AND source = ANY(%s) LIMIT 1"


def delete_rows(conn: Connection, ids: str) -> int:
    """Deletes rows by id, and says how many there still were. Raises DatabaseError when one of them stays.

    A policy or a trigger may keep a row without a word, and a row that stays would be sent again.
    """
    parameters = (ids, list(SHIPPED_SOURCES))
    deleted = conn.execute(_DELETE_ROWS, parameters).rowcount
    if deleted < ids.count(",") + 1 and conn.execute(_STILL_THERE, parameters).fetchone() is not None:
        raise DatabaseError("database: rows of audit_log stay when they are deleted: look for a policy or a trigger")
    return deleted


_TAKE_ROWS = """
DELETE FROM audit_log a WHERE id = ANY(%s::uuid[]) AND source = ANY(%s) RETURNING a.id, to_jsonb(a)::text
"""


def take_rows(conn: Connection, ids: str) -> Sequence[tuple[UUID, str]]:
    """Deletes rows by id and returns them whole, as JSON text."""
    return conn.execute(_TAKE_ROWS, (ids, list(SHIPPED_SOURCES))).fetchall()


_PUT_BACK = "INSERT INTO audit_log SELECT r.* FROM unnest(%s::jsonb[]) j, jsonb_populate_record(NULL::audit_log, j) r"


def put_back_rows(conn: Connection, rows: Sequence[str]) -> None:
    """Stores rows that were taken out, as they were."""
    conn.execute(_PUT_BACK, (list(rows),))


_DELETE_PAGE = "WITH page AS MATERIALIZED ({page}) DELETE FROM audit_log a USING page WHERE a.id = page.id"
_DELETE_OLDEST = _DELETE_PAGE.format(page=_OLDEST.replace("a.*", "a.id", 1))


def delete_oldest(conn: Connection, limit: int, exclude: str) -> int:
    """Deletes the oldest telemetry rows beside those of `exclude`, at most `limit`, and says how many."""
    return conn.execute(_DELETE_OLDEST, {"limit": limit, "exclude": exclude}).rowcount


_IDS_BEFORE = """
SELECT a.id FROM audit_log a
WHERE a.source = ANY(%(sources)s) AND a.created_at < %(before)s
  AND NOT EXISTS (SELECT FROM unnest(%(exclude)s::uuid[]) e(id) WHERE e.id = a.id)
LIMIT %(limit)s
"""
_DELETE_BEFORE = _DELETE_PAGE.format(page=_IDS_BEFORE)


def delete_before(conn: Connection, before: datetime, limit: int, exclude: str) -> int:
    """Deletes telemetry rows of earlier days beside those of `exclude`, at most `limit`, and says how many."""
    parameters = {"sources": list(SHIPPED_SOURCES), "before": before, "limit": limit, "exclude": exclude}
    return conn.execute(_DELETE_BEFORE, parameters).rowcount
